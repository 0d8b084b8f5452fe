"""What the CNN is given as heat: the rollout, or what the honest comparison puts in its place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

HeatSource = Callable[
    [Float[Tensor, "b 1 H W"] | None, Float[Tensor, "b 1 H W"], Int[Tensor, " b"]], Float[Tensor, "b channel H W"]
]
"""(heat, lesion, case) → what stands in the heat channel; lesion is its share of each pixel, case whose grid it is.

Only `rollout` and `shuffled` read the heat; the others take None, so that nobody need compute it for them.
"""


def rollout(heat: Tensor, lesion: Tensor, case: Tensor) -> Tensor:
    """The heat itself."""
    return heat


def none(heat: Tensor | None, lesion: Tensor, case: Tensor) -> Tensor:
    """No channel at all: the CNN sees the grid alone."""
    return lesion[:, :0]


def zero(heat: Tensor | None, lesion: Tensor, case: Tensor) -> Tensor:
    """Zero everywhere."""
    return torch.zeros_like(lesion)


def uniform(heat: Tensor | None, lesion: Tensor, case: Tensor) -> Tensor:
    """The even share everywhere."""
    return torch.ones_like(lesion)


def lesion_mask(heat: Tensor | None, lesion: Tensor, case: Tensor) -> Tensor:
    """The lesion outline as heat of mean one; the even share where a grid shows no lesion."""
    mean = lesion.mean(dim=(1, 2, 3), keepdim=True)
    return torch.where(mean > 0, lesion / mean.clamp(min=1e-6), torch.ones_like(lesion))


def shuffled(heat: Tensor, lesion: Tensor, case: Tensor) -> Tensor:
    """The heat of another case of the batch, detached; the even share where the batch holds no other.

    In order of case and rolled on by as many as the most frequent case has, each grid meets one of another case,
    unless one case fills more than half the batch.
    """
    order = torch.argsort(case, stable=True)
    _, counts = torch.unique(case, return_counts=True)
    donor = torch.empty_like(order)
    donor[order] = order.roll(int(counts.max()))
    other = (case[donor] != case).view(-1, 1, 1, 1)
    return torch.where(other, heat[donor], torch.ones_like(heat)).detach()


HEAT_SOURCES: dict[str, HeatSource] = {
    "rollout": rollout,
    "none": none,
    "zero": zero,
    "uniform": uniform,
    "shuffled": shuffled,
    "lesion": lesion_mask,
}
