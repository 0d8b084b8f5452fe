"""Whether the heat lies where the lesion is, against what chance would give."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from genomic_vit.data.slab import Slab
from genomic_vit.evaluation.metrics import interval, patient_weights, resampled


class HeatOnLesion(NamedTuple):
    """Of one case.

    Args:
        share: of the heat that lies in the lesion.
        area: share of the slab that is lesion: what even heat would give, and a random point's chance to hit.
        hit: 1 where the hottest pixel is in the lesion (the pointing game, Zhang et al. 2018), else 0.
    """

    share: float
    area: float
    hit: float


def heat_on_lesion(slab: Slab, heat: np.ndarray) -> HeatOnLesion:
    """How much of a slab's heat (z y x) lies in its lesion; slices that evaluation never looked at do not exist."""
    inside = slab.lesion
    hottest = np.unravel_index(int(np.argmax(heat)), heat.shape)
    return HeatOnLesion(float(heat[inside].sum() / heat.sum()), float(inside.mean()), float(inside[hottest]))


def heat_rows(told: pd.DataFrame, arm: str, seed: int) -> list[dict]:
    """Rows for results.csv: share and hits of an arm, what chance gives, and the differences, over patients.

    Args:
        told: patient, share, area, hit of each case, over seeds.
        arm: name.
        seed: of the bootstrap.
    """
    mean = told.groupby("patient")[["share", "area", "hit"]].mean()
    weights = patient_weights(mean.index.to_numpy(), np.zeros(len(mean)), seed)
    values = {
        "heat_in_lesion": mean["share"],
        "heat_in_lesion_by_chance": mean["area"],
        "heat_in_lesion_beyond_chance": mean["share"] - mean["area"],
        "pointing_game": mean["hit"],
        "pointing_game_beyond_chance": mean["hit"] - mean["area"],
    }
    shared = {"group": "all", "target": "heat", "unit": "patient", "arm": arm, "patients": len(mean)}
    rows = []
    for metric, value in values.items():
        low, high = interval(resampled(_weighted_mean, np.zeros(len(mean)), value.to_numpy(), weights))
        rows.append(shared | {"metric": metric, "value": float(value.mean()), "low": low, "high": high, "note": ""})
    return rows


def _weighted_mean(_: np.ndarray, value: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ value / weights.sum(axis=1)
