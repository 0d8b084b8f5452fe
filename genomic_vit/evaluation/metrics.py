"""How well probabilities tell labels, with intervals by resampling patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import sklearn
from sklearn.metrics import average_precision_score, roc_auc_score

REPLICATES = 2000


def by_patient(
    probability: np.ndarray, label: np.ndarray, patients: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One row a patient: the mean probability of the cases, positive where any case is.

    Args:
        probability, label: (case), labels 0 or 1.
        patients: (case).

    Returns:
        probability, label, patient, each (patient).
    """
    names, row = np.unique(patients, return_inverse=True)
    mean = np.bincount(row, weights=probability) / np.bincount(row)
    positive = np.zeros(len(names))
    np.maximum.at(positive, row, label)
    return mean, positive, names


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "auc": lambda label, probability: roc_auc_score(label, probability),
    "average_precision": lambda label, probability: average_precision_score(label, probability),
    "brier": lambda label, probability: np.mean((probability - label) ** 2),
    "sensitivity": lambda label, probability: np.mean(probability[label == 1] >= 0.5),
    "specificity": lambda label, probability: np.mean(probability[label == 0] < 0.5),
}


def score_with_intervals(
    probability: np.ndarray,
    label: np.ndarray,
    patients: np.ndarray,
    seed: int,
    only: Sequence[str] = tuple(METRICS),
    replicates: int = REPLICATES,
) -> dict[str, dict[str, float]]:
    """Metrics with 95 % percentile intervals from resampled patients (all cases of a drawn patient come along).

    Args:
        probability, label: (case); both classes, none missing.
        patients: (case).
        seed: of the resampling.
        only: keys of METRICS; sensitivity and specificity are at 0.5.
        replicates: bootstrap samples; those with one class only are left out.

    Returns:
        metric → {value, low, high}.
    """
    _, row = np.unique(patients, return_inverse=True)
    cases_of = [np.flatnonzero(row == patient) for patient in range(row.max() + 1)]
    generator = np.random.default_rng(seed)
    draws = []
    with sklearn.config_context(skip_parameter_validation=True, assume_finite=True):
        for _ in range(replicates):
            index = np.concatenate([cases_of[i] for i in generator.integers(len(cases_of), size=len(cases_of))])
            y, p = label[index], probability[index]
            if 0 < y.sum() < len(y):
                draws.append([METRICS[name](y, p) for name in only])
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return {
        name: {"value": float(METRICS[name](label, probability)), "low": float(low[k]), "high": float(high[k])}
        for k, name in enumerate(only)
    }


def score_cohort(
    probability: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray,
    targets: Sequence[str],
    seed: int,
    only: Sequence[str] = tuple(METRICS),
) -> dict[str, dict]:
    """Metrics of each target, by case and by patient, missing labels left out.

    Args:
        probability, labels: (case t), NaN where a label is missing. Any score will do where only="auc" is asked.
        patients: (case).
        targets: names.
        seed: of the bootstrap.
        only: keys of METRICS.

    Returns:
        target → {counts, by_case, by_patient}; a target with one class only has the counts and a `reason`.
    """
    report = {}
    for column, target in enumerate(targets):
        known = ~np.isnan(labels[:, column])
        p, y, who = probability[known, column], labels[known, column], patients[known]
        counts = {"cases": len(y), "patients": len(set(who)), "positive": int(y.sum()), "missing": int((~known).sum())}
        if not 0 < y.sum() < len(y):
            report[target] = {"counts": counts, "reason": "one class only: no metric is defined"}
            continue
        report[target] = {
            "counts": counts,
            "by_case": score_with_intervals(p, y, who, seed, only),
            "by_patient": score_with_intervals(*by_patient(p, y, who), seed, only),
        }
    return report
