"""The ROC curve whose area is the AUC of `metrics.auc`, strata or none."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_curve

GRID = np.linspace(0, 1, 1001)


def roc(label: np.ndarray, score: np.ndarray, strata: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates, each (point); with strata the mean of their curves, weighted by pairs.

    Each stratum's own cut at each false positive rate: the ROC curve adjusted for the stratum (Janes & Pepe 2009, doi
    10.1093/biomet/asp002). Strata of one class are left out.

    Args:
        label: 0 or 1, both in one stratum at least, (case).
        score: (case).
        strata: (case); None takes all for one.
    """
    if strata is None:
        false_positive, true_positive, _ = roc_curve(label, score)
        return false_positive, true_positive
    total, pairs = np.zeros(len(GRID)), 0
    for stratum in np.unique(strata):
        here = strata == stratum
        own = int(label[here].sum() * (1 - label[here]).sum())
        if own:
            total += own * np.interp(GRID, *roc_curve(label[here], score[here])[:2])
            pairs += own
    return np.append(0, GRID), np.append(0, total / pairs)
