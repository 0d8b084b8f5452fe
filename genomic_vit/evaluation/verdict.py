"""What the numbers say of the heat, in one sentence that follows from them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import pandas as pd

from genomic_vit.evaluation.comparison import ALL, HEAT_GAIN, HEAT_RELIANCE, RETRAINED

Outcome = Literal["helps", "hurts", "cannot tell", "not asked"]


class Verdict(NamedTuple):
    """An outcome, and the sentence that says it with its numbers."""

    outcome: Outcome
    sentence: str


def heat_verdict(results: pd.DataFrame, target: str, unit: str) -> Verdict:
    """Whether the heat helps: joint against the CNN trained with zero in the heat channel, or on the grid alone.

    It helps or hurts where the 95 % interval of the paired difference excludes zero; else it cannot be told. Heat
    replaced at test time alone shows whether a trained network relies on it, not whether training with it helps.

    Args:
        results: of `compare`.
        target: name.
        unit: patient or case.
    """
    here = results[(results["group"] == ALL) & (results["target"] == target) & (results["unit"] == unit)]
    gain, reliance = (_row(here, metric) for metric in (HEAT_GAIN, HEAT_RELIANCE))
    relies = f" {_relies(reliance)}" if reliance is not None else ""
    if gain is None:
        sentence = (
            f"{target}: whether training with the heat helps was not asked (it needs the arms joint and "
            f"{' or '.join(RETRAINED)})."
        )
        return Verdict("not asked", sentence + relies)
    arm = gain["note"].removeprefix("less ")
    joint, without = (_auc(here, name) for name in ("joint", arm))
    outcome: Outcome = "helps" if gain["low"] > 0 else "hurts" if gain["high"] < 0 else "cannot tell"
    begins = {
        "helps": f"{target}: the heat helps",
        "hurts": f"{target}: the heat hurts",
        "cannot tell": f"{target}: whether the heat helps cannot be told from these {int(gain['patients'])} patients",
    }[outcome]
    compared = (
        f"joint reaches AUC {joint:.3f}, the same CNN trained without heat ({arm}) {without:.3f}, "
        f"difference {_signed(gain)}"
    )
    return Verdict(outcome, f"{begins}: {compared}.{relies}")


def _relies(row: pd.Series) -> str:
    said = "loses AUC" if row["low"] > 0 else "gains AUC" if row["high"] < 0 else "cannot be told to lose or gain AUC"
    return f"Tested with zero in place of its heat, the trained network {said}: difference {_signed(row)}."


def _signed(row: pd.Series) -> str:
    return f"{row['value']:+.3f} (95 % interval {row['low']:+.3f} to {row['high']:+.3f})"


def _row(results: pd.DataFrame, metric: str) -> pd.Series | None:
    found = results[results["metric"] == metric]
    return found.iloc[0] if len(found) else None


def _auc(results: pd.DataFrame, arm: str) -> float:
    return float(results[(results["metric"] == "auc") & (results["arm"] == arm)]["value"].iloc[0])
