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


def delong(label: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None) -> AUCs:
    """AUCs and their covariance, from midranks in O(n log n) a score (Sun & Xu 2014, doi 10.1109/LSP.2014.2337313).

    Args:
        label: 0 or 1, both present, (case).
        scores: (score case).
        patients: (case); cases of one patient are then summed before they are squared (Obuchowski 1997,
            doi 10.2307/2533958). With one case a patient, or None, this is DeLong 1988.

    Raises:
        ValueError: fewer than two positive or two negative patients.
    """
    positive = np.asarray(label) == 1
    cluster = np.arange(len(label)) if patients is None else np.unique(patients, return_inverse=True)[1]
    m, n = int(positive.sum()), int((~positive).sum())
    with_positive, with_negative = (len(np.unique(cluster[part])) for part in (positive, ~positive))
    if min(with_positive, with_negative) < 2:
        raise ValueError(f"delong: {with_positive} positive and {with_negative} negative patients; two are needed")
    ranks = rankdata(scores, axis=1)  # midranks among all
    over = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / n  # share of negatives below each positive
    under = 1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / m
    value = over.mean(axis=1)
    size = int(cluster.max()) + 1
    tens = _summed(over - value[:, None], cluster[positive], size)
    ones = _summed(under - value[:, None], cluster[~positive], size)
    both = len(np.unique(cluster))
    cross = tens @ ones.T * (both / (both - 1)) / (m * n)
    covariance = (
        tens @ tens.T * (with_positive / (with_positive - 1)) / m**2
        + ones @ ones.T * (with_negative / (with_negative - 1)) / n**2
        + cross
        + cross.T
    )
    return AUCs(value, covariance)


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
