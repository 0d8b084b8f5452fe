"""The whole argument in one module: grid → ViT → rollout → heat → CNN([grid, heat]) → logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genomic_vit.config import RunConfig
from genomic_vit.models.attention import AttentionMap
from genomic_vit.models.cnn import build_cnn
from genomic_vit.models.rollout import Rollout, patch_map
from genomic_vit.models.vit import ViT


class GenomicViTOutput(NamedTuple):
    """What the network returns; all of it on the graph.

    Args:
        logits: the answer, of the CNN, (b t).
        vit_logits: of the ViT's own head, (b t).
        heat: rollout as a picture, (b 1 H W), mean one: 2.0 is a place that draws twice the even share.
        attention: the ViT's maps, first layer first; `attention[l].dense()` is the (b h n n) matrix.
    """

    logits: Float[Tensor, "b t"]
    vit_logits: Float[Tensor, "b t"]
    heat: Float[Tensor, "b 1 H W"]
    attention: tuple[AttentionMap, ...]


class GenomicViT(nn.Module):
    """ViT, rollout and CNN in one; the CNN's error reaches the ViT through the heat.

    Args:
        vit: gives attention and logits of its own.
        cnn: maps (b, channels + 1, H, W), heat last, to logits (b t).
        rollout: maps the attention to the heat of the patches.
        tile_patches: patches along one side of a tile; heat is interpolated inside tiles, never across their borders.
    """

    def __init__(self, vit: ViT, cnn: nn.Module, rollout: Rollout, *, tile_patches: int) -> None:
        super().__init__()
        self.vit = vit
        self.rollout = rollout
        self.cnn = cnn
        self.tile_patches = tile_patches

    def forward(self, grid: Float[Tensor, "b channel H W"]) -> GenomicViTOutput:
        seen = self.vit(grid)
        heat = self.heat(seen.attention, grid.shape[-2:])
        return GenomicViTOutput(self.answer(grid, heat), seen.logits, heat, seen.attention)

    def heat(
        self, attention: Sequence[AttentionMap], grid_px: tuple[int, int], check: bool | None = None
    ) -> Float[Tensor, "b 1 H W"]:
        """The rollout of the ViT's attention to a grid of `grid_px` (H, W), as a picture of mean one.

        `check` as `attention_rollout` takes it.
        """
        row = self.rollout(attention, self.vit.prefix_tokens, check)
        return heat_image(patch_map(row, self.vit.patches(grid_px)), self.vit.patch_px, self.tile_patches)

    def answer(self, grid: Float[Tensor, "b channel H W"], shown: Float[Tensor, "b shown H W"]) -> Float[Tensor, "b t"]:
        """The CNN's logits of the grid, with `shown` in the place of the heat."""
        return self.cnn(torch.cat([grid, shown.to(grid.dtype)], dim=1))


def heat_image(patches: Float[Tensor, "b 1 r c"], patch_px: int, tile_patches: int) -> Float[Tensor, "b 1 H W"]:
    """Rollout of patches as a picture of mean one, bilinear inside each tile.

    Args:
        patches: rollout, non-negative, not all zero.
        patch_px: side of a patch, pixels.
        tile_patches: patches along one side of a tile.

    Raises:
        ValueError: the patch grid does not divide into tiles.
    """
    rows, columns = patches.shape[-2:]
    if rows % tile_patches or columns % tile_patches:
        raise ValueError(
            f"heat_image: {rows} × {columns} patches do not divide into tiles of {tile_patches} × {tile_patches}; "
            "pass a grid of whole tiles"
        )
    share = patches / patches.mean(dim=(1, 2, 3), keepdim=True)
    tiles = rearrange(share, "b 1 (tr r) (tc c) -> (b tr tc) 1 r c", r=tile_patches, c=tile_patches)
    tiles = F.interpolate(tiles, scale_factor=patch_px, mode="bilinear", align_corners=False)
    return rearrange(tiles, "(b tr tc) 1 y x -> b 1 (tr y) (tc x)", tr=rows // tile_patches, tc=columns // tile_patches)


def build_model(config: RunConfig, tiles: int = 3, *, heat_channels: int = 1) -> GenomicViT:
    """The network a run config describes, for grids of `tiles` × `tiles` tiles, with fresh weights.

    `heat_channels` 0 makes its CNN for the grid alone, as a schedule without heat needs it.
    """
    side_px, vit = tiles * config.slab.tile_px, config.vit
    targets, way = len(config.targets), config.rollout.attention
    if way == "auto" and (config.rollout.fusion != "mean" or config.rollout.discard):
        way = "streamed"  # what auto keeps serves mean fusion alone, of which nothing is dropped
    return GenomicViT(
        ViT(
            (side_px, side_px),
            patch_px=vit.patch_px,
            targets=targets,
            width=vit.width,
            depth=vit.depth,
            heads=vit.heads,
            mlp_ratio=vit.mlp_ratio,
            registers=vit.registers,
            dropout=vit.dropout,
            attention_dropout=vit.attention_dropout,
            layer_scale=vit.layer_scale,
            attention=way,
        ),
        build_cnn(config.cnn.name, channels=1 + heat_channels, targets=targets, dropout=config.cnn.dropout),
        Rollout(vit.depth, **dataclasses.asdict(config.rollout)),
        tile_patches=config.slab.tile_px // vit.patch_px,
    )
