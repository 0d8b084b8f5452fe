"""Sentences that follow from numbers, examples chosen by rule, a checklist without gaps, tables by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from genomic_vit.config_tree import from_tree
from genomic_vit.evaluation.checklist import AUTHOR, ITEMS, fill
from genomic_vit.evaluation.cohort_table import describe_cohort, describe_folds
from genomic_vit.evaluation.comparison import MACRO, compare
from genomic_vit.evaluation.differences import HEAT_GAIN, HEAT_RELIANCE
from genomic_vit.evaluation.known import known_answers
from genomic_vit.evaluation.out_of_fold import OutOfFold
from genomic_vit.evaluation.plan import BenchmarkConfig
from genomic_vit.evaluation.report import Findings, example_arm, pick_examples, print_table, render_report
from genomic_vit.evaluation.result_tables import heat_table, macro_rows, subgroup_tables
from genomic_vit.evaluation.result_text import gap_text
from genomic_vit.evaluation.verdict import heat_verdict
from tests.benchmark_cohort import bright_cohort, category, number


def results(gain=None, reliance=None, without="heat-zero", swapped="swap-zero"):
    """A results table with AUCs and the heat's differences (value, low, high, corrected p)."""
    shared = {"group": "all", "target": "EGFR", "unit": "patient", "patients": 60}
    rows = [shared | {"arm": arm, "metric": "auc", "value": value} for arm, value in (("joint", 0.8), (without, 0.75))]
    for metric, told, other in ((HEAT_GAIN, gain, without), (HEAT_RELIANCE, reliance, swapped)):
        if told:
            numbers = dict(zip(("value", "low", "high", "p_holm"), told, strict=True))
            rows.append(shared | {"arm": "joint", "metric": metric, "note": f"less {other}"} | numbers)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("gain", "outcome", "says"),
    [
        (
            (0.05, 0.01, 0.09, 0.02),
            "helps",
            r"EGFR: the heat helps: joint reaches AUC 0.800, .* without heat \(heat-zero\) 0.750, .*\+0.050 \(95",
        ),
        ((-0.05, -0.09, -0.01, 0.0004), "hurts", "EGFR: the heat hurts: .* difference -0.050 .*corrected p <0.001"),
        ((0.05, -0.01, 0.11, 0.04), "cannot tell", "whether the heat helps cannot be told from these 60 patients"),
        ((-0.008, -0.015, -0.001, 0.125), "cannot tell", "cannot be told .* to -0.001, corrected p 0.125"),
        ((0.05, 0.01, 0.09, np.nan), "cannot tell", "cannot be told"),
        ((0.05, 0.0, 0.11, 0.01), "cannot tell", "cannot be told"),
        ((0.0, 0.0, 0.0, 1.0), "cannot tell", "cannot be told"),
        (None, "not asked", "whether training with the heat helps was not asked .*joint and heat-zero or cnn"),
    ],
)
def test_the_sentence_on_heat_follows_from_interval_and_corrected_p(gain, outcome, says):
    import re

    told = heat_verdict(results(gain), "EGFR", "patient", seeds=1)
    assert told.outcome == outcome and re.search(says, told.sentence)


def test_without_heat_zero_the_cnn_alone_stands_for_it():
    told = heat_verdict(results((0.05, 0.01, 0.09, 0.01), without="cnn"), "EGFR", "patient", seeds=1)
    assert "without heat (cnn) 0.750" in told.sentence


def test_the_sentence_says_that_training_noise_is_not_in_it():
    one, three = (
        heat_verdict(results((0.05, 0.01, 0.09, 0.01)), "EGFR", "patient", seeds).sentence for seeds in (1, 3)
    )
    assert "these trained networks, one seed: what another training would give is in neither number" in one
    assert "means over 3 seeds; interval and p speak of other patients, not of other trainings" in three


@pytest.mark.parametrize(
    ("reliance", "says"),
    [
        ((0.1, 0.05, 0.2, 0.01), "the trained network loses AUC: difference"),
        ((-0.1, -0.2, -0.05, 0.01), "the trained network gains AUC"),
        ((0.1, 0.05, 0.2, 0.06), "cannot be told to lose or gain AUC"),
        ((0.0, -0.1, 0.1, 0.9), "cannot be told to lose or gain AUC"),
    ],
)
def test_the_sentence_on_reliance_follows_from_the_interval(reliance, says):
    assert says in heat_verdict(results((0.05, 0.01, 0.09, 0.01), reliance), "EGFR", "patient", seeds=1).sentence


