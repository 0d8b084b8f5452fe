"""Metrics by hand arithmetic and scikit-learn, and intervals that resample patients."""

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, recall_score, roc_auc_score

from genomic_vit.evaluation import metrics
from genomic_vit.evaluation.metrics import (
    OF_DECISION,
    OF_PROBABILITY,
    auc,
    average_precision,
    by_patient,
    interval,
    patient_weights,
    resampled,
    score_cohort,
    score_with_intervals,
)


def auc_by_counting(probability, label):
    pairs = [(p > q) + (p == q) / 2 for p in probability[label == 1] for q in probability[label == 0]]
    return sum(pairs) / len(pairs)


def test_auc_counts_pairs_and_halves_ties():
    generator = np.random.default_rng(0)
    probability, label = generator.integers(0, 6, 60) / 5, generator.integers(0, 2, 60)
    report = score_with_intervals(probability, label, np.arange(60), 0, replicates=200)
    assert report["auc"]["value"] == pytest.approx(auc_by_counting(probability, label), abs=1e-12)
    assert report["brier"]["value"] == pytest.approx(np.mean((probability - label) ** 2), abs=1e-12)
    assert report["auc"]["low"] < report["auc"]["value"] < report["auc"]["high"]


@pytest.mark.parametrize("ties", [4, 10_000])
def test_a_bootstrap_sample_scores_as_its_copied_cases_do(ties):
    generator = np.random.default_rng(1)
    patients, label = generator.integers(0, 25, 50), generator.integers(0, 2, 50)
    probability = generator.integers(0, ties, 50) / ties
    decided = (probability > 0.4).astype(float)
    weights = patient_weights(patients, label, 3, 20)
    theirs = {
        "auc": roc_auc_score,
        "average_precision": average_precision_score,
        "brier": lambda y, p: np.mean((y - p) ** 2),
        "sensitivity": recall_score,
        "specificity": lambda y, d: recall_score(y, d, pos_label=0),
        "balanced_accuracy": balanced_accuracy_score,
    }
    for name, oracle in theirs.items():
        ours, given = OF_PROBABILITY.get(name) or OF_DECISION[name], probability if name in OF_PROBABILITY else decided
        copied = [np.repeat(np.arange(50), row.astype(int)) for row in weights]
        expected = [oracle(label[index], given[index]) for index in copied]
        np.testing.assert_allclose(ours(label, given, weights), expected, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("ties", [4, 10_000])
def test_within_strata_a_sample_scores_as_its_copied_cases_do(ties):
    """AUC: all pairs of one stratum, counted. Average precision: scikit-learn's of each stratum, by its positives."""
    generator = np.random.default_rng(3)
    patients, strata = np.arange(50), generator.integers(0, 5, 50)
    label = generator.integers(0, 2, 50) * (strata != 3)  # one stratum has one class only
    score = generator.integers(0, ties, 50) / ties
    weights = patient_weights(patients, label, 3, 10)
    for row, ours, precision in zip(
        weights, auc(label, score, weights, strata), average_precision(label, score, weights, strata), strict=True
    ):
        index = np.repeat(np.arange(50), row.astype(int))
        parts = [index[strata[index] == s] for s in range(5)]
        parts = [part for part in parts if 0 < label[part].sum() < len(part)]
        positives = [int(label[part].sum()) for part in parts]
        pairs = [m * (len(part) - m) for m, part in zip(positives, parts, strict=True)]
        expected = [auc_by_counting(score[part], label[part]) for part in parts]
        assert ours == pytest.approx(np.average(expected, weights=pairs), abs=1e-12)
        expected = [average_precision_score(label[part], score[part]) for part in parts]
        assert precision == pytest.approx(np.average(expected, weights=positives), abs=1e-12)
    once = np.ones((1, 50))
    assert np.isnan(auc(label, score, once, patients)) and np.isnan(average_precision(label, score, once, patients))


def test_within_strata_each_kind_of_each_is_drawn_apart_and_the_lone_together():
    strata = np.repeat([0, 1, 2], [6, 4, 5])
    label = np.array([1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0])
    weights = patient_weights(np.arange(15), label, 0, 400, strata=strata)
    for kind in (slice(0, 3), slice(3, 6), slice(7, 10), slice(11, 15)):
        assert (weights[:, kind].sum(axis=1) == kind.stop - kind.start).all() and weights[:, kind].std() > 0
    lone = weights[:, [6, 10]]  # positives alone in their strata
    assert (lone.sum(axis=1) == 2).all() and {tuple(pair) for pair in lone} == {(0, 2), (1, 1), (2, 0)}


def test_patients_are_drawn_whole_and_each_kind_apart():
    patients = np.array(list("aabbccdd"))
    label = np.array([1, 0, 0, 0, 0, 0, 1, 1])
    weights = patient_weights(patients, label, 0, 500)
    assert (weights[:, ::2] == weights[:, 1::2]).all()
    assert (weights[:, [0, 6]].sum(axis=1) == 2).all() and (weights[:, [2, 4]].sum(axis=1) == 2).all()
    assert set(np.unique(weights)) == {0, 1, 2}


@pytest.mark.parametrize("block", [1, 100, 1 << 22])
def test_samples_drawn_and_scored_in_blocks_are_those_of_all_at_once(block, monkeypatch):
    monkeypatch.setattr(metrics, "BLOCK", block)
    generator = np.random.default_rng(2)
    patients, label = generator.integers(0, 30, 50), (generator.random(50) < 0.3).astype(float)
    probability = generator.integers(0, 9, 50) / 9
    names, row = np.unique(patients, return_inverse=True)
    positive = np.array([label[patients == name].any() for name in names])
    draw, drawn = np.random.default_rng(7), np.zeros((40, len(names)))
    for kind in (positive, ~positive):
        drawn[:, kind] = draw.multinomial(kind.sum(), np.full(kind.sum(), 1 / kind.sum()), size=40)
    weights = patient_weights(patients, label, 7, 40)
    np.testing.assert_array_equal(weights, drawn[:, row])
    for name, metric in (OF_PROBABILITY | OF_DECISION).items():
        given = probability if name in OF_PROBABILITY else (probability > 0.5).astype(float)
        expected = metric(label, given, drawn[:, row])
        np.testing.assert_allclose(resampled(metric, label, given, weights), expected, rtol=1e-14, err_msg=name)


def test_memory_of_intervals_does_not_grow_with_the_samples():
    generator = np.random.default_rng(0)
    label = (generator.random(20_000) < 0.3).astype(float)
    tracemalloc.start()
    score_with_intervals(generator.random(20_000), label, np.arange(20_000), 0, ("auc",), replicates=500)
    peak_mb = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert peak_mb < 240  # 382 with every number in float64 throughout, 170 in bytes and blocks


def test_ten_copies_of_a_patients_case_do_not_narrow_the_interval():
    generator = np.random.default_rng(1)
    label = np.repeat([0, 1], 20)
    probability = label * 0.3 + generator.random(40)
    once = score_with_intervals(probability, label, np.arange(40), 0, ("auc",))["auc"]
    copied = score_with_intervals(*(np.repeat(v, 10) for v in (probability, label, np.arange(40))), 0, ("auc",))["auc"]
    assert copied["high"] - copied["low"] == pytest.approx(once["high"] - once["low"], abs=1e-12)


def test_the_bootstrap_interval_covers_the_true_auc():
    generator = np.random.default_rng(5)
    label = np.repeat([0, 1], 40)
    covered = []
    for seed in range(300):
        score = label * 1.190 + generator.standard_normal(80)  # binormal, AUC 0.80
        low, high = interval(auc(label, score, patient_weights(np.arange(80), label, seed, 500)))
        covered.append(low <= 0.8 <= high)
    assert 0.90 <= np.mean(covered) <= 0.98  # 300 draws: two standard errors are 0.025


def test_a_patient_is_the_mean_of_its_cases_and_positive_where_any_is():
    patients = np.array(["B", "A", "B"])
    mean, positive, names = by_patient(np.array([0.2, 0.7, 0.6]), np.array([0.0, 0.0, 1.0]), patients)
    assert list(names) == ["A", "B"] and list(positive) == [0, 1]
    np.testing.assert_allclose(mean, [0.7, 0.4])


def test_missing_labels_and_single_classes_are_said():
    labels = np.array([[1, 1], [0, np.nan], [1, 1], [0, 1]], dtype=float)
    probability = np.array([[0.9, 0.5]] * 4)
    report = score_cohort(probability, labels, np.array(list("abcd")), ("x", "y"), 0)
    assert report["x"]["by_case"]["auc"]["value"] == 0.5
    assert report["y"]["counts"] == {"cases": 3, "patients": 3, "positive": 3, "missing": 1}
    assert "one class only" in report["y"]["reason"]
