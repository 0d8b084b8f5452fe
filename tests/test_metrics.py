"""Metrics by hand arithmetic, and intervals that resample patients."""

import numpy as np
import pytest

from genomic_vit.evaluation.metrics import by_patient, score_cohort, score_with_intervals


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


def test_ten_copies_of_a_patients_case_do_not_narrow_the_interval():
    generator = np.random.default_rng(1)
    label = np.repeat([0, 1], 20)
    probability = label * 0.3 + generator.random(40)
    once = score_with_intervals(probability, label, np.arange(40), 0, ("auc",))["auc"]
    copied = score_with_intervals(*(np.repeat(v, 10) for v in (probability, label, np.arange(40))), 0, ("auc",))["auc"]
    assert copied["high"] - copied["low"] == pytest.approx(once["high"] - once["low"], abs=0.02)


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
