"""Beside the answer: each target's relevance on the slab, and what the rollout is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from genomic_vit.config import RunConfig, ViewConfig
from genomic_vit.data.datasets import window
from genomic_vit.data.grid import cut_stacks, from_grid, join_stacks, stack_starts, to_grid
from genomic_vit.data.slab import Slab, place_on_scan
from genomic_vit.evaluation.overlay import describe, draw_overlay
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.write import write_volume
from genomic_vit.models.diagnostics import RolloutDiagnostics, rollout_diagnostics
from genomic_vit.models.genomic_vit import GenomicViT, heat_image
from genomic_vit.models.gradient_rollout import gradient_rollout
from genomic_vit.models.rollout import patch_map

RELEVANCE = (
    "gradient-weighted rollout (Chefer et al. 2021) of the ViT's own head, class-specific: an explanation of what the "
    "ViT itself says of this target, not what the CNN was given; 1.0 = mean of the slab, 0 outside the slab"
)
BATCH = 8


def slab_relevance(model: GenomicViT, slab: Slab, view: ViewConfig, device: torch.device) -> np.ndarray:
    """Gradient-weighted rollout of each target on a slab, (t z y x), overlapping stacks averaged, mean one a stack.

    Args:
        model: in evaluation mode.
        slab: the slices.
        view: window and stride.
        device: where to compute.
    """
    starts = stack_starts(len(slab.hu), view.eval_stride)
    parts = []
    for grid in _grids(slab, view, device):
        seen = model.vit(grid, keep_rows=False)
        relevance = gradient_rollout(
            seen.logits, seen.attention, prefix_tokens=model.vit.prefix_tokens
        )  # (b t patches)
        patches = model.vit.patches(grid.shape[-2:])
        floor = torch.finfo(relevance.dtype).tiny  # a target for which nothing speaks is even
        images = [
            heat_image(patch_map(row.clamp(min=floor), patches), model.vit.patch_px, model.tile_patches)
            for row in relevance.unbind(1)
        ]
        parts.append(from_grid(torch.cat(images, dim=1)).cpu().numpy())  # (b t 9 y x)
    stacks = np.concatenate(parts)
    return np.stack([join_stacks(stacks[:, t], starts, len(slab.hu)) for t in range(stacks.shape[1])])


def write_relevance(
    model: GenomicViT,
    slab: Slab,
    config: RunConfig,
    scan: Geometry,
    probability: np.ndarray,
    folder: Path,
    device: torch.device,
) -> None:
    """Write relevance_TARGET.nii.gz, on the scan's grid, and relevance_TARGET.png for each target.

    Args:
        model: in evaluation mode.
        slab: the slices.
        config: of the run.
        scan: grid to write on.
        probability: of each target, (t), for the title.
        folder: where to write.
        device: where to compute.
    """
    for index, values in enumerate(slab_relevance(model, slab, config.view, device)):
        target = config.targets[index]
        name = "relevance_" + re.sub(r"[^\w.-]", "_", target)
        write_volume(place_on_scan(values, slab.geometry, scan), folder / f"{name}.nii.gz")
        draw_overlay(
            slab,
            values,
            config.view.window_hu,
            describe((target,), probability[index : index + 1]) + "   (for research, not a medical device)",
            folder / f"{name}.png",
            caption=f"what speaks for {target} in the ViT's own head",
            scale="gradient-weighted rollout (1 = mean)",
        )


def slab_diagnostics(
    model: GenomicViT, slab: Slab, view: ViewConfig, device: torch.device
) -> Iterator[RolloutDiagnostics]:
    """`rollout_diagnostics` of a slab's stacks, batch by batch."""
    for grid in _grids(slab, view, device):
        with torch.no_grad():
            attention = model.vit(grid).attention
            yield rollout_diagnostics(
                attention,
                fusion=model.rollout.fusion,
                residual=model.rollout.shares(),
                discard=model.rollout.discard,
                start_layer=model.rollout.start_layer,
                prefix_tokens=model.vit.prefix_tokens,
            )


def _grids(slab: Slab, view: ViewConfig, device: torch.device) -> Iterator[Tensor]:
    """A slab's strided stacks as grids (b 1 H W) in [0, 1], a few at a time."""
    stacks = torch.from_numpy(cut_stacks(np.asarray(slab.hu), stack_starts(len(slab.hu), view.eval_stride)))
    for some in stacks.split(BATCH):
        yield rearrange(to_grid(window(some.to(device), view.window_hu)), "b H W -> b 1 H W")
