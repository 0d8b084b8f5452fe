"""Whether heat follows the patient's lesion, against other patients' heat laid on that lesion, and against its area.

A slab is cut around its lesion. Heat that never saw the image, if only strongest in the middle of the tile, therefore
lies on the lesion far more than the lesion's area would have it. What such heat gives is told by the heat that the same
network made for the other patients of the fold, laid on this lesion: that is chance here. Heat is laid stack on stack,
as the network made it: the slab of a long lesion has more strided stacks of nine, and each of them gets the other
patient's stack at the same relative depth, as where heat is shuffled (`given_heat`). Heat that depends on nothing but
the place in its stack is then the same as any other patient's, and lies beyond chance by exactly 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from genomic_vit.data.grid import join_stacks, stack_starts
from genomic_vit.evaluation.given_heat import same_depth
from genomic_vit.evaluation.metrics import interval, patient_weights, resampled

COLUMNS = ("share", "hit", "area", "share_of_others", "hit_of_others", "share_on_others", "hit_on_others")
BLOCK = 64  # cases whose heat is laid at once: 16 MB at 15 slices of 64 × 64


def heat_on_lesions(
    heats: Sequence[np.ndarray], lesions: Sequence[np.ndarray], patients: np.ndarray, stride: int
) -> pd.DataFrame:
    """How much of each case's heat lies in its lesion, and how much every other patient's would: one row a case.

    Every pair of cases is looked at. Other patients count alike, however many cases they have.

    Args:
        heats: of each case's strided stacks (stack 9 y x), all made by one network.
        lesions: of each case, bool (z y x).
        patients: (case).
        stride: slices between stacks.

    Returns:
        COLUMNS. share: of the heat that lies in the lesion; hit: 1 where the hottest pixel is in it, else 0 (the
        pointing game, Zhang et al. 2018); area: share of the slab that is lesion, which even heat would give;
        share_of_others, hit_of_others: of other patients' heat on this lesion, NaN where there is no other patient;
        share_on_others, hit_on_others: of this heat on other patients' lesions.
    """
    names, who = np.unique(patients, return_inverse=True)
    weight = 1 / np.bincount(who)[who] / max(len(names) - 1, 1)
    slices = np.array([len(lesion) for lesion in lesions])
    told = {name: np.zeros(len(lesions)) for name in COLUMNS}
    told["area"] += [lesion.mean() for lesion in lesions]
    for depth in np.unique(slices):
        of = np.flatnonzero(slices == depth)
        inside = np.stack([lesions[case].ravel() for case in of]).astype(np.float32)
        for start in range(0, len(heats), BLOCK):
            by = np.arange(start, min(start + BLOCK, len(heats)))
            laid = np.stack([lay(heats[case], depth, stride).ravel() for case in by])
            pairs = {"share": inside @ laid.T / laid.sum(axis=1, dtype=float), "hit": inside[:, laid.argmax(axis=1)]}
            other = who[of][:, None] != who[by]
            lesion, own = np.nonzero(of[:, None] == by)
            for name, pair in pairs.items():
                told[name][by[own]] = pair[lesion, own]
                told[f"{name}_of_others"][of] += (pair * other) @ weight[by]
                told[f"{name}_on_others"][by] += weight[of] @ (pair * other)
    table = pd.DataFrame(told)
    if len(names) == 1:
        table[[name for name in COLUMNS if name.endswith("_others")]] = np.nan
    return table


def lay(heat: np.ndarray, slices: int, stride: int) -> np.ndarray:
    """A case's heat of strided stacks (stack 9 y x) on a slab of any number of slices (z y x), its own or another's."""
    starts = stack_starts(slices, stride)
    return join_stacks(heat[same_depth(len(starts), len(heat))], starts, slices)


def heat_rows(told: pd.DataFrame, arm: str, seed: int) -> list[dict]:
    """Rows for results.csv: share and hits of an arm, what chance gives, and what lies beyond chance and beyond area.

    A patient enters the mean beyond chance twice: by the lesion, and as another one whose heat is laid on lesions.
    What is resampled holds both, or the interval would count that some patients' heat is sharper, which moves heat and
    chance alike. With h_pq the share of p's heat on q's lesion, and n patients in the fold, p's part is
    (h_pp - mean_q h_qp - mean_q h_pq + mean_pq h_pq) n / (n - 1), means over all patients, p too: its mean over p is
    exactly that of h_pp less other patients' h_qp, and it is 0 for each p where heat never saw the image.

    Args:
        told: seed, fold, patient and COLUMNS of each case.
        arm: name.
        seed: of the bootstrap.
    """
    by_fold = told.groupby(["seed", "fold", "patient"])[list(COLUMNS)].mean()
    n = by_fold["share"].groupby(["seed", "fold"]).transform("size")
    for name in ("share", "hit"):
        own = by_fold[name]
        of_all, on_all = (own / n + by_fold[f"{name}_{how}_others"] * (n - 1) / n for how in ("of", "on"))
        mean = of_all.groupby(["seed", "fold"]).transform("mean")
        by_fold[f"{name}_beyond"] = (own - of_all - on_all + mean) * n / (n - 1)
    mean = by_fold.groupby("patient").mean()
    values = {
        "heat_in_lesion": mean["share"],
        "heat_in_lesion_by_chance": mean["share_of_others"],
        "heat_in_lesion_beyond_chance": mean["share_beyond"],
        "heat_in_lesion_by_area": mean["area"],
        "heat_in_lesion_beyond_area": mean["share"] - mean["area"],
        "pointing_game": mean["hit"],
        "pointing_game_by_chance": mean["hit_of_others"],
        "pointing_game_beyond_chance": mean["hit_beyond"],
        "pointing_game_beyond_area": mean["hit"] - mean["area"],
    }
    shared = {"group": "all", "target": "heat", "unit": "patient", "arm": arm}
    rows = {metric: _mean_over_patients(value.dropna(), seed) for metric, value in values.items()}
    for metric, name in (("heat_in_lesion", "share_beyond"), ("pointing_game", "hit_beyond")):
        networks = by_fold[name].groupby(["seed", "fold"]).mean()
        spread = {"value": networks.mean(), "low": networks.min(), "high": networks.max()}
        rows[f"{metric}_beyond_chance_of_networks"] = spread | {
            "note": "one network a fold and seed; low, high: of them"
        }
    return [shared | {"metric": metric} | row for metric, row in rows.items()]


def _mean_over_patients(value: pd.Series, seed: int) -> dict:
    """Mean of (patient) values with its interval."""
    if not len(value):
        note = "no patient has another in its fold"
        return {"patients": 0, "value": np.nan, "low": np.nan, "high": np.nan, "note": note}
    weights = patient_weights(value.index.to_numpy(), np.zeros(len(value)), seed)
    low, high = interval(resampled(_weighted_mean, np.zeros(len(value)), value.to_numpy(), weights))
    return {"patients": len(value), "value": float(value.mean()), "low": low, "high": high, "note": ""}


def _weighted_mean(_: np.ndarray, value: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ value / weights.sum(axis=1)
