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


def auc(label: np.ndarray, score: np.ndarray, weights: np.ndarray, strata: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve: the share of pairs of a positive and a negative that are in order, ties by half.

    With strata a pair is of one stratum, and each stratum weighs as many pairs as it has: an AUC adjusted for the
    stratum (Janes & Pepe 2009, doi 10.1093/biomet/asp002). Scores of different models, or of sites with other shares of
    positives, are then never ranked against each other; ranked together they may fall far below one half where nothing
    was learnt (Parker et al. 2007, doi 10.1186/1471-2105-8-326). A stratum of one class has no pairs.

    Args:
        label: 0 or 1, (case).
        score: higher where positive, (case).
        weights: how often each case counts in each sample, (sample case).
        strata: (case); None takes all for one.

    Returns:
        (sample), NaN where a sample has no pair.
    """
    positive, negative, begins = _tied(label, score, weights, strata)
    positives, negatives = (np.add.reduceat(part, begins, axis=1) for part in (positive, negative))
    won = (positive * (np.cumsum(negative, axis=1) - negative / 2)).sum(axis=1)
    earlier = np.cumsum(negatives, axis=1) - negatives  # counted as below, but of other strata
    return _share(won - (positives * earlier).sum(axis=1), (positives * negatives).sum(axis=1))


def average_precision(
    label: np.ndarray, score: np.ndarray, weights: np.ndarray, strata: np.ndarray | None = None
) -> np.ndarray:
    """Area under the precision-recall curve as the step-wise sum over thresholds; arguments as `auc`.

    That is the mean over positives of the precision at their score; with strata, of the precision among their own
    stratum, over the strata that have both classes.
    """
    positive, negative, begins = _tied(label, score, weights, strata)
    found = _from_top(positive, begins)
    precision = _share(found, found + _from_top(negative, begins), otherwise=0.0)
    told, whole = positive * precision, positive
    if strata is not None:
        both = np.add.reduceat(negative, begins, axis=1) > 0
        told, whole = (np.add.reduceat(part, begins, axis=1) * both for part in (told, positive))
    return _share(told.sum(axis=1), whole.sum(axis=1))


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


def patient_weights(
    patients: np.ndarray,
    label: np.ndarray,
    seed: int,
    replicates: int = REPLICATES,
    strata: np.ndarray | None = None,
) -> np.ndarray:
    """How often each case counts in each bootstrap sample, (replicates case), uint8.

    Patients are drawn with replacement, those with a positive case and those without apart, so that a sample has as
    many of each as the cohort; all cases of a drawn patient come along. With strata, (case), each of which holds its
    patients whole, a sample has as many of each in every stratum; who is alone of a kind in one, and would be drawn
    once in every sample, is drawn together with others who are. A byte a count: that a patient is drawn 256 times
    where once is expected has a probability below 1e-500.
    """
    names, row = np.unique(patients, return_inverse=True)
    positive = np.zeros(len(names), dtype=bool)
    np.logical_or.at(positive, row, np.asarray(label) > 0)
    kind = np.where(positive, 0, 1)
    if strata is not None:
        stratum = np.zeros(len(names), dtype=int)
        stratum[row] = np.unique(strata, return_inverse=True)[1]
        alone = np.bincount(2 * stratum + kind)[2 * stratum + kind] == 1
        kind += np.where(alone, 0, 2 * (stratum + 1))
    generator = np.random.default_rng(seed)
    drawn = np.zeros((replicates, len(names)), np.uint8)
    for drawn_together in (np.flatnonzero(kind == one) for one in np.unique(kind)):
        size = len(drawn_together)
        for part in in_blocks(replicates, size):
            drawn[part, drawn_together] = generator.multinomial(size, np.full(size, 1 / size), part.stop - part.start)
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


def _tied(
    label: np.ndarray, score: np.ndarray, weights: np.ndarray, strata: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight of positives and of negatives at each distinct score, rising in each stratum, each (sample score).

    The third says at which of them each stratum begins, (stratum).
    """
    order = np.argsort(score, kind="stable") if strata is None else np.lexsort((score, strata))
    is_first = np.diff(score[order], prepend=-np.inf) != 0
    is_next = np.zeros(len(order), dtype=bool)  # first of a stratum
    is_next[:1] = True
    if strata is not None:
        is_next[1:] = strata[order][1:] != strata[order][:-1]
    first = np.flatnonzero(is_first | is_next)
    sorted_weights, sorted_label = weights[:, order], label[order]
    return (
        np.add.reduceat(sorted_weights * sorted_label, first, axis=1),
        np.add.reduceat(sorted_weights * (1 - sorted_label), first, axis=1),
        np.flatnonzero(is_next[first]),
    )


def _from_top(weight: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Sum of each score's weight and of all above it in its stratum, (sample score)."""
    above = np.cumsum(weight[:, ::-1], axis=1)[:, ::-1]
    if len(begins) > 1:
        later = np.pad(above[:, begins[1:]], ((0, 0), (0, 1)))  # of the strata behind
        above = above - np.repeat(later, np.diff(begins, append=weight.shape[1]), axis=1)
    return above


def _share(part: np.ndarray, whole: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), otherwise, dtype=float), where=whole > 0)
