"""What a stage minimises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genomic_vit.training.ranks import mean_everywhere

Mean = Callable[[Tensor, Tensor], Tensor]
"""(sum, number of known labels or images it is over) → their mean."""


def mean_here(summed: Tensor, known: Tensor) -> Tensor:
    """The mean over what is known here; 0 where nothing is."""
    return summed / known.clamp(min=1)


class StageOutput(NamedTuple):
    """What the losses judge, as `GenomicViTOutput` has it; None where the stage does not compute it."""

    logits: Float[Tensor, "b t"] | None
    vit_logits: Float[Tensor, "b t"] | None
    heat: Float[Tensor, "b 1 H W"] | None


@dataclass(frozen=True, eq=False)
class Truth:
    """What the losses compare with.

    Args:
        labels: 0, 1, or NaN where missing, (b t).
        lesion: share of lesion in each grid pixel, (b 1 H W).
        positive_weight: weight of a positive label, (t).
    """

    labels: Float[Tensor, "b t"]
    lesion: Float[Tensor, "b 1 H W"]
    positive_weight: Float[Tensor, " t"]


def masked_bce(
    logits: Float[Tensor, "b t"],
    labels: Float[Tensor, "b t"],
    positive_weight: Float[Tensor, " t"],
    mean: Mean = mean_here,
) -> Float[Tensor, ""]:
    """Binary cross-entropy over the labels that are there; a missing one (NaN) weighs nothing. 0 where all miss."""
    known = ~torch.isnan(labels)
    filled = torch.where(known, labels, 0.0)
    loss = F.binary_cross_entropy_with_logits(logits, filled, pos_weight=positive_weight, reduction="none")
    return mean((loss * known).sum(), known.sum())


def heat_on_lesion(
    heat: Float[Tensor, "b 1 H W"], lesion: Float[Tensor, "b 1 H W"], mean: Mean = mean_here
) -> Float[Tensor, ""]:
    """−log of the share of heat that lies on the lesion, the mean over images that show lesion."""
    share = (heat * lesion).sum(dim=(1, 2, 3)) / heat.sum(dim=(1, 2, 3))
    shows = lesion.sum(dim=(1, 2, 3)) > 0
    return mean(-(share.clamp(min=1e-6).log() * shows).sum(), shows.sum())


def cnn_loss(output: StageOutput, truth: Truth) -> Float[Tensor, ""]:
    """Of the CNN's logits."""
    return masked_bce(output.logits, truth.labels, truth.positive_weight, mean_everywhere)


def vit_loss(output: StageOutput, truth: Truth) -> Float[Tensor, ""]:
    """Of the ViT's own logits."""
    return masked_bce(output.vit_logits, truth.labels, truth.positive_weight, mean_everywhere)


def lesion_loss(output: StageOutput, truth: Truth) -> Float[Tensor, ""]:
    """Of the heat, by where the lesion is."""
    return heat_on_lesion(output.heat, truth.lesion, mean_everywhere)
