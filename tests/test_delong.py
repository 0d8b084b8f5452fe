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


def by_pairs_of_a_stratum(label, scores, patients, strata):
    """Pairs of one stratum alone, counted one by one; variance stratum by stratum, a lone patient's about the whole."""
    kept = [np.flatnonzero(strata == s) for s in sorted(set(strata)) if len(set(label[strata == s])) == 2]
    counts = [label[at].sum() * (1 - label[at]).sum() for at in kept]
    won = np.zeros(len(scores))
    for r, score in enumerate(scores):
        for at in kept:
            for i in at[label[at] == 1]:
                for j in at[label[at] == 0]:
                    won[r] += (score[i] > score[j]) + (score[i] == score[j]) / 2
    theta, covariance = won / sum(counts), np.zeros((len(scores), len(scores)))
    for at, pairs in zip(kept, counts, strict=True):
        x, y = at[label[at] == 1], at[label[at] == 0]
        psi = np.sign(scores[:, x, None] - scores[:, None, y]) / 2 + 0.5
        own, people = psi.mean(axis=(1, 2)), sorted(set(patients[at]))
        kinds = []
        for which, axis in ((x, 2), (y, 1)):
            alone = len(set(patients[which])) == 1
            off = psi.mean(axis=axis) - (theta if alone else own)[:, None]
            by_person = np.stack([off[:, patients[which] == who].sum(axis=1) for who in people], axis=1) / len(which)
            kinds.append((by_person, 1 if alone else len(set(patients[which])) / (len(set(patients[which])) - 1)))
        (tens, ten), (ones, one) = kinds
        cross = tens @ ones.T * len(people) / (len(people) - 1)
        covariance += (pairs / sum(counts)) ** 2 * (tens @ tens.T * ten + ones @ ones.T * one + cross + cross.T)
    return theta, covariance


@pytest.mark.parametrize("ties", [5, 100_000])
@pytest.mark.parametrize("lesions", [1, 3])
def test_within_strata_only_their_own_pairs_count(ties, lesions):
    """Six strata: one of one class, one with a lone positive, and patients who have cases of both classes."""
    generator = np.random.default_rng(8)
    strata = np.repeat(generator.integers(0, 6, 40), lesions)
    patients = np.repeat(np.arange(40), lesions)
    label = generator.integers(0, 2, 40 * lesions)
    label[strata == 2] = 0
    label[strata == 4] = np.arange((strata == 4).sum()) < 1
    scores = generator.integers(0, ties, (3, 40 * lesions)) + label + 3 * strata
    ours = delong(label, scores, patients, strata)
    value, covariance = by_pairs_of_a_stratum(label, scores, patients, strata)
    np.testing.assert_allclose(ours.value, value, atol=1e-12)
    np.testing.assert_allclose(ours.covariance, covariance, atol=1e-12)
    one = delong(label, scores, patients, np.zeros_like(label))
    np.testing.assert_allclose(one.covariance, delong(label, scores, patients).covariance, atol=1e-14)


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


def test_a_95_percent_interval_within_sites_covers_the_true_auc():
    """2,000 draws of four sites whose scores lie apart and whose shares of positives run from 20 to 80 %; AUC 0.80."""
    generator = np.random.default_rng(5)
    sizes = [(6, 24), (10, 10), (24, 6), (20, 30)]
    label = np.concatenate([np.repeat([1, 0], pair) for pair in sizes])
    site = np.repeat(np.arange(4), [sum(pair) for pair in sizes])
    scores = label * 1.1902 - 2.0 * np.array([0, 1, 2, 3])[site] + generator.standard_normal((2000, len(label)))
    aucs = delong(label, scores, strata=site)
    low, high = auc_intervals(aucs).T
    assert np.mean(aucs.value) == pytest.approx(0.8, abs=0.005)
    assert np.mean(delong(label, scores).value) < 0.6  # ranked together they say how rich their site is
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
    with pytest.raises(ValueError, match="1 positive and 1 negative patients; two are needed"):
        delong(np.array([1, 0, 0, 0]), np.ones((1, 4)), strata=np.array([0, 0, 1, 1]))
    with pytest.raises(ValueError, match="a patient is in two strata"):
        delong(label, np.ones((1, 4)), np.array(list("abab")), np.array([0, 0, 1, 0]))
    alone = delong(np.array([1, 0, 0, 1, 0, 0]), np.ones((2, 6)), strata=np.array([0, 0, 0, 1, 1, 1]))
    np.testing.assert_allclose(auc_intervals(alone), 0.5)
