"""In-plane augmentation of whole batches, on their own device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor

from genomic_vit.config import AugmentConfig
from genomic_vit.data.shares import Share

VIEWS = 8  # flips and quarter turns of a square


def augment(
    hu: Float[Tensor, "b slice y x"],
    lesion: Float[Tensor, "b slice y x"] | Bool[Tensor, "b slice y x"],
    config: AugmentConfig,
    generator: torch.Generator,
    share: Share | None = None,
) -> tuple[Float[Tensor, "b slice y x"], Float[Tensor, "b slice y x"]]:
    """Flip, turn, move and disturb each stack of a batch, all its slices alike; the lesion moves with the scan.

    Args:
        hu: stacks in HU.
        lesion: share of lesion in each pixel, 0 to 1, or whether it is lesion.
        config: what, and how far.
        generator: source of randomness, on the batch's device.
        share: which stacks of a larger batch these are; draws are made for all of it, so that a stack gets the same
            ones however many processes share the batch. None takes them for the whole batch.
    """
    share = share or Share(0, len(hu), len(hu))
    affine = random_affine(share.whole, config, generator)[share.mine].to(hu)
    each = (share.whole, 1, 1, 1)
    noise_hu = (config.noise_hu * _uniform(each, 0, 1, generator))[share.mine]
    offset_hu = _uniform(each, -config.jitter_hu, config.jitter_hu, generator)[share.mine]
    noise = torch.randn((share.whole, *hu.shape[1:]), generator=generator, device=generator.device)[share.mine]
    lesion = lesion.to(hu)
    if not len(hu):  # affine_grid takes no empty batch
        return hu, lesion
    grid = F.affine_grid(affine, list(hu.shape), align_corners=False)
    hu = F.grid_sample(hu, grid, mode="bilinear", padding_mode="border", align_corners=False)
    lesion = F.grid_sample(lesion, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return hu + (noise * noise_hu + offset_hu).to(hu), lesion


def random_affine(batch: int, config: AugmentConfig, generator: torch.Generator) -> Float[Tensor, "b 2 3"]:
    """Random in-plane maps from output to input, in units of half a tile (as `affine_grid` takes them)."""
    size = (batch,)
    angle = torch.deg2rad(_uniform(size, -config.rotate_deg, config.rotate_deg, generator))
    mirror = torch.ones(size, device=generator.device)
    if config.flips:
        angle = angle + math.pi / 2 * torch.randint(4, size, generator=generator, device=generator.device)
        mirror = mirror - 2 * torch.randint(2, size, generator=generator, device=generator.device)
    scale = 1 + _uniform(size, -config.scale, config.scale, generator)
    shift = 2 * _uniform((batch, 2), -config.shift, config.shift, generator)
    turn = torch.stack([angle.cos() * mirror, -angle.sin(), angle.sin() * mirror, angle.cos()], dim=1).view(batch, 2, 2)
    return torch.cat([turn * repeat(scale, "b -> b 1 1"), shift[:, :, None]], dim=2)


def turned(stack: Float[Tensor, "*rest y x"], view: int) -> Float[Tensor, "*rest y x"]:
    """One of the VIEWS of square slices: `view` mod 4 quarter turns, mirrored from 4 on. View 0 is the stack itself."""
    stack = torch.rot90(stack, view % 4, (-2, -1))
    return stack.flip(-1) if view >= 4 else stack


def turned_back(stack: Float[Tensor, "*rest y x"], view: int) -> Float[Tensor, "*rest y x"]:
    """The exact inverse of `turned`."""
    stack = stack.flip(-1) if view >= 4 else stack
    return torch.rot90(stack, -(view % 4), (-2, -1))


def _uniform(size: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(size, generator=generator, device=generator.device)
