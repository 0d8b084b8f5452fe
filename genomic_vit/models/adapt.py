"""A checkpoint's tensors in the shapes of our ViT: first conv, positions, blocks. Nothing here is in place."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from genomic_vit.models.checkpoint import Checkpoint
from genomic_vit.models.namings import OURS
from genomic_vit.models.vit import LayerScale, ViT, resample_positions
from genomic_vit.models.weight_file import PretrainedError

Adapted = tuple[dict[str, Tensor], list[str]]  # by our names, and what was changed, in words


def embedding(vit: ViT, checkpoint: Checkpoint, where: str) -> Adapted:
    """First conv for our channels and patch side."""
    kernel, bias = checkpoint.tensors["embed.weight"], checkpoint.tensors.get("embed.bias")
    notes = []
    if kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3] or kernel.shape[3] < 2:
        raise PretrainedError(
            f"{where}: its first conv is {tuple(kernel.shape)}; kernels over square 2-D patches (d, channels, p, p) "
            "were needed. Hybrids, video and volume ViTs cannot be taken."
        )
    _, channels, patch_px, _ = kernel.shape
    if channels != vit.embed.in_channels:
        ours = vit.embed.in_channels
        kernel = repeat(kernel.sum(dim=1) / ours, "d y x -> d c y x", c=ours)
        notes.append(f"first conv: kernels of {channels} channels summed, for {ours}")
    if patch_px != vit.patch_px:
        kernel = resize_kernel(kernel, vit.patch_px)
        notes.append(f"first conv: patches of {patch_px} px resampled to {vit.patch_px} px")
    if bias is None:
        bias = kernel.new_zeros(len(kernel))
        notes.append("embed.bias: the checkpoint has none, so zero")
    return {"embed.weight": kernel, "embed.bias": bias}, notes


def resize_kernel(kernel: Float[Tensor, "d c p p"], patch_px: int) -> Float[Tensor, "d c q q"]:
    """Kernels for patches of another side that answer a resampled patch as they did the patch itself.

    FlexiViT's pseudo-inverse resize (Beyer et al. 2023, arXiv 2212.08013, §3.4): with x' = B x the bilinear resampling
    of a patch, w' = (Bᵀ)⁺ w minimises the mean of (⟨x, w⟩ − ⟨x', w'⟩)² over white x, and is exact where patches grow.
    B acts on rows and columns alike, so B = b ⊗ b, with b (q p).
    """
    side = kernel.shape[-1]
    one_hot = repeat(
        torch.eye(side, dtype=torch.float64), "at y -> at 1 y x", x=side
    )  # not x=1: torch 2.13 is wrong there
    b = F.interpolate(one_hot, (patch_px, side), mode="bilinear", antialias=True, align_corners=False)[:, 0, :, 0].T
    inverse = torch.linalg.pinv(b.T)  # (q p)
    return (inverse @ kernel.double() @ inverse.T).to(kernel.dtype)


def tokens(vit: ViT, checkpoint: Checkpoint, where: str) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """CLS, registers and positions: our tensors, what was changed, and what of `prefix` stays as built."""
    found, notes, as_built = checkpoint.tensors, [], []
    prefix = vit.prefix.detach().cpu().clone()
    parts = [found[name].reshape(-1, prefix.shape[1]) for name in ("cls", "distilled", "registers") if name in found]
    given = torch.cat(parts) if parts else prefix[:0]  # (k d), in the order they stand before the patches
    taken: dict[str, Tensor] = {}
    if "positions" in found:
        all_rows, cls_row = len(given), int("cls" in found)  # DeiT embeds all; others CLS alone, none, or all
        choices = (all_rows, cls_row, 0) if "distilled" in found else (cls_row, 0, all_rows)
        own = checkpoint.naming == OURS.name  # patches alone have positions there, and grids need not be square
        rows, grid = split_positions(found["positions"], (0,) if own else choices, vit.patch_grid, where, own)
        if len(rows):
            given = given + F.pad(rows, (0, 0, 0, len(given) - len(rows)))
        taken["position"] = resample_positions(found["positions"][len(rows) :], grid, vit.patch_grid)
        if grid != vit.patch_grid:
            notes.append(f"positions: {_by(grid)} patches resampled to {_by(vit.patch_grid)}")
    extra = given[1:] if "cls" in found else given
    if "cls" in found:
        prefix[0] = given[0]
    else:
        as_built.append("prefix (CLS)")
    if vit.prefix_tokens > 1 and len(extra) == vit.prefix_tokens - 1:
        prefix[1:] = extra
        if "distilled" in found:
            notes.append("the distillation token became the register")
    elif vit.prefix_tokens > 1:
        as_built.append("prefix (registers)")
    if "distilled" in found and len(extra) != vit.prefix_tokens - 1:
        notes.append("the distillation token was left out (vit.registers 1 would take it)")
    return {**taken, "prefix": prefix}, notes, as_built


def split_positions(
    positions: Float[Tensor, "rows d"],
    choices: tuple[int, ...],
    ours: tuple[int, int],
    where: str,
    ours_first: bool = False,
) -> tuple[Float[Tensor, "k d"], tuple[int, int]]:
    """Rows that belong to prefix tokens, and the patch grid (r, c) of the others.

    The number of prefix rows is the first of `choices` that leaves a square, or as many patches as ours; where both
    would do, the square, or ours with `ours_first`.
    """
    for rows in dict.fromkeys(choices):
        if ours_first and len(positions) - rows == ours[0] * ours[1]:
            return positions[:rows], ours
        side = math.isqrt(max(len(positions) - rows, 0))
        if side and side * side == len(positions) - rows:
            return positions[:rows], (side, side)
        if len(positions) - rows == ours[0] * ours[1]:
            return positions[:rows], ours
    raise PretrainedError(
        f"{where}: its {len(positions)} positions are no square grid of patches with "
        f"{' or '.join(map(str, dict.fromkeys(choices)))} prefix tokens, nor the {_by(ours)} of this ViT; "
        "build the ViT for the checkpoint's own image size."
    )


def blocks(vit: ViT, checkpoint: Checkpoint, where: str) -> Adapted:
    """The first blocks, with LayerScale folded in or filled up."""
    found, notes = checkpoint.tensors, []
    taken: dict[str, Tensor] = {}
    if checkpoint.depth > len(vit.blocks):
        notes.append(f"blocks: the first {len(vit.blocks)} of {checkpoint.depth}")
    for index, block in enumerate(vit.blocks):
        at = f"blocks.{index}"
        for name in (name for name in block.state_dict() if "gamma" not in name):
            tensor = found.get(f"{at}.{name}")
            if tensor is None and (not name.endswith("bias") or name.startswith("norm")):
                raise PretrainedError(f"{where}: is not whole: block {index} lacks {name}; copy or export it again.")
            if tensor is None:
                tensor = torch.zeros(len(found[f"{at}.{name.removesuffix('bias')}weight"]))
                notes.append(f"{name}: the checkpoint has none, so zero")
            taken[f"{at}.{name}"] = tensor
        for scale, linear in (("scale1", "attention.project"), ("scale2", "mlp.3")):
            gamma = found.get(f"{at}.{scale}.gamma")
            if isinstance(getattr(block, scale), LayerScale):
                if gamma is None:
                    gamma = torch.ones(len(taken[f"{at}.{linear}.weight"]))
                    notes.append("LayerScale: the checkpoint has none, so one")
                taken[f"{at}.{scale}.gamma"] = gamma
            elif gamma is not None:
                taken[f"{at}.{linear}.weight"] = taken[f"{at}.{linear}.weight"] * gamma[:, None]
                taken[f"{at}.{linear}.bias"] = taken[f"{at}.{linear}.bias"] * gamma
                notes.append("LayerScale: folded into the projection before it (vit.layer_scale would keep it apart)")
    return taken, list(dict.fromkeys(notes))


def _by(grid: tuple[int, int]) -> str:
    return f"{grid[0]} × {grid[1]}"