def test_reliance_is_told_of_another_patients_heat_first_and_within_folds_where_that_is_told():
    other = results((0.05, 0.01, 0.09, 0.01), (0.01, -0.01, 0.03, 0.4), swapped="swap-shuffled")
    zero = results(None, (0.2, 0.1, 0.3, 0.01))
    within = other.iloc[:2].assign(metric="auc_within_folds", arm=["joint", "swap-zero"], value=[0.81, 0.71])
    told = heat_verdict(pd.concat([zero, other, within]), "EGFR", "patient", seeds=1).sentence
    first, second = told.split(" Tested with ")[1:]
    assert first == (
        "another patient's heat in place of its own, the trained network cannot be told to lose or gain AUC: "
        "difference +0.010 (95 % interval -0.010 to +0.030, corrected p 0.400)."
    )
    assert second.startswith("zero in place of its own, the trained network loses AUC: difference +0.200 (95 % ")
    assert second.endswith("corrected p 0.010), over pairs within a fold +0.100.")


def test_examples_are_the_nearest_farthest_and_median_case():
    probability = np.array([0.9, 0.2, 0.6, 0.55, 0.5])[None, :, None]
    arm = OutOfFold("joint", probability, np.full_like(probability, 0.5))
    label = np.array([1, 1, 0, 1, np.nan])  # distances 0.1, 0.8, 0.6, 0.45, unknown
    assert pick_examples(arm, label, 0) == [("best", 0), ("median", 3), ("worst", 1)]


def test_heat_is_shown_of_the_reference_or_the_first_network_with_heat():
    assert example_arm(BenchmarkConfig(reference="staged")) == "staged"
    assert example_arm(BenchmarkConfig(reference="cnn")) == "joint"
    assert example_arm(BenchmarkConfig(arms=("cnn", "size"), reference="size")) is None


def test_every_item_of_the_checklist_is_filled_or_the_authors():
    prepared = bright_cohort(6, covariates=(number("age", [1, 2, np.nan, 4, 5, 6]),))
    known = known_answers(BenchmarkConfig(site=None), prepared, ("fold 0", "fold 1"), {"python": "3"})
    rows = fill(known)
    assert len(rows) == len(ITEMS) and all(all(cell for cell in row) for row in rows)
    assert not any("{" in row[3] for row in rows)
    assert sum(row[3] == AUTHOR for row in rows) >= 5
    assert any("age: 1" in row[3] for row in rows)


def test_the_checklist_names_every_item_of_both_lists():
    def told(place):
        spans = [span.split("–") for item in ITEMS for span in item[place].split(", ") if span]
        plain = {span[0] for span in spans if len(span) == 1}
        return plain | {str(number) for low, *high in spans if high for number in range(int(low), int(high[0]) + 1)}

    assert told(0) == {str(number) for number in range(1, 43)}
    parted = {"5": "ab", "12": "abcdefg", "20": "abc"}  # whose parts are answered apart
    tripod = [[n + part for part in parted[n]] if n in parted else [n] for n in map(str, range(1, 28))]
    assert told(1) == {item for items in tripod for item in items}


@pytest.mark.parametrize(("site", "says"), [(None, "Folds of one cohort"), ("hospital", "tested site of hospital")])
def test_the_checklist_says_how_tested_data_differ(site, says):
    known = known_answers(BenchmarkConfig(site=site), bright_cohort(6), ("a", "b"), {})
    (row,) = (row for row in fill(known) if row[1] == "16")
    assert says in row[3] and row[3].endswith(": author.")


def test_the_checklist_names_the_replaced_heats_that_were_compared():
    config = BenchmarkConfig(arms=("joint", "heat-zero", "swap-lesion"))
    for arms, expected in (
        (None, "heat-zero, swap-lesion"),
        (["heat-zero"], "heat-zero"),
        ([], "not in this comparison"),
    ):
        known = known_answers(config, bright_cohort(6), ("a", "b"), {}, arms)
        assert known["explanation"].endswith(f"heat replaced: {expected}.")


def test_a_target_that_is_withheld_is_said_so_and_stops_no_report(tmp_path):
    """Of two targets one has positives alone: its numbers are not given, those of the other are."""
    prepared = bright_cohort(12)
    labels = np.concatenate([prepared.cohort.labels, np.ones((12, 1))], axis=1)
    cohort = dataclasses.replace(prepared.cohort, targets=("a", "b"), labels=labels)
    config = BenchmarkConfig(arms=("joint", "size"))
    half = np.full((1, 12, 2), 0.5)
    arms = tuple(OutOfFold(name, half + 0.1 * np.arange(12)[:, None] / 12, half) for name in config.arms)
    folds = np.arange(12) % 2
    results = compare(cohort, arms, folds, "joint", {}, 20, "patient", 0)
    found = Findings(
        config, dataclasses.replace(prepared, cohort=cohort), folds, ("one", "two"), arms, results, (), (), 0, 1.0
    )
    page = render_report(found, (), {"python": "3"}, "", is_quick=False)
    reason = "withheld: 12 positive and 0 negative patients"
    assert f"One row a patient; {reason}." in page and page.count("AUROC of each arm") == 1
    assert "a: whether training with the heat" in page and "b: whether" not in page
    assert f"b, one row a patient: {reason}" in print_table(results, config)


