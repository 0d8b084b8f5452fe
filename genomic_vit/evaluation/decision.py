"""Decision curves: whether acting on the model beats acting on all or on none."""

from __future__ import annotations

import numpy as np

THRESHOLDS = np.arange(1, 100) / 100


def net_benefit(
    label: np.ndarray, probability: np.ndarray, weights: np.ndarray, thresholds: np.ndarray = THRESHOLDS
) -> np.ndarray:
    """True positives less false positives at the threshold's odds, each a share of all (Vickers & Elkin 2006).

    Args:
        label: 0 or 1, (case).
        probability: (case).
        weights: (sample case).
        thresholds: probabilities from which one would act, (threshold).

    Returns:
        (sample threshold).
    """
    acted = (probability[:, None] >= thresholds[None, :]).astype(float)  # (case threshold)
    odds = thresholds / (1 - thresholds)
    benefit = (weights * label) @ acted - odds * ((weights * (1 - label)) @ acted)
    return benefit / weights.sum(axis=1, keepdims=True)


def act_on_all(label: np.ndarray, thresholds: np.ndarray = THRESHOLDS) -> np.ndarray:
    """Net benefit of treating everyone as positive, (threshold); acting on none has 0."""
    rate = float(np.mean(label))
    return rate - thresholds / (1 - thresholds) * (1 - rate)
