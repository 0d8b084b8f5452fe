"""Differences between arms on the same rows: paired bootstrap interval, DeLong's p, and p corrected for all asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from genomic_vit.evaluation.delong import AUCs, paired_p
from genomic_vit.evaluation.metrics import interval
from genomic_vit.evaluation.rows import result_row

HEAT_GAIN, HEAT_RELIANCE = "auc_gain_of_heat", "auc_reliance_on_heat"  # joint less one of these:
RETRAINED = ("heat-zero", "cnn")  # of these, the first that was run
SWAPPED = {"swap-shuffled": "another patient's heat", "swap-zero": "zero"}  # each that was run, and what it was given


class Asked(NamedTuple):
    """AUC of `arm` less that of `other`, told as `metric`."""

    arm: str
    other: str
    metric: str
    note: str = ""


def differences(names: Sequence[str], reference: str, aucs: AUCs, samples: Mapping[str, np.ndarray]) -> list[dict]:
    """Each arm less the reference, and what the heat is worth, with p corrected by Holm over all pairs of arms asked.

    A pair that is asked twice (joint is the reference, and the heat's gain is joint less the CNN) is one comparison.

    Args:
        names: arms in the order of `aucs`.
        reference: name; where it is not among them, only the heat's differences are told.
        aucs: of all arms on the same rows.
        samples: arm → AUC of each bootstrap sample, the same samples for all.
    """
    asked = _asked(names, reference)
    if not asked:
        return []
    place = {name: number for number, name in enumerate(names)}
    raw = {frozenset(one[:2]): paired_p(aucs, place[one.arm], place[one.other]) for one in asked}
    holm = dict(zip(raw, multipletests(list(raw.values()), method="holm")[1], strict=True))
    told = []
    for one in asked:
        gap = aucs.value[place[one.arm]] - aucs.value[place[one.other]]
        spread, pair = interval(samples[one.arm] - samples[one.other]), frozenset(one[:2])
        told.append(result_row(one.arm, one.metric, gap, *spread, p=raw[pair], p_holm=holm[pair], note=one.note))
    return told


def correct_over_targets(results: pd.DataFrame) -> pd.DataFrame:
    """The results with p_holm of what the heat is worth corrected by Holm over the targets too, in each group and unit.

    The p given to it are those corrected over arms, so that no verdict stands where the table of its target has none.
    """
    results = results.copy()
    heat = results[results["metric"].isin([HEAT_GAIN, HEAT_RELIANCE])]
    for _, family in heat.groupby(["group", "unit", "metric", "note"]):
        if len(family) > 1:
            results.loc[family.index, "p_holm"] = multipletests(family["p_holm"].astype(float), method="holm")[1]
    return results


def _asked(names: Sequence[str], reference: str) -> list[Asked]:
    asked = []
    if reference in names:
        asked += [Asked(name, reference, "auc_difference") for name in names if name != reference]
    retrained = next((arm for arm in RETRAINED if arm in names), None)
    for other, metric in ((retrained, HEAT_GAIN), *((swapped, HEAT_RELIANCE) for swapped in SWAPPED)):
        if "joint" in names and other in names:
            asked.append(Asked("joint", other, metric, f"less {other}"))
    return asked
