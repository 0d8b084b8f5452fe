"""Decision curves: whether acting on the model beats acting on all or on none."""

from __future__ import annotations

from functools import partial

import numpy as np

from genomic_vit.evaluation.metrics import interval, patient_weights, resampled
from genomic_vit.evaluation.rows import Rows, result_row

THRESHOLDS = np.arange(1, 100) / 100  # of the drawn curve
TOLD = np.array([0.05, 0.1, 0.2, 0.3, 0.5])  # written to results.csv with intervals
ACT_ON_ALL = "act on all"


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


def decision_rows(rows: Rows, seed: int) -> list[dict]:
    """Net benefit at TOLD of each arm and of acting on all, with intervals from resampled patients.

    Net benefit moves with the share of positives, so that patients are drawn whatever their label (in every other
    interval both kinds keep their number); within their site where sites are held out.
    """
    weights = patient_weights(rows.patients, np.zeros(len(rows.label)), seed, strata=rows.strata)
    metric, told = partial(net_benefit, thresholds=TOLD), []
    for name, p in (rows.probability | {ACT_ON_ALL: np.ones(len(rows.label))}).items():
        value = metric(rows.label, p, np.ones((1, len(p))))[0]
        samples = resampled(metric, rows.label, p, weights)  # (sample threshold)
        for place, threshold in enumerate(TOLD):
            told.append(result_row(name, net_benefit_at(threshold), value[place], *interval(samples[:, place])))
    return told


def net_benefit_at(threshold: float) -> str:
    """Name of the metric in results.csv."""
    return f"net_benefit@{threshold:.2f}"
