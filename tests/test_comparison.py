"""Comparison tables on answers whose worth is known; operating points are chosen on inner cases alone."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from genomic_vit.cohort.manifest import Cohort
from genomic_vit.evaluation.comparison import MACRO, compare
from genomic_vit.evaluation.out_of_fold import INNER, OUTER, OutOfFold, collect
from genomic_vit.evaluation.rows import make_rows
from tests.benchmark_cohort import bright_cohort

COHORT = bright_cohort(40, lesions=2).cohort
FOLDS = np.repeat(np.arange(40) % 4, 2)


def answers(strength, seed, cohort=COHORT, seeds=1):
    """Probabilities that know the label with some strength, and noise."""
    noise = np.random.default_rng(seed).normal(size=(seeds, *cohort.labels.shape))
    probability = 1 / (1 + np.exp(-(strength * (np.nan_to_num(cohort.labels) - 0.5) + noise)))
    return probability, np.full_like(probability, 0.5)


def told(results, **wanted):
    for name, value in wanted.items():
        results = results[results[name] == value]
    return results


def test_good_and_useless_arms_are_told_apart_with_holm():
    arms = [OutOfFold("joint", *answers(0, 0)), OutOfFold("cnn", *answers(4, 1)), OutOfFold("vit", *answers(0, 2))]
    results = compare(COHORT, arms, FOLDS, "joint", {}, 20, "patient", 0)
    gaps = told(results, metric="auc_difference", unit="patient").set_index("arm")
    assert gaps.loc["cnn", "low"] > 0 and gaps.loc["cnn", "p_holm"] < 0.01
    assert gaps.loc["vit", "low"] < 0 < gaps.loc["vit", "high"] and gaps.loc["vit", "p_holm"] > 0.05
    assert gaps.loc["cnn", "p_holm"] == pytest.approx(min(1, 2 * gaps.loc["cnn", "p"]))
    auc = told(results, metric="auc", unit="patient").set_index("arm")
    assert auc.loc["cnn", "p"] < 0.01 and auc.loc["joint", "p"] > 0.05
    assert gaps.loc["cnn", "value"] == pytest.approx(auc.loc["cnn", "value"] - auc.loc["joint", "value"])


def test_rows_by_patient_and_by_case():
    arms = [OutOfFold("joint", *answers(2, 0, seeds=3))]
    everyone = np.ones(80, dtype=bool)
    by_case = make_rows(COHORT, arms, FOLDS, everyone, 0, "case")
    by_patient = make_rows(COHORT, arms, FOLDS, everyone, 0, "patient")
    assert len(by_case.label) == 80 and len(by_patient.label) == 40 and by_patient.cases == 80
    mean = arms[0].mean[:, 0]
    who = COHORT.patients == "P7"
    place = list(by_patient.patients).index("P7")
    assert by_patient.probability["joint"][place] == pytest.approx(mean[who].mean())
    assert by_patient.per_seed["joint"].shape == (3, 40)


def test_small_subgroups_are_withheld_with_their_n():
    arms = [OutOfFold("joint", *answers(2, 0))]
    few = np.isin(COHORT.patients, ["P1", "P2", "P3"])
    half = np.isin(COHORT.patients, [f"P{i}" for i in range(20)])
    results = compare(COHORT, arms, FOLDS, "joint", {"few": few, "half": half}, 10, "patient", 0)
    (withheld,) = told(results, group="few", unit="patient").to_dict("records")
    assert withheld["metric"] == "withheld" and withheld["note"] == "3 patients, fewer than 10"
    assert np.isnan(withheld["value"]) and withheld["patients"] == 3
    assert told(results, group="half", unit="patient", metric="auc")["patients"].tolist() == [20]


def test_missing_labels_are_left_out_and_targets_averaged():
    labels = np.repeat(COHORT.labels, 2, axis=1)
    labels[:30, 1] = np.nan
    two = Cohort(COHORT.cases, ("a", "b"), labels)
    probability, threshold = answers(2, 0, two)
    probability[:, :30, 1] = 1 - probability[:, :30, 1]  # of unlabelled cases: must not matter
    arms = [OutOfFold("joint", probability, threshold), OutOfFold("cnn", *answers(2, 5, two))]
    results = compare(two, arms, FOLDS, "joint", {}, 10, "case", 0)
    auc = told(results, metric="auc", unit="case", arm="joint").set_index("target")["value"]
    expected = [roc_auc_score(labels[k:, j], probability[0, k:, j]) for j, k in ((0, 0), (1, 30))]
    assert auc["a"] == pytest.approx(expected[0]) and auc["b"] == pytest.approx(expected[1])
    assert auc[MACRO] == pytest.approx(np.mean(expected))
    gap = told(results, metric="auc_difference", target=MACRO, unit="case", arm="cnn").iloc[0]
    assert gap["low"] < gap["value"] < gap["high"]


def scores(inner, tested, arm="joint"):
    """scores.csv of one part."""
    rows = [(arm, INNER, case, p) for case, p in inner.items()] + [(arm, OUTER, case, p) for case, p in tested.items()]
    return pd.DataFrame(rows, columns=["arm", "part", "case", "mutant"])


def test_calibration_and_threshold_come_from_inner_cases():
    """Other test scores of other cases change nothing; an arm without all its cases is not there."""
    cases = [case.case for case in COHORT.cases]
    generator = np.random.default_rng(0)
    inner = dict(zip(cases[:40], 0.3 + 0.2 * COHORT.labels[:40, 0] + 0.1 * generator.random(40), strict=True))
    tested = dict.fromkeys(cases, 0.45)
    found = collect("joint", {(0, 0): scores(inner, tested)}, COHORT, [0], "case")
    other = collect("joint", {(0, 0): scores(inner, tested | {cases[1]: 0.99})}, COHORT, [0], "case")
    assert other.mean[0, 0] == found.mean[0, 0] and other.mean[1, 0] > found.mean[1, 0]
    assert (found.mean_threshold == other.mean_threshold).all()
    low, high = (
        collect("joint", {(0, 0): scores(inner, dict.fromkeys(cases, p))}, COHORT, [0], "case") for p in (0.39, 0.51)
    )
    assert low.mean[0, 0] < found.mean_threshold[0, 0] < high.mean[0, 0]
    assert collect("joint", {(0, 0): scores(inner, dict(list(tested.items())[:-1]))}, COHORT, [0], "case") is None


def test_a_swapped_arm_is_calibrated_as_its_network():
    cases = [case.case for case in COHORT.cases]
    inner = dict(zip(cases, 0.2 + 0.5 * COHORT.labels[:, 0], strict=True))
    part = pd.concat([scores(inner, dict.fromkeys(cases, 0.4)), scores({}, dict.fromkeys(cases, 0.4), "swap-zero")])
    joint, swapped = (collect(arm, {(0, 0): part}, COHORT, [0], "case") for arm in ("joint", "swap-zero"))
    np.testing.assert_array_equal(joint.mean, swapped.mean)
