"""What the report shows beside its main numbers: the other unit, chance, what is not drawn, who is counted twice."""

import base64
import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from genomic_vit.data.prepare import Prepared
from genomic_vit.evaluation.arms import ARMS
from genomic_vit.evaluation.cohort_table import cohort_note, describe_flow
from genomic_vit.evaluation.comparison import compare
from genomic_vit.evaluation.out_of_fold import OutOfFold
from genomic_vit.evaluation.plan import BenchmarkConfig, members
from genomic_vit.evaluation.report import Findings, print_table, render_report
from genomic_vit.evaluation.result_tables import ranking_row, same_heat_text, subgroup_tables
from tests.benchmark_cohort import bright_cohort, category

PATIENTS, LESIONS = 16, 2


def found(arms, *, reference="joint", unit="case", targets=("mutant",), site=None, subgroups=()):
    """Arms whose answers are noise, compared on patients with two lesions, four of them with lesions of both kinds."""
    hospital = category("hospital", ["A"] * 24 + ["B"] * 8)
    prepared = bright_cohort(PATIENTS, LESIONS, covariates=(hospital,), targets=targets)
    labels = prepared.cohort.labels.copy()
    labels[1:8:2] = 1 - labels[1:8:2]  # the second lesions of four patients are of the other kind
    cohort = dataclasses.replace(prepared.cohort, labels=labels)
    config = BenchmarkConfig(
        arms=arms, reference=reference, unit=unit, site=site, subgroups=subgroups, minimum=8, folds=2
    )
    folds = (hospital.values == "B").astype(int) if site else np.arange(len(labels)) // LESIONS % 2
    draw = np.random.default_rng(0).uniform(0.1, 0.9, (len(arms), 1, *labels.shape))
    answers = tuple(OutOfFold(name, one, np.full_like(one, 0.5)) for name, one in zip(arms, draw, strict=True))
    groups = {name: members(name, cohort.covariates) for name in subgroups}
    results = compare(cohort, answers, folds, reference, groups, 8, unit, 0, within_folds=site is not None)
    prepared = dataclasses.replace(prepared, cohort=cohort)
    return Findings(config, prepared, folds, ("one", "two"), answers, results, (), (), 0, 1.0)


def page(findings):
    """The report, its lines joined."""
    return " ".join(render_report(findings, (), {"python": "3"}, "", is_quick=False).split())


def auc(label, score):
    """Share of pairs in order, one by one."""
    pairs = [(p > n) + 0.5 * (p == n) for p in score[label == 1] for n in score[label == 0]]
    return float(np.mean(pairs))


def test_auc_by_case_and_by_patient_stand_side_by_side():
    findings = found(("joint", "cnn"))
    label, score = findings.prepared.cohort.labels[:, 0], findings.arms[1].mean[:, 0]
    by_case = auc(label, score)
    by_patient = auc(label.reshape(-1, LESIONS).max(axis=1), score.reshape(-1, LESIONS).mean(axis=1))
    assert abs(by_case - by_patient) > 0.01
    text = page(findings)
    assert '<th class="n">AUROC</th><th class="n">by patient</th>' in text
    cells = rf'<td>cnn</td><td class="n">{by_case:.3f} \([^)]*\)</td><td class="n">{by_patient:.3f} \('
    assert re.search(cells, text)
    told = rf"cnn +AUC {by_case:.3f} \([^)]*\), by patient {by_patient:.3f} \("
    assert re.search(told, print_table(findings.results, findings.config))
    turned = found(("joint", "cnn"), unit="patient")
    assert re.search(
        rf'<td>cnn</td><td class="n">{by_patient:.3f} \([^)]*\)</td><td class="n">{by_case:.3f} \(', page(turned)
    )
    assert re.search(
        rf"cnn +AUC {by_patient:.3f} .*, by case {by_case:.3f} ", print_table(turned.results, turned.config)
    )


def test_where_cases_are_patients_there_is_one_column():
    prepared = bright_cohort(PATIENTS)
    config, folds = BenchmarkConfig(arms=("joint",)), np.arange(PATIENTS) % 2
    score = np.linspace(0.2, 0.8, PATIENTS)[None, :, None]
    arms = (OutOfFold("joint", score, np.full_like(score, 0.5)),)
    results = compare(prepared.cohort, arms, folds, "joint", {}, 8, "patient", 0)
    alone = Findings(config, prepared, folds, ("one", "two"), arms, results, (), (), 0, 1.0)
    assert "by case" not in page(alone) and "by case" not in print_table(results, config)


def test_the_other_unit_is_a_dash_where_it_is_withheld():
    results = found(("joint",)).results
    here = results[results["unit"] == "case"]
    withheld = pd.DataFrame([{"arm": np.nan, "metric": "withheld", "note": "1 positive"}])
    assert ranking_row(here, "joint", "joint", withheld)[2] == "–"


def test_every_arm_is_drawn_but_those_of_replaced_heat_which_are_named():
    replaced = [name for name in ARMS if name.startswith(("heat-", "swap-"))]
    for reference, left in (("joint", replaced), ("heat-zero", [name for name in replaced if name != "heat-zero"])):
        text = page(found(tuple(ARMS), reference=reference))
        assert f"Not drawn: {', '.join(left)}; their numbers are in the tables." in text
        pictures = [base64.b64decode(code).decode() for code in re.findall(r'svg\+xml;base64,([^"]*)"', text)]
        (curves,) = (picture for picture in pictures if "Decision curve" in picture)
        assert {name for name in ARMS if f"<!-- {name} -->" in curves} == set(ARMS) - set(left)
    assert "Not drawn" not in page(found(("joint", "size")))


