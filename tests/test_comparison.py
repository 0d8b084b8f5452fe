"""Comparison tables on answers whose worth is known; operating points are chosen on inner cases alone."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from genomic_vit.cohort.manifest import Cohort
from genomic_vit.evaluation.comparison import MACRO, compare
from genomic_vit.evaluation.delong import auc_intervals, delong, paired_p
from genomic_vit.evaluation.differences import correct_over_targets, differences
from genomic_vit.evaluation.metrics import auc
from genomic_vit.evaluation.out_of_fold import INNER, OUTER, OutOfFold, collect
from genomic_vit.evaluation.roc import roc
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


@pytest.mark.parametrize(("reference", "family"), [("joint", 3), ("size", 5)])
def test_what_the_heat_is_worth_is_one_of_the_comparisons_of_the_table(reference, family):
    """With joint as reference its pairs are in the table already; else they are two more to correct for."""
    names, label = ("joint", "cnn", "swap-zero", "size"), COHORT.labels[:, 0]
    scores = np.stack([answers(1 + 0.7 * k, k)[0][0, :, 0] for k in range(4)])
    aucs, samples = delong(label, scores), {name: np.linspace(0, k, 11) for k, name in enumerate(names)}
    rows = pd.DataFrame(differences(names, reference, aucs, samples))
    pair = [frozenset({row["arm"], row["note"].removeprefix("less ") or reference}) for _, row in rows.iterrows()]
    raw = dict(zip(pair, rows["p"], strict=True))
    assert len(raw) == family and len(rows) == 5
    assert raw[frozenset({"joint", "cnn"})] == paired_p(aucs, 0, 1)
    running = 0.0
    for rank, asked in enumerate(sorted(raw, key=raw.get)):  # Holm 1979, step by step
        running = max(running, min(1.0, (family - rank) * raw[asked]))
        held = [row for row, which in zip(rows["p_holm"], pair, strict=True) if which == asked]
        assert held == pytest.approx([running] * len(held))
    gain = rows[rows["metric"] == "auc_gain_of_heat"].iloc[0]
    assert gain["value"] == aucs.value[0] - aucs.value[1] and (gain["low"], gain["high"]) == pytest.approx(
        (-0.975, -0.025)
    )


def test_what_the_heat_is_worth_is_corrected_over_targets_too():
    rows = [("a", "auc_gain_of_heat", 0.02), ("b", "auc_gain_of_heat", 0.03), ("c", "auc_gain_of_heat", 0.5)]
    rows += [("a", "auc_reliance_on_heat", 0.04), ("a", "auc_difference", 0.02), ("b", "auc_difference", 0.03)]
    results = pd.DataFrame(rows, columns=["target", "metric", "p_holm"]).assign(group="all", unit="case", note="less x")
    corrected = correct_over_targets(results)["p_holm"]
    assert corrected.tolist() == pytest.approx([0.06, 0.06, 0.5, 0.04, 0.02, 0.03])
    relied = results[results["metric"] == "auc_reliance_on_heat"]
    two = pd.concat([relied, relied.assign(note="less y"), relied.assign(target="b", p_holm=0.01)], ignore_index=True)
    assert correct_over_targets(two)["p_holm"].tolist() == pytest.approx([0.04, 0.04, 0.02])  # each heat its own


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


def test_the_mean_over_targets_is_withheld_with_any_of_them_and_counts_who_is_known():
    labels = np.repeat(COHORT.labels, 2, axis=1)
    labels[:30, 1] = np.nan
    labels[:2] = np.nan  # a patient without any label
    two = Cohort(COHORT.cases, ("a", "b"), labels)
    arms = [OutOfFold("joint", *answers(2, 0, two)), OutOfFold("cnn", *answers(2, 5, two))]
    first = np.isin(COHORT.patients, [f"P{i}" for i in range(22)])  # of b, seven of them
    results = compare(two, arms, FOLDS, "joint", {"first": first}, 20, "patient", 0)
    (withheld,) = told(results, group="first", target=MACRO, unit="case").to_dict("records")
    assert withheld["metric"] == "withheld" and withheld["note"] == "b: 7 patients, fewer than 20"
    assert withheld["patients"] == 21 and withheld["cases"] == 42
    for unit in ("patient", "case"):
        here = told(results, group="all", target=MACRO, unit=unit)
        positive = (labels[2:] == 1).any(axis=1).sum() / (2 if unit == "patient" else 1)
        assert len(here) == 3
        assert (here[["patients", "cases", "positive"]].to_numpy() == [39, 78, positive]).all()


def hospitals(seed, worth=1.0, patients=40):
    """Two sites with 75 and 25 % of positives, and probabilities calibrated to the other site's share."""
    generator = np.random.default_rng(seed)
    cohort = bright_cohort(2 * patients).cohort
    site = np.repeat([0, 1], patients)
    label = (np.arange(2 * patients) % 4 < np.where(site == 0, 3, 1)).astype(float)
    trained_on = np.where(site == 0, -1.1, 1.1)  # logit of the share that its model learnt
    logit = trained_on + worth * (label - 0.5) + 0.9 * generator.standard_normal((3, 2 * patients))
    arms = [
        OutOfFold(name, 1 / (1 + np.exp(-one))[None, :, None], np.full((1, 2 * patients, 1), 0.5))
        for name, one in zip(("joint", "cnn", "size"), logit, strict=True)
    ]
    return dataclasses.replace(cohort, labels=label[:, None]), arms, site


