"""What a trained network says of slabs: probabilities a case, and heat on the slab.

Each stack is looked at from eight sides (flips and quarter turns, as in training) where `view.eval_flips` is on:
probabilities are averaged, and so is heat, turned back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from genomic_vit.config import ViewConfig
from genomic_vit.data.augment import VIEWS, turned, turned_back
from genomic_vit.data.datasets import AllStacks, loader, window
from genomic_vit.data.grid import from_grid, join_stacks, stack_starts, to_grid
from genomic_vit.data.slab import Slab
from genomic_vit.models.genomic_vit import GenomicViT

BATCH = 32
by_case = partial(groupby, key=itemgetter(0))


def case_probabilities(
    model: GenomicViT,
    slabs: Sequence[Slab],
    view: ViewConfig,
    device: torch.device,
    *,
    given: np.ndarray | None = None,
    answer: Literal["logits", "vit_logits"] = "logits",
) -> np.ndarray:
    """Probability of each target, (case t): the mean over a case's strided stacks and their views.

    Args:
        model: in evaluation mode.
        slabs: one a case.
        view: window, stride, flips.
        device: where to compute.
        given: what the CNN is given as heat, (stack 9 y x) in the order of `AllStacks`, see `given_heat`; None gives
            it the network's own.
        answer: the logits that count.
    """
    stacks = _stacks(model, slabs, view, device, given, answer)
    return np.array([np.mean([probability for _, probability, _ in own], axis=0) for _, own in by_case(stacks)])


def slab_heats(
    model: GenomicViT, slabs: Sequence[Slab], view: ViewConfig, device: torch.device
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Probability (t) and heat (z y x) of each slab, stacks and views averaged; heat 1.0 is the even share."""
    for slab, (probability, heat) in zip(slabs, case_heats(model, slabs, view, device), strict=True):
        slices = slab.geometry.shape[0]
        yield probability, join_stacks(heat, stack_starts(slices, view.eval_stride), slices)


def case_heats(
    model: GenomicViT, slabs: Sequence[Slab], view: ViewConfig, device: torch.device
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Probability (t), stacks and views averaged, and heat of the strided stacks (stack 9 y x), views averaged."""
    for _, own in by_case(_stacks(model, slabs, view, device)):
        _, probability, heat = zip(*own, strict=True)
        yield np.mean(probability, axis=0), np.stack(heat)


def slab_heat(model: GenomicViT, slab: Slab, view: ViewConfig, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """`slab_heats` of one slab."""
    return next(slab_heats(model, [slab], view, device))


def stack_heat(model: GenomicViT, slabs: Sequence[Slab], view: ViewConfig, device: torch.device) -> np.ndarray:
    """The network's heat of all strided stacks, (stack 9 y x), in the order of `AllStacks`, as seen from one side.

    Not averaged over views: what stands in for a network's own heat must be as peaked as that is in each view.
    """
    return np.concatenate([heat for _, heat, _ in _look(model, slabs, replace(view, eval_flips=False), device)])


def _stacks(*asked: object) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """Case, probability (t) and heat (9 y x) of one strided stack after the other, as `_look` finds them."""
    for probability, heat, case in _look(*asked):
        yield from zip(case.tolist(), probability, [None] * len(case) if heat is None else heat, strict=True)


@torch.inference_mode()
def _look(
    model: GenomicViT,
    slabs: Sequence[Slab],
    view: ViewConfig,
    device: torch.device,
    given: np.ndarray | None = None,
    answer: Literal["logits", "vit_logits"] = "logits",
) -> Iterator[tuple[np.ndarray, np.ndarray | None, np.ndarray]]:
    """Probability (b t), heat (b 9 y x), if the network made any, and case (b) of all strided stacks, by batches."""
    unlabelled = np.zeros((len(slabs), 0), dtype=np.float32)
    for number, batch in enumerate(loader(AllStacks(slabs, unlabelled, view), BATCH)):
        shown = None if given is None else torch.from_numpy(given[number * BATCH :][: len(batch.hu)]).to(device)
        stack = window(batch.hu.to(device), view.window_hu)
        seen = [_look_once(model, stack, shown, answer, k) for k in range(VIEWS if view.eval_flips else 1)]
        probability = torch.stack([part for part, _ in seen]).mean(dim=0).cpu().numpy()
        heat = None if seen[0][1] is None else torch.stack([part for _, part in seen]).mean(dim=0).cpu().numpy()
        yield probability, heat, batch.case.numpy()


def _look_once(
    model: GenomicViT, stack: Tensor, given: Tensor | None, answer: Literal["logits", "vit_logits"], view: int
) -> tuple[Tensor, Tensor | None]:
    """Probability (b t) and heat (b 9 y x) of stacks (b 9 y x) in [0, 1], seen from one side.

    Only what is asked for is computed: there is no heat where the ViT's own head answers, or the CNN on given heat.
    """
    grid = rearrange(to_grid(turned(stack, view)), "b H W -> b 1 H W")
    if answer == "vit_logits":
        return torch.sigmoid(model.vit(grid, keep_rows=False).logits.float()), None
    if given is not None:  # with no slices, no channel at all
        shown = rearrange(to_grid(turned(given, view)), "b H W -> b 1 H W") if given.shape[1] else grid[:, :0]
        return torch.sigmoid(model.answer(grid, shown).float()), None
    output = model(grid)
    heat = turned_back(from_grid(rearrange(output.heat, "b 1 H W -> b H W")), view)
    return torch.sigmoid(output.logits.float()), heat.float()
