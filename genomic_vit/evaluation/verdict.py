"""What the numbers say of the heat, in one sentence that follows from them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import pandas as pd

from genomic_vit.evaluation.comparison import ALL
from genomic_vit.evaluation.differences import HEAT_GAIN, HEAT_RELIANCE, RETRAINED, SWAPPED
from genomic_vit.evaluation.result_text import p_text

LEVEL = 0.05  # of p, corrected over arms and targets
Outcome = Literal["helps", "hurts", "cannot tell", "not asked"]


class Verdict(NamedTuple):
    """An outcome, and the sentence that says it with its numbers."""

    outcome: Outcome
    sentence: str


def heat_verdict(results: pd.DataFrame, target: str, unit: str, seeds: int) -> Verdict:
    """Whether the heat helps: joint against the CNN trained with zero in the heat channel, or on the grid alone.

    It helps or hurts where the 95 % interval of the paired difference excludes zero and p, corrected over the arms and
    targets of the comparison, is below LEVEL; else it cannot be told. Heat replaced at test time alone shows whether a
    trained network relies on it, not whether training with it helps.

    Args:
        results: of `compare`.
        target: name.
        unit: patient or case.
        seeds: trainings behind each answer.
    """
    here = results[(results["group"] == ALL) & (results["target"] == target) & (results["unit"] == unit)]
    gain = _row(here, HEAT_GAIN)
    relies = _relies(here)
    if gain is None:
        sentence = (
            f"{target}: whether training with the heat helps was not asked (it needs the arms joint and "
            f"{' or '.join(RETRAINED)})."
        )
        return Verdict("not asked", sentence + relies)
    arm = gain["note"].removeprefix("less ")
    joint, without = (_auc(here, name) for name in ("joint", arm))
    outcome: Outcome = {1: "helps", -1: "hurts", 0: "cannot tell"}[_sign(gain)]
    begins = {
        "helps": f"{target}: the heat helps",
        "hurts": f"{target}: the heat hurts",
        "cannot tell": f"{target}: whether the heat helps cannot be told from these {int(gain['patients'])} patients",
    }[outcome]
    compared = (
        f"joint reaches AUC {joint:.3f}, the same CNN trained without heat ({arm}) {without:.3f}, "
        f"difference {_signed(gain)}"
    )
    return Verdict(outcome, f"{begins}: {compared}. {_trainings(seeds)}{relies}")


def _trainings(seeds: int) -> str:
    if seeds == 1:
        return "This is of these trained networks, one seed: what another training would give is in neither number."
    return f"Answers are means over {seeds} seeds; interval and p speak of other patients, not of other trainings."


def _relies(here: pd.DataFrame) -> str:
    """What the trained network does with other heat, a blank before each sentence; first with heat that looks alike."""
    said = []
    for swapped, given in SWAPPED.items():
        row = _row(here[here["note"] == f"less {swapped}"], HEAT_RELIANCE) if "note" in here else None
        if row is not None:
            what = {1: "loses AUC", -1: "gains AUC", 0: "cannot be told to lose or gain AUC"}[_sign(row)]
            said.append(
                f"Tested with {given} in place of its own, the trained network {what}: difference {_signed(row)}"
                f"{_within(here, swapped)}."
            )
    return "".join(f" {sentence}" for sentence in said)


def _within(here: pd.DataFrame, swapped: str) -> str:
    """The same over pairs within a fold: swapped heat may move the answers of each fold's network another way."""
    aucs = here[here["metric"] == "auc_within_folds"].set_index("arm")["value"]
    if "joint" not in aucs or swapped not in aucs:
        return ""
    return f", over pairs within a fold {aucs['joint'] - aucs[swapped]:+.3f}"


def _sign(row: pd.Series) -> int:
    """1 or -1 where interval and corrected p agree that the difference is above or below zero, else 0."""
    if not row["p_holm"] < LEVEL:
        return 0
    return 1 if row["low"] > 0 else -1 if row["high"] < 0 else 0


def _signed(row: pd.Series) -> str:
    interval = f"95 % interval {row['low']:+.3f} to {row['high']:+.3f}"
    return f"{row['value']:+.3f} ({interval}, corrected p {p_text(row['p_holm'])})"


def _row(results: pd.DataFrame, metric: str) -> pd.Series | None:
    found = results[results["metric"] == metric]
    return found.iloc[0] if len(found) else None


def _auc(results: pd.DataFrame, arm: str) -> float:
    return float(results[(results["metric"] == "auc") & (results["arm"] == arm)]["value"].iloc[0])