def test_average_precision_has_its_chance_beside_it():
    findings = found(("joint",))
    label = findings.prepared.cohort.labels[:, 0]
    assert f"AUPRC by chance: {label.mean():.3f}, the share of positives. " in page(findings)
    by_site = found(("joint",), site="hospital")
    sites = [label[by_site.folds == site] for site in (0, 1)]
    share = sum(site.sum() * site.mean() for site in sites) / label.sum()
    assert abs(share - label.mean()) > 0.001
    assert f"AUPRC by chance: {share:.3f}, the share of positives of the sites. " in page(by_site)


def test_slope_and_intercept_have_their_intervals():
    findings = found(("joint",))
    own = findings.results[findings.results["unit"] == "case"].set_index("metric")
    for metric in ("calibration_slope", "calibration_intercept"):
        low, high = (f"{own.loc[metric][end]:.2f}" for end in ("low", "high"))
        assert re.search(rf"\({low}(–| to ){high}\)</td>", page(findings))


def test_subgroups_tell_p_and_who_and_that_nothing_is_corrected_over_them():
    findings = found(("joint", "cnn", "size"), subgroups=("hospital=A",))
    results = findings.results
    (one,) = subgroup_tables(results, ("hospital=A",), ("mutant",), "case", "joint")
    own = results[(results["group"] == "hospital=A") & (results["unit"] == "case")]
    gaps = own[own["metric"] == "auc_difference"].set_index("arm")
    assert one.both_units and one.counts == f"24 cases of 12 patients, {int(own['positive'].iloc[0])} positive"
    assert [row[-1] for row in one.rows] == ["", *(f"{gaps.loc[arm]['p_holm']:.3f}" for arm in ("cnn", "size"))]
    text = page(findings)
    assert "corrected for the arms compared in one subgroup, not for how many" in text
    assert text.count("not corrected for several comparisons") == 2  # here, and in the checklist
    assert "No interval is corrected for several comparisons" in text
    some = results[(results["group"] != "hospital=A")]
    few = {"group": "hospital=A", "target": "mutant", "unit": "case", "metric": "withheld", "note": "3 patients"}
    few |= {"patients": 3, "cases": 4, "positive": 1}
    (gone,) = subgroup_tables(pd.concat([some, pd.DataFrame([few])]), ("hospital=A",), ("mutant",), "case", "joint")
    assert gone.rows == [] and gone.counts == "4 cases of 3 patients, 1 positive; withheld: 3 patients"


def test_the_mean_over_targets_says_that_it_has_no_p():
    two = page(found(("joint", "cnn"), targets=("EGFR", "KRAS")))
    assert "There is no p of a mean" in two and "Positive and negative are of EGFR, the first target." in two
    assert '<th class="n">macro AUROC</th><th class="n">by patient</th>' in two
    one = page(found(("joint", "cnn")))
    assert "There is no p of a mean" not in one and "the first target" not in one


def test_who_is_counted_in_both_columns_or_in_neither():
    cohort = bright_cohort(3, 2).cohort

    def note(labels, targets=("EGFR",)):
        labels = np.array(labels, dtype=float)[:, None].repeat(len(targets), axis=1)
        return cohort_note(dataclasses.replace(cohort, labels=labels, targets=targets))

    assert note([1, 0, 1, 0, 0, 0]) == "Patients with both positive and negative cases, counted in both columns: 2."
    assert note([1, 1, 0, 0, np.nan, 0]) == "Cases without a label of EGFR, in neither column: 1."
    assert note([1, 1, 0, 0, 0, 0]) == ""
    assert note([1, 1, 0, 0, 0, 0], ("KRAS", "EGFR")) == "Positive and negative are of KRAS, the first target."


def test_the_flow_tells_what_was_noted_in_reading():
    prepared = bright_cohort(3)
    notes = (("2 specks left out", "3 specks left out"), (), ("1 specks left out", "tilt of 4 degrees resampled"))
    slabs = [dataclasses.replace(slab, notes=told) for slab, told in zip(prepared.slabs, notes, strict=True)]
    told = describe_flow(Prepared(prepared.cohort, slabs, (("c9", "no lesion"),)), unlabelled=2)
    assert told == [
        ("rows of the manifest", 6, ""),
        ("without any label", 2, "left out"),
        ("not usable", 1, "c9: no lesion"),
        ("compared", 3, "of 3 patients"),
        ("of these, noted", 2, "such as c0-0: 2 specks left out"),
        ("of these, noted", 1, "such as c2-0: tilt of 4 degrees resampled"),
    ]


@pytest.mark.parametrize(
    ("tables", "is_told"),
    [
        ([[["vit", "0.1"], ["staged", "0.1"]], [["vit", "0.2"], ["staged", "0.2"]]], True),
        ([[["vit", "0.1"], ["staged", "0.1"]], [["vit", "0.2"], ["staged", "0.3"]]], False),
        ([[["joint", "0.1"], ["staged", "0.1"]]], False),
        ([[], []], False),
    ],
)
def test_the_same_heat_of_two_arms_is_said(tables, is_told):
    assert same_heat_text(tables).startswith("staged and vit have the same numbers") is is_told


def test_heat_shuffled_in_training_is_another_cases_when_tested_another_patients():
    assert ARMS["heat-shuffled"].says == "joint, trained with another case's heat as heat"
    assert ARMS["swap-shuffled"].says == "joint, tested with another patient's heat as heat"
