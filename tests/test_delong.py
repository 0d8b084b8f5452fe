"""DeLong against its definition over all pairs, and by simulation."""

import numpy as np
import pytest

from genomic_vit.evaluation.delong import auc_intervals, delong, paired_p


def by_all_pairs(label, scores, patients):
    """AUC and covariance as Obuchowski 1997 writes them, pair by pair and cluster by cluster."""
    x, y = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
    k, m, n = len(scores), len(x), len(y)
    v10, v01 = np.zeros((k, m)), np.zeros((k, n))
    for r in range(k):
        for i, a in enumerate(x):
            for j, b in enumerate(y):
                psi = (scores[r, a] > scores[r, b]) + (scores[r, a] == scores[r, b]) / 2
                v10[r, i] += psi / n
                v01[r, j] += psi / m
    theta = v10.mean(axis=1)
    clusters = sorted(set(patients))
    tens = np.array([[(v10[r, patients[x] == c] - theta[r]).sum() for c in clusters] for r in range(k)])
    ones = np.array([[(v01[r, patients[y] == c] - theta[r]).sum() for c in clusters] for r in range(k)])
    i10, i01, both = len(set(patients[x])), len(set(patients[y])), len(clusters)
    s10, s01, s11 = tens @ tens.T * i10 / (i10 - 1) / m, ones @ ones.T * i01 / (i01 - 1) / n, tens @ ones.T
    s11 = s11 * both / (both - 1)
    return theta, s10 / m + s01 / n + (s11 + s11.T) / (m * n)


@pytest.mark.parametrize("ties", [5, 100_000])
@pytest.mark.parametrize("shared", [False, True])
def test_fast_and_slow_agree(ties, shared):
    generator = np.random.default_rng(2)
    label = generator.integers(0, 2, 40)
    scores = generator.integers(0, ties, (3, 40)) + label
    patients = generator.integers(0, 15, 40) if shared else np.arange(40)
    ours = delong(label, scores, patients if shared else None)
    value, covariance = by_all_pairs(label, scores, patients)
    np.testing.assert_allclose(ours.value, value, atol=1e-12)
    np.testing.assert_allclose(ours.covariance, covariance, atol=1e-12)


def test_copies_of_a_patients_case_tell_nothing_new():
    generator = np.random.default_rng(3)
    label, scores = generator.integers(0, 2, 30), generator.random((2, 30))
    once = delong(label, scores)
    copied = delong(np.repeat(label, 7), np.repeat(scores, 7, axis=1), np.repeat(np.arange(30), 7))
    np.testing.assert_allclose(copied.covariance, once.covariance, atol=1e-12)


@pytest.mark.parametrize("lesions", [1, 3])
def test_a_95_percent_interval_covers_the_true_auc(lesions):
    """2,000 draws of 50 + 50 patients, binormal with AUC 0.80; with several lesions half of the noise is shared."""
    generator = np.random.default_rng(4)
    label = np.repeat(np.repeat([0, 1], 50), lesions)
    patients = np.repeat(np.arange(100), lesions)
    shared = generator.standard_normal((2000, 100))[:, patients]
    own = generator.standard_normal((2000, 100 * lesions))
    scores = label * 1.1902 + np.sqrt(0.5) * (shared + own)
    low, high = auc_intervals(delong(label, scores, patients)).T
    assert 0.93 <= np.mean((low <= 0.8) & (high >= 0.8)) <= 0.97


def test_two_scores_of_equal_worth_differ_in_five_percent_of_draws():
    generator = np.random.default_rng(6)
    label = np.repeat([0, 1], 60)
    shared = generator.standard_normal((2000, 120))
    pairs = [label + shared + 0.7 * generator.standard_normal((2000, 120)) for _ in range(2)]
    p = np.array(
        [paired_p(delong(label, np.stack([first, second])), 0, 1) for first, second in zip(*pairs, strict=True)]
    )
    assert 0.035 <= np.mean(p < 0.05) <= 0.065


def test_edges():
    label = np.array([0, 0, 1, 1])
    perfect = delong(label, np.array([[1, 2, 3, 4], [1, 2, 3, 4.0]]))
    assert perfect.value.tolist() == [1, 1] and paired_p(perfect, 0, 1) == 1
    np.testing.assert_allclose(auc_intervals(perfect), 1, atol=1e-6)
    with pytest.raises(ValueError, match="1 positive and 3 negative patients; two are needed"):
        delong(np.array([1, 0, 0, 0]), np.ones((1, 4)))
