"""Modes as data: lists of stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from genomic_vit.config import TrainingConfig
from genomic_vit.models.genomic_vit import GenomicViTOutput
from genomic_vit.models.heat_sources import HeatSource, none, rollout
from genomic_vit.training.losses import Truth, cnn_loss, lesion_loss, vit_loss

Loss = Callable[[GenomicViTOutput, Truth], Tensor]


@dataclass(frozen=True)
class Stage:
    """One phase of training.

    Args:
        name: of its logs and checkpoints.
        learns: children of GenomicViT that learn; the others are frozen, in evaluation mode. The rollout has something
            to learn only where its residual is learnt.
        losses: (weight, loss) pairs whose sum is minimised.
        judged_by: the logits that validation scores.
        heat: what the CNN is given as heat.
    """

    name: str
    learns: tuple[Literal["vit", "rollout", "cnn"], ...]
    losses: tuple[tuple[float, Loss], ...]
    judged_by: Literal["logits", "vit_logits"]
    heat: HeatSource = rollout


def schedule(mode: Literal["joint", "staged", "vit", "cnn"], config: TrainingConfig) -> tuple[Stage, ...]:
    """The stages of a mode.

    joint: cnn loss + lambda vit loss + mu lesion loss, ViT and CNN together.
    staged: the ViT by its own head (+ mu lesion loss), then, frozen, the CNN on its heat.
    vit, cnn: one of them alone, for comparison: the ViT by its own head, the CNN on the grid without heat.
    """
    lesion = ((config.lesion_weight, lesion_loss),) if config.lesion_weight else ()
    return {
        "joint": (
            Stage(
                "joint", ("vit", "rollout", "cnn"), ((1.0, cnn_loss), (config.vit_weight, vit_loss), *lesion), "logits"
            ),
        ),
        "staged": (
            Stage("vit", ("vit",), ((1.0, vit_loss), *lesion), "vit_logits"),
            Stage("cnn", ("rollout", "cnn"), ((1.0, cnn_loss),), "logits"),
        ),
        "vit": (Stage("vit", ("vit",), ((1.0, vit_loss), *lesion), "vit_logits"),),
        "cnn": (Stage("cnn", ("cnn",), ((1.0, cnn_loss),), "logits", heat=none),),
    }[mode]
