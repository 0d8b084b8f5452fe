"""Whether a probability of 0.3 comes true three times in ten; and how scores are made into such probabilities."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from genomic_vit.evaluation.metrics import CUTOFF, in_blocks

BINS = 10
DRAWS = 500  # of labels from probabilities
CLIP = 1e-4  # probabilities nearer to 0 or 1 count as this near
LEAST_SLOPE = 0.05  # calibration may flatten a score, never turn its order round


class OperatingPoint(NamedTuple):
    """Chosen on the inner part: probability = sigmoid(slope logit(score) + intercept), positive from the threshold."""

    slope: float
    intercept: float
    threshold: float

    def calibrate(self, score: np.ndarray) -> np.ndarray:
        """Probabilities of scores in (0, 1)."""
        return 1 / (1 + np.exp(-(self.slope * logit(score) + self.intercept)))


def choose_operating_point(score: np.ndarray, label: np.ndarray) -> OperatingPoint:
    """Platt's calibration, and the threshold of the largest balanced accuracy (Youden), on cases set apart for it.

    Args:
        score: in (0, 1), (case).
        label: 0 or 1, (case). With one class only nothing can be chosen: the score stays, the threshold is 0.5.
    """
    if not 0 < label.sum() < len(label):
        return OperatingPoint(1.0, 0.0, CUTOFF)
    x = logit(score)
    fitted = LogisticRegression(C=1.0).fit(x[:, None], label)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope < LEAST_SLOPE:
        slope, rate = LEAST_SLOPE, float(label.mean())
        intercept = float(np.log(rate / (1 - rate)) - slope * x.mean())
    point = OperatingPoint(slope, intercept, CUTOFF)
    return point._replace(threshold=_youden(point.calibrate(score), label))


def logit(probability: np.ndarray) -> np.ndarray:
    """log(p / (1 − p)), p clipped to [CLIP, 1 − CLIP]."""
    p = np.clip(probability, CLIP, 1 - CLIP)
    return np.log(p / (1 - p))


class Calibration(NamedTuple):
    """value, low, high of slope (1 is right) and of calibration-in-the-large (0 is right); NaN where not estimable."""

    slope: tuple[float, float, float]
    intercept: tuple[float, float, float]


def calibration_lines(label: np.ndarray, probability: np.ndarray, patients: np.ndarray) -> Calibration:
    """Logistic recalibration (Cox 1958; Van Calster et al. 2019, doi 10.1186/s12916-019-1466-7), 95 % intervals.

    The slope is that of label on logit(p); the intercept is fitted with the slope held at one. Standard errors are
    robust to several cases a patient.
    """
    import statsmodels.api as sm  # a second to import, so only where it is asked
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    x = logit(probability)
    robust = {"cov_type": "cluster", "cov_kwds": {"groups": np.unique(patients, return_inverse=True)[1]}}
    nothing = (float("nan"),) * 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", PerfectSeparationWarning)
        try:
            large = sm.GLM(label, np.ones((len(x), 1)), family=sm.families.Binomial(), offset=x).fit(**robust)
            if np.ptp(x) < 1e-9:
                return Calibration(nothing, _line(large, 0))
            sloped = sm.GLM(label, sm.add_constant(x), family=sm.families.Binomial()).fit(**robust)
        except (PerfectSeparationWarning, np.linalg.LinAlgError):
            return Calibration(nothing, nothing)
    return Calibration(_line(sloped, 1), _line(large, 0))


def calibration_bins(
    label: np.ndarray, probability: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, share of positives and count of `bins` equally filled bins (fewer where ties fill them).

    Returns:
        each (bin).
    """
    row = assign_bins(probability, bins)
    count = np.bincount(row)
    return (
        np.bincount(row, weights=probability) / count,
        np.bincount(row, weights=label) / count,
        count,
    )


def expected_calibration_error(
    label: np.ndarray, probability: np.ndarray, weights: np.ndarray, bins: int = BINS
) -> np.ndarray:
    """Mean over cases of |probability − share of positives| of their bin; weights (sample case), result (sample).

    Chance keeps it above 0 where every probability is right, and a bootstrap adds its own chance to that; so it is told
    beside `calibration_error_by_chance`, without an interval. Labels may be those of each sample, (sample case).
    """
    row = assign_bins(probability, bins)
    member = np.eye(row.max() + 1)[row]  # (case bin)
    gap = np.abs((weights * (probability - label)) @ member)
    return gap.sum(axis=1) / weights.sum(axis=1)


def calibration_error_by_chance(probability: np.ndarray, seed: int, draws: int = DRAWS) -> np.ndarray:
    """Expected calibration errors where every probability is right: of labels drawn from them, (draw).

    The consistency resampling of Bröcker & Smith 2007 (doi 10.1175/WAF993.1), for the error in place of the diagram.
    Rows are drawn apart from each other; where a patient has several, their labels go together and chance is larger.
    """
    generator = np.random.default_rng(seed)
    errors = []
    for part in in_blocks(draws, len(probability)):
        label = generator.random((part.stop - part.start, len(probability))) < probability
        errors.append(expected_calibration_error(label, probability, np.ones((1, len(probability)))))
    return np.concatenate(errors)


def assign_bins(probability: np.ndarray, bins: int) -> np.ndarray:
    """Bin of each case, (case), counted from 0; equal probabilities share a bin."""
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, probability, side="left"), return_inverse=True)[1]


def _youden(probability: np.ndarray, label: np.ndarray) -> float:
    false_positive, true_positive, cut = roc_curve(label, probability, drop_intermediate=False)
    best = int(np.argmax(true_positive - false_positive))
    if best == 0:  # nothing is better than calling none positive
        return CUTOFF
    below = cut[best + 1] if best + 1 < len(cut) else 0.0
    return float((cut[best] + below) / 2)


def _line(fitted: object, place: int) -> tuple[float, float, float]:
    low, high = fitted.conf_int()[place]
    return float(fitted.params[place]), float(low), float(high)
