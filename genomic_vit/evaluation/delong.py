"""Variance and paired differences of AUCs without resampling: DeLong, and Obuchowski where patients have many cases."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata

Z95 = float(norm.ppf(0.975))


class AUCs(NamedTuple):
    """AUCs of several scores on the same cases.

    Args:
        value: (score).
        covariance: (score score).
    """

    value: np.ndarray
    covariance: np.ndarray


def delong(
    label: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None, strata: np.ndarray | None = None
) -> AUCs:
    """AUCs and their covariance, from midranks in O(n log n) a score (Sun & Xu 2014, doi 10.1109/LSP.2014.2337313).

    Strata are independent: with them the AUC is the mean of their own, weighted by pairs (`metrics.auc`), and its
    covariance the sum of theirs by the squares of these weights. The spread of a class with one patient in a stratum is
    taken about the AUC of all, as surveys do with lone units (Lumley 2010, doi 10.1002/9780470580066).

    Args:
        label: 0 or 1, both present, (case).
        scores: (score case).
        patients: (case); cases of one patient are then summed before they are squared (Obuchowski 1997,
            doi 10.2307/2533958). With one case a patient, or None, this is DeLong 1988.
        strata: (case), each patient whole in one; strata of one class have no pairs and are left out. None takes all
            for one.

    Raises:
        ValueError: fewer than two positive or two negative patients in strata of both classes; a patient in two strata.
    """
    positive, scores = np.asarray(label) == 1, np.asarray(scores)
    cluster = np.arange(len(label)) if patients is None else np.unique(patients, return_inverse=True)[1]
    stratum = np.zeros(len(label), dtype=int) if strata is None else np.unique(strata, return_inverse=True)[1]
    if len(np.unique(np.stack([cluster, stratum]), axis=1).T) > len(np.unique(cluster)):
        raise ValueError("delong: a patient is in two strata; each must be whole in one")
    members = [np.flatnonzero(stratum == one) for one in range(stratum.max() + 1)]
    parts = [_place(positive[at], scores[:, at], cluster[at]) for at in members if 0 < positive[at].sum() < len(at)]
    with_positive, with_negative = (sum(len(set(part.cluster[kind])) for part in parts) for kind in (0, 1))
    if min(with_positive, with_negative) < 2:
        raise ValueError(f"delong: {with_positive} positive and {with_negative} negative patients; two are needed")
    pairs = np.array([part.over.shape[1] * part.under.shape[1] for part in parts])
    share = pairs / pairs.sum()
    value = sum(weight * part.over.mean(axis=1) for weight, part in zip(share, parts, strict=True))
    covariance = sum(weight**2 * _covariance(part, value) for weight, part in zip(share, parts, strict=True))
    return AUCs(value, covariance)


class _Placed(NamedTuple):
    """One stratum: share of negatives below each positive and of positives above each negative, (score case); whose."""

    over: np.ndarray
    under: np.ndarray
    cluster: tuple[np.ndarray, np.ndarray]


def _place(positive: np.ndarray, scores: np.ndarray, cluster: np.ndarray) -> _Placed:
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores, axis=1)  # midranks among all
    over = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / n
    under = 1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / m
    return _Placed(over, under, (cluster[positive], cluster[~positive]))


def _covariance(part: _Placed, overall: np.ndarray) -> np.ndarray:
    """Covariance of the AUCs of one stratum, (score score); `overall` are those of all strata, (score)."""
    own, names = part.over.mean(axis=1), np.unique(np.concatenate(part.cluster))
    sums, factors = [], []
    for placed, cluster in zip((part.over, part.under), part.cluster, strict=True):
        patients = len(np.unique(cluster))
        centre = own if patients > 1 else overall
        sums.append(_summed(placed - centre[:, None], np.searchsorted(names, cluster), len(names)) / placed.shape[1])
        factors.append(patients / max(patients - 1, 1))
    tens, ones = sums
    cross = tens @ ones.T * (len(names) / max(len(names) - 1, 1))
    return tens @ tens.T * factors[0] + ones @ ones.T * factors[1] + cross + cross.T


def auc_intervals(aucs: AUCs) -> np.ndarray:
    """95 % intervals, (score 2), symmetric on the logit scale so that none leaves [0, 1]."""
    value = aucs.value.clip(1e-9, 1 - 1e-9)
    half = Z95 * np.sqrt(np.diag(aucs.covariance).clip(min=0)) / (value * (1 - value))
    half = np.where((aucs.value > 0) & (aucs.value < 1), half, 0.0)  # perfect separation has no variance to tell of
    logit = np.log(value / (1 - value))
    return 1 / (1 + np.exp(-np.stack([logit - half, logit + half], axis=1)))


def paired_p(aucs: AUCs, first: int, second: int) -> float:
    """Two-sided p of `AUC first = AUC second`; 1 where they never differ."""
    covariance = aucs.covariance
    variance = covariance[first, first] + covariance[second, second] - 2 * covariance[first, second]
    gap = aucs.value[first] - aucs.value[second]
    if variance <= 1e-15:
        return 1.0 if abs(gap) < 1e-12 else 0.0
    return float(2 * norm.sf(abs(gap) / np.sqrt(variance)))


def _summed(values: np.ndarray, cluster: np.ndarray, size: int) -> np.ndarray:
    """Values (score case) summed by cluster, (score cluster)."""
    total = np.zeros((len(values), size))
    np.add.at(total.T, cluster, values.T)
    return total