def test_held_out_sites_are_ranked_within_each_and_weighed_by_their_pairs():
    cohort, arms, site = hospitals(0)
    label = cohort.labels[:, 0]
    results = compare(cohort, arms, site, "joint", {}, 20, "patient", 0, within_folds=True)
    assert roc_auc_score(label, arms[0].mean[:, 0]) < 0.5  # what ranking the sites together would say
    auc = told(results, metric="auc", unit="patient").set_index("arm")
    names = np.unique(cohort.patients, return_index=True)[1]
    for arm in arms:
        own = [roc_auc_score(label[site == s], arm.mean[site == s, 0]) for s in (0, 1)]
        assert auc.loc[arm.arm, "value"] == pytest.approx(np.mean(own))  # of as many pairs
        seen = [
            by_site.loc["value"] for _, by_site in told(results, metric="auc_mean_of_folds", arm=arm.arm).iterrows()
        ]
        assert seen[0] == pytest.approx(np.mean(own))
        assert auc.loc[arm.arm, "low"] > 0.5 and auc.loc[arm.arm, "p"] < 0.01
        assert auc.loc[arm.arm, "note"] == "pairs within folds; 2 of 2 have both classes, the others add none"
    aucs = delong(
        label[names], np.stack([arm.mean[names, 0] for arm in arms]), cohort.patients[names], strata=site[names]
    )
    low, high = auc_intervals(aucs).T
    by_delong = told(results, metric="auc_delong", unit="patient")
    np.testing.assert_allclose(by_delong[["low", "high"]].to_numpy().T, [low, high])
    gap = told(results, metric="auc_difference", unit="patient", arm="cnn").iloc[0]
    assert gap["value"] == pytest.approx(auc.loc["cnn", "value"] - auc.loc["joint", "value"])
    assert gap["p"] == pytest.approx(paired_p(aucs, 1, 0)) and gap["low"] < gap["value"] < gap["high"]
    assert not len(told(results, metric="auc_within_folds"))


def test_noise_at_held_out_sites_is_not_worse_than_chance():
    """Ranked together, all such arms lie below 0.4."""
    missed, together = 0, []
    for seed in range(2):
        cohort, arms, site = hospitals(seed, worth=0.0)
        results = compare(cohort, arms, site, "joint", {}, 20, "patient", 0, within_folds=True)
        auc = told(results, metric="auc", unit="patient")
        missed += int(((auc["low"] > 0.5) | (auc["high"] < 0.5)).sum())
        together += [roc_auc_score(cohort.labels[:, 0], arm.mean[:, 0]) for arm in arms]
    assert missed <= 1  # of 6
    assert max(together) < 0.4


def test_folds_of_one_class_add_no_pair_and_are_said():
    cohort, arms, site = hospitals(1)
    label = cohort.labels[:, 0]
    rich = (site == 0) | (label == 1)  # of the second site the positives alone
    apart = (site == 0) == (label == 1)  # no site has both
    results = compare(cohort, arms, site, "joint", {"rich": rich, "apart": apart}, 20, "patient", 0, within_folds=True)
    auc = told(results, group="rich", metric="auc", unit="patient", arm="joint").iloc[0]
    assert auc["value"] == pytest.approx(roc_auc_score(label[site == 0], arms[0].mean[site == 0, 0]))
    assert auc["patients"] == rich.sum()
    assert auc["note"] == "pairs within folds; 1 of 2 have both classes, the others add none"
    (withheld,) = told(results, group="apart", unit="patient").to_dict("records")
    assert withheld["note"] == "0 patients in folds with both classes, fewer than 20"


def test_dealt_folds_are_ranked_together_with_the_auc_within_them_beside():
    arms = [OutOfFold("joint", *answers(1, 0)), OutOfFold("cnn", *answers(1, 1))]
    results = compare(COHORT, arms, FOLDS, "joint", {}, 20, "case", 0)
    label, p = COHORT.labels[:, 0], arms[0].mean[:, 0]
    here = told(results, unit="case", arm="joint").set_index("metric")
    assert here.loc["auc", "value"] == pytest.approx(roc_auc_score(label, p)) and here.loc["auc", "note"] == ""
    folds = [[case for case, fold in enumerate(FOLDS) if fold == which] for which in range(4)]
    own = [roc_auc_score(label[fold], p[fold]) for fold in folds]
    pairs = [label[fold].sum() * (1 - label[fold]).sum() for fold in folds]
    within = here.loc["auc_within_folds"]
    assert within["value"] == pytest.approx(np.average(own, weights=pairs)) and within["low"] < within["value"]


def test_the_mean_over_targets_is_within_sites_too():
    cohort, arms, site = hospitals(2)
    labels = np.repeat(cohort.labels, 2, axis=1)
    labels[:10, 1] = np.nan
    two = Cohort(cohort.cases, ("a", "b"), labels)
    arms = [
        OutOfFold(arm.arm, np.repeat(arm.probability, 2, axis=2), np.repeat(arm.threshold, 2, axis=2)) for arm in arms
    ]
    results = compare(two, arms, site, "joint", {}, 20, "patient", 0, within_folds=True)
    auc = told(results, metric="auc", unit="patient", arm="joint").set_index("target")
    assert auc.loc[MACRO, "value"] == pytest.approx((auc.loc["a", "value"] + auc.loc["b", "value"]) / 2)
    assert auc.loc[MACRO, "low"] > 0.5


@pytest.mark.parametrize("ties", [7, 10_000])
def test_the_area_under_the_drawn_curve_is_the_auc(ties):
    generator = np.random.default_rng(4)
    label, site = generator.integers(0, 2, 200), generator.integers(0, 4, 200)
    label[site == 3] = 1
    score = generator.integers(0, ties, 200) + 0.3 * ties * label - 2 * ties * site
    for strata in (None, site):
        x, y = roc(label, score, strata)
        assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all() and (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
        assert np.trapezoid(y, x) == pytest.approx(auc(label, score, np.ones((1, 200)), strata)[0], abs=2e-3)


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
