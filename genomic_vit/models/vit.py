"""A Vision Transformer written out, that returns every layer's attention."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from genomic_vit.models.attention import Attention, AttentionMap, Way
from genomic_vit.models.mlp import spare_rows, spared_mlp


class ViTOutput(NamedTuple):
    """What a ViT returns.

    Args:
        logits: from the CLS token, (b t).
        attention: one map a layer, first layer first.
        tokens: after the final norm, (b n d), prefix first.
    """

    logits: Float[Tensor, "b t"]
    attention: tuple[AttentionMap, ...]
    tokens: Float[Tensor, "b n d"]


class LayerScale(nn.Module):
    """A learnt factor a channel on a residual branch (Touvron et al. 2021, arXiv 2103.17239, §2; DINOv2 has it).

    Args:
        width: d.
        initial: what every factor begins as.
    """

    def __init__(self, width: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), initial))

    def forward(self, branch: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return branch * self.gamma


class Block(nn.Module):
    """A pre-norm encoder block (Dosovitskiy et al. 2021, arXiv 2010.11929, eq. 2–3), with LayerScale if asked for."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        attention_dropout: float = 0.0,
        layer_scale: float | None = None,
        way: Way = "auto",
    ) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads, attention_dropout, way)
        self.drop = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )
        self.scale1, self.scale2 = (
            nn.Identity() if layer_scale is None else LayerScale(width, layer_scale) for _ in range(2)
        )

    def forward(
        self, tokens: Float[Tensor, "b n d"], keep_rows: bool = True
    ) -> tuple[Float[Tensor, "b n d"], AttentionMap]:
        rows = self.attention.rows(tokens) if keep_rows else 0
        spare = spare_rows(self.norm2, self.mlp, tokens) if 0 < rows < tokens.shape[1] else 0
        mixed, attention = self.attention(self.norm1(tokens), self.attention.rows(tokens, spare) if spare else rows)
        tokens = tokens + self.scale1(self.drop(mixed))
        changed = spared_mlp(self.norm2, self.mlp, tokens) if spare else self.mlp(self.norm2(tokens))
        return tokens + self.scale2(changed), attention


class ViT(nn.Module):
    """Patches, CLS and registers (Darcet et al., arXiv 2309.16588) through pre-norm blocks (Dosovitskiy et al. 2021).

    Args:
        image_px: H and W the position embedding is made for; another size resamples it.
        patch_px: side of a patch.
        channels: of the image.
        targets: t, logits of the class head.
        width: d.
        depth: l.
        heads: h.
        mlp_ratio: hidden width of the MLPs over d.
        registers: extra prefix tokens after CLS.
        dropout: after attention projection and in the MLPs.
        attention_dropout: of attention, in the value path only: the maps, and the rollout, are the undropped attention.
        layer_scale: what LayerScale's factors begin as; None has no LayerScale.
        attention: "dense" makes every n × n matrix once, for values and rollout alike, and allows second derivatives;
            "streamed" never holds one; "auto" none of a head, and on a CPU keeps the mean over heads of the first
            2 width rows of a layer for a rollout, and, where there are more tokens and its weights learn, of as many
            more as the MLP has hidden units, whose activations it then makes twice (`mlp.py`).

    Raises:
        ValueError: an image side is not a multiple of patch_px, or there is no such way of attention.
    """

    def __init__(
        self,
        image_px: tuple[int, int],
        *,
        patch_px: int = 16,
        channels: int = 1,
        targets: int = 1,
        width: int = 384,
        depth: int = 4,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        registers: int = 0,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        layer_scale: float | None = None,
        attention: Way = "auto",
    ) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.prefix_tokens = 1 + registers
        self.patch_grid = self.patches(image_px)
        self.embed = nn.Conv2d(channels, width, patch_px, stride=patch_px)
        self.prefix = nn.Parameter(torch.randn(self.prefix_tokens, width) * 0.02)
        self.position = nn.Parameter(torch.randn(self.patch_grid[0] * self.patch_grid[1], width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, dropout, attention_dropout, layer_scale, attention) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, targets)

    def forward(self, image: Float[Tensor, "b channel H W"], keep_rows: bool = True) -> ViTOutput:
        """Logits, attention and tokens.

        Args:
            image: H and W are multiples of patch_px.
            keep_rows: whether a rollout of the attention may follow, for which "auto" keeps rows.
        """
        patches = rearrange(self.embed(image), "b d r c -> b (r c) d") + self.positions(self.patches(image.shape[-2:]))
        tokens = torch.cat([repeat(self.prefix, "p d -> b p d", b=image.shape[0]), patches], dim=1)  # (b n d)
        attention = []
        for block in self.blocks:
            tokens, layer = block(tokens, keep_rows and block is not self.blocks[-1])  # of the last, CLS's row is read
            attention.append(layer)
        tokens = self.norm(tokens)
        return ViTOutput(self.head(tokens[:, 0]), tuple(attention), tokens)

    def patches(self, image_px: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches in an image of `image_px` (H, W)."""
        height, width = image_px
        if height % self.patch_px or width % self.patch_px:
            raise ValueError(
                f"ViT: image of {height} × {width} px does not divide into patches of {self.patch_px} px; "
                "pad or resize it to multiples of the patch"
            )
        return height // self.patch_px, width // self.patch_px

    def positions(self, grid: tuple[int, int]) -> Float[Tensor, "patches d"]:
        """Position embedding for a patch grid (r, c), bicubically resampled where it is not the one learnt."""
        return resample_positions(self.position, self.patch_grid, grid)


def resample_positions(
    position: Float[Tensor, "learnt d"], learnt: tuple[int, int], wanted: tuple[int, int]
) -> Float[Tensor, "patches d"]:
    """Position embedding of one patch grid (r, c) on another, bicubic with antialias; the same grid gives it back."""
    if wanted == learnt:
        return position
    if wanted[1] == 1 < wanted[0]:  # torch 2.13 on a CPU repeats the first row where the last axis has length one
        turned = rearrange(position, "(r c) d -> (c r) d", r=learnt[0])
        return resample_positions(turned, learnt[::-1], wanted[::-1])
    image = rearrange(position, "(r c) d -> 1 d r c", r=learnt[0])
    resampled = F.interpolate(image, size=wanted, mode="bicubic", antialias=True, align_corners=False)
    return rearrange(resampled, "1 d r c -> (r c) d")