def test_the_reference_is_the_arm_of_that_name_and_no_other():
    rows = [
        {"group": group, "target": target, "unit": "patient", "arm": arm, "metric": "auc", "value": 0.7}
        | {"low": 0.6, "high": 0.8, "patients": 9, "cases": 9, "positive": 4}
        for group in ("all", "sex=F")
        for target in ("EGFR", MACRO)
        for arm in ("joint", "size")
    ]
    table = pd.DataFrame(rows)
    for reference, expected in (("joint", ["reference", "–"]), ("cnn", ["–", "–"])):
        assert [row[2] for row in macro_rows(table, "patient", reference)] == expected
        (one,) = subgroup_tables(table, ["sex=F"], ["EGFR"], "patient", reference)
        assert [row[2:] for row in one.rows] == [[gap, ""] for gap in expected]
    gap = pd.Series({"value": 0.05, "low": -0.01, "high": 0.11})
    assert gap_text(gap, "size", "joint") == "+0.050 (-0.010 to +0.110)"


def test_the_checklist_says_what_the_networks_began_with():
    def weights(**changes):
        config = BenchmarkConfig(run=from_tree(changes, "test"), seeds=(3, 4))
        (row,) = (row for row in fill(known_answers(config, bright_cohort(6), ("a", "b"), {})) if row[0] == "24")
        return row[3]

    assert weights() == "Random, fixed by the seeds 3, 4."
    assert weights(model={"pretrained": "people/somebody/dino.safetensors"}) == (
        "Of the ViT those of dino.safetensors (what they were trained on: author); others random, fixed by the seeds "
        "3, 4."
    )


def test_cohort_tables_by_hand():
    covariates = (number("age", [50, 60, 70, np.nan]), category("sex", ["F", "M", "F", ""]))
    prepared = bright_cohort(4, covariates=covariates)
    rows = {row[0]: row[1:] for row in describe_cohort(prepared)}
    assert rows["cases"][0] == "4" and int(rows["cases"][1]) + int(rows["cases"][2]) == 4
    assert rows["age"][0] == "60 (55–65) [1]"
    assert rows["sex: F"][0] == "2 (67 %)" and rows["sex: missing"][0] == "1"
    folds = describe_folds(prepared.cohort, np.array([0, 0, 1, 1]), ("fold 0", "site B"))
    assert [row[:3] for row in folds] == [["fold 0", "2", "2"], ["site B", "2", "2"]]
    positive = prepared.cohort.labels[:2, 0].sum()
    assert folds[0][3:] == [f"{int(positive)} / {int(2 - positive)} / 0"]


def test_the_table_of_heat_sets_chance_before_area():
    metrics = {"heat_in_lesion": 0.5, "heat_in_lesion_by_chance": 0.4, "heat_in_lesion_beyond_chance": 0.1}
    metrics |= {"heat_in_lesion_beyond_area": 0.3, "pointing_game": 0.8, "pointing_game_by_chance": np.nan}
    metrics |= {"pointing_game_beyond_chance": np.nan, "pointing_game_beyond_area": 0.7}
    metrics |= {"heat_in_lesion_beyond_chance_of_networks": 0.09, "pointing_game_beyond_chance_of_networks": np.nan}
    shared = {"group": "all", "target": "heat", "unit": "patient", "arm": "joint"}
    rows = [
        shared | {"metric": metric, "value": v, "low": v - 0.05, "high": v + 0.05, "patients": 0 if np.isnan(v) else 9}
        for metric, v in metrics.items()
    ]
    share = ["0.500", "0.400", "+0.100 (+0.050 to +0.150)", "+0.040 to +0.140", "+0.300 (+0.250 to +0.350)"]
    hits = ["0.800", "–", "–", "–", "+0.700 (+0.650 to +0.750)"]
    assert heat_table(pd.DataFrame(rows), "heat_in_lesion") == [["joint", *share]]
    assert heat_table(pd.DataFrame(rows), "pointing_game") == [["joint", *hits]]
