"""Modes as data: lists of stages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from genomic_vit.config import TrainingConfig
from genomic_vit.models.genomic_vit import GenomicViT
from genomic_vit.models.heat_sources import HeatSource, none, rollout
from genomic_vit.training.losses import StageOutput, Truth, cnn_loss, lesion_loss, vit_loss

Loss = Callable[[StageOutput, Truth], Tensor]


@dataclass(frozen=True)
class Stage:
    """One phase of training.

    Args:
        name: of its logs and checkpoints.
        learns: children of GenomicViT that learn; the others are frozen, in evaluation mode. The rollout has something
            to learn only where its residual is learnt.
        losses: (weight, loss) pairs whose sum is minimised.
        judged_by: the logits that validation scores.
        computes: parts of GenomicViT's output that losses and judge need; the others are not computed.
        heat: what the CNN is given as heat; without "heat" in `computes`, one that reads none.
    """

    name: str
    learns: tuple[Literal["vit", "rollout", "cnn"], ...]
    losses: tuple[tuple[float, Loss], ...]
    judged_by: Literal["logits", "vit_logits"]
    computes: tuple[Literal["vit_logits", "heat", "logits"], ...] = ("vit_logits", "heat", "logits")
    heat: HeatSource = rollout


def schedule(mode: Literal["joint", "staged", "vit", "cnn"], config: TrainingConfig) -> tuple[Stage, ...]:
    """The stages of a mode.

    joint: cnn loss + lambda vit loss + mu lesion loss, ViT and CNN together.
    staged: the ViT by its own head (+ mu lesion loss), then, frozen, the CNN on its heat.
    vit, cnn: one of them alone, for comparison: the ViT by its own head, the CNN on the grid without heat.
    """
    lesion = ((config.lesion_weight, lesion_loss),) if config.lesion_weight else ()
    vit = Stage(
        "vit",
        ("vit",),
        ((1.0, vit_loss), *lesion),
        "vit_logits",
        computes=("vit_logits", "heat") if lesion else ("vit_logits",),
    )
    return {
        "joint": (
            Stage(
                "joint", ("vit", "rollout", "cnn"), ((1.0, cnn_loss), (config.vit_weight, vit_loss), *lesion), "logits"
            ),
        ),
        "staged": (
            vit,
            Stage("cnn", ("rollout", "cnn"), ((1.0, cnn_loss),), "logits"),
        ),
        "vit": (vit,),
        "cnn": (Stage("cnn", ("cnn",), ((1.0, cnn_loss),), "logits", computes=("logits",), heat=none),),
    }[mode]


def look(
    model: GenomicViT,
    stage: Stage,
    grid: Tensor,
    lesion: Tensor,
    case: Tensor,
    section: Callable[[str], AbstractContextManager] = nullcontext,
) -> StageOutput:
    """What the network says of grids (b 1 H W), as far as the stage needs it.

    Args:
        model: whole.
        stage: says what is computed, and what the CNN is given as heat.
        grid: in [0, 1].
        lesion: share of lesion in each pixel, (b 1 H W).
        case: whose grid it is, (b).
        section: told where vit, rollout and cnn begin and end, for a profile.
    """
    with section("vit"):
        rolled = "heat" in stage.computes
        seen = model.vit(grid, keep_rows=rolled) if rolled or "vit_logits" in stage.computes else None
    with section("rollout"):
        # no check of values: a step waits for none, and a loss that is not finite tells its cases (training/finite.py)
        heat = model.heat(seen.attention, grid.shape[-2:], check=False) if rolled else None
    with section("cnn"):
        logits = model.answer(grid, stage.heat(heat, lesion, case)) if "logits" in stage.computes else None
    return StageOutput(logits, None if seen is None else seen.logits, heat)
