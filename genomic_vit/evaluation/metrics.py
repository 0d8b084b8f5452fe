"""How well probabilities tell labels, with intervals by resampling patients.

Every metric takes weights of many bootstrap samples at once and gives one number a sample, so that thousands of
samples cost one pass over sorted cases. tests/test_metrics.py holds them against scikit-learn, sample by sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

REPLICATES = 2000
CUTOFF = 0.5  # where no threshold was chosen
BLOCK = 1 << 22  # numbers held at once while samples are drawn or scored: 32 MB in float64


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


def auc(label: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, ties by half.

    Args:
        label: 0 or 1, (case).
        score: higher where positive, (case).
        weights: how often each case counts in each sample, (sample case).

    Returns:
        (sample), NaN where a sample has one class only.
    """
    positive, negative = _tied(label, score, weights)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return _share((positive * below).sum(axis=1), pairs)


def average_precision(label: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the precision-recall curve as the step-wise sum over thresholds; arguments as `auc`."""
    positive, negative = (part[:, ::-1] for part in _tied(label, score, weights))
    found = np.cumsum(positive, axis=1)
    precision = _share(found, found + np.cumsum(negative, axis=1), otherwise=0.0)
    return _share((positive * precision).sum(axis=1), positive.sum(axis=1))


def brier(label: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared distance of probability and label."""
    return _share(weights @ (score - label) ** 2, weights.sum(axis=1))


def sensitivity(label: np.ndarray, decided: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of positives that `decided` (0 or 1, (case)) calls positive."""
    return _share(weights @ (label * decided), weights @ label)


def specificity(label: np.ndarray, decided: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of negatives that `decided` calls negative."""
    return _share(weights @ ((1 - label) * (1 - decided)), weights @ (1 - label))


def balanced_accuracy(label: np.ndarray, decided: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of sensitivity and specificity."""
    return (sensitivity(label, decided, weights) + specificity(label, decided, weights)) / 2


Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
OF_PROBABILITY: dict[str, Metric] = {"auc": auc, "average_precision": average_precision, "brier": brier}
OF_DECISION: dict[str, Metric] = {
    "sensitivity": sensitivity,
    "specificity": specificity,
    "balanced_accuracy": balanced_accuracy,
}
METRICS = (*OF_PROBABILITY, *OF_DECISION)


def patient_weights(patients: np.ndarray, label: np.ndarray, seed: int, replicates: int = REPLICATES) -> np.ndarray:
    """How often each case counts in each bootstrap sample, (replicates case), uint8.

    Patients are drawn with replacement, those with a positive case and those without apart, so that a sample has as
    many of each as the cohort; all cases of a drawn patient come along. A byte a count: that a patient is drawn 256
    times where once is expected has a probability below 1e-500.
    """
    names, row = np.unique(patients, return_inverse=True)
    positive = np.zeros(len(names), dtype=bool)
    np.logical_or.at(positive, row, np.asarray(label) > 0)
    generator = np.random.default_rng(seed)
    drawn = np.zeros((replicates, len(names)), np.uint8)
    for stratum in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        even = np.full(len(stratum), 1 / max(len(stratum), 1))
        for part in in_blocks(replicates, len(stratum)) if len(stratum) else ():
            drawn[part, stratum] = generator.multinomial(len(stratum), even, size=part.stop - part.start)
    return drawn[:, row]


def in_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of rows that hold BLOCK numbers at most, or one row."""
    step = max(BLOCK // columns, 1)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def resampled(metric: Metric, label: np.ndarray, given: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A metric of every sample, (sample), a block of samples at a time: memory does not grow with their number."""
    parts = in_blocks(*weights.shape)
    return np.concatenate([metric(label, given, weights[part].astype(np.float64)) for part in parts])


def interval(samples: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of a metric's samples, (sample); undefined samples (NaN) are left out."""
    samples = samples[~np.isnan(samples)]
    if not len(samples):
        return float("nan"), float("nan")
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)


def score_with_intervals(
    probability: np.ndarray,
    label: np.ndarray,
    patients: np.ndarray,
    seed: int,
    only: Sequence[str] = METRICS,
    replicates: int = REPLICATES,
    decided: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """Metrics with 95 % percentile intervals from resampled patients (see `patient_weights`).

    Args:
        probability, label: (case); both classes, none missing.
        patients: (case).
        seed: of the resampling.
        only: names of METRICS.
        replicates: bootstrap samples.
        decided: 1 where called positive, (case); None calls so from probability 0.5.

    Returns:
        metric → {value, low, high}.
    """
    decided = (probability >= CUTOFF) if decided is None else decided
    weights = patient_weights(patients, label, seed, replicates)
    once = np.ones((1, len(label)))
    report = {}
    for name in only:
        metric = OF_PROBABILITY.get(name) or OF_DECISION[name]
        given = probability if name in OF_PROBABILITY else decided.astype(float)
        low, high = interval(resampled(metric, label, given, weights))
        report[name] = {"value": float(metric(label, given, once)[0]), "low": low, "high": high}
    return report


def score_cohort(
    probability: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray,
    targets: Sequence[str],
    seed: int,
    only: Sequence[str] = METRICS,
) -> dict[str, dict]:
    """Metrics of each target, by case and by patient, missing labels left out.

    Args:
        probability, labels: (case t), NaN where a label is missing. Any score will do where only="auc" is asked.
        patients: (case).
        targets: names.
        seed: of the bootstrap.
        only: names of METRICS.

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


def _tied(label: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of negatives at each distinct score, rising, each (sample score)."""
    order = np.argsort(score, kind="stable")
    first = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    sorted_weights, sorted_label = weights[:, order], label[order]
    return (
        np.add.reduceat(sorted_weights * sorted_label, first, axis=1),
        np.add.reduceat(sorted_weights * (1 - sorted_label), first, axis=1),
    )


def _share(part: np.ndarray, whole: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), otherwise, dtype=float), where=whole > 0)
