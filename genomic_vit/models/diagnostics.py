"""What a rollout is made of, layer by layer, and how far it can be trusted to say anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from genomic_vit.models.attention import AttentionMap
from genomic_vit.models.rollout import Shares, attention_rollout, drop_smallest, layer_shares
from genomic_vit.models.streamed import Fusion, fuse_heads, row_blocks, share_out


class RolloutDiagnostics(NamedTuple):
    """Per layer, first layer first, and per image.

    Args:
        maps: CLS's own row of each layer's fused attention, patches only.
        self_mass: what CLS keeps of itself in that row.
        register_mass: what it gives to registers.
        contrast: max over mean of `maps`; 1 is flat.
        rollout_contrast: the same of the whole rollout.
        mixing_bound: of this and all layers above it: no two rows of that part of the rollout differ by more than this
            (total variation, 0 to 1). Near 0, every token's row is the same, and the map says nothing of CLS.
    """

    maps: Float[Tensor, "l b patches"]
    self_mass: Float[Tensor, "l b"]
    register_mass: Float[Tensor, "l b"]
    contrast: Float[Tensor, "l b"]
    rollout_contrast: Float[Tensor, " b"]
    mixing_bound: Float[Tensor, "l b"]


@torch.no_grad()
def rollout_diagnostics(
    attention: Sequence[AttentionMap],
    *,
    fusion: Fusion = "mean",
    residual: Shares = 0.5,
    discard: float = 0.0,
    start_layer: int = 0,
    prefix_tokens: int = 1,
) -> RolloutDiagnostics:
    """Look into a rollout.

    The bound is Doeblin's: a stochastic matrix P brings any two rows at least as near as 1 − Σ_j min_i P_ij, and the
    bounds of a product multiply (Seneta 2006, Non-negative Matrices and Markov Chains, ch. 4). It costs one pass over
    the attention, in blocks of rows; with `discard` the matrices are made.

    Args:
        attention, fusion, residual, discard, start_layer, prefix_tokens: as `attention_rollout` had them. Layers before
            start_layer are looked at too, but count as the identity in `mixing_bound`.

    Raises:
        ValueError: as `attention_rollout`.
    """
    whole = attention_rollout(
        attention,
        fusion=fusion,
        residual=residual,
        discard=discard,
        start_layer=start_layer,
        prefix_tokens=prefix_tokens,
    )
    shares = [1.0 if i < start_layer else c for i, c in enumerate(layer_shares(residual, len(attention), whole))]
    looks = [_look(layer, fusion, share, discard) for layer, share in zip(attention, shares, strict=True)]
    rows = torch.stack([row for row, _ in looks])  # (l b n)
    maps = rows[..., prefix_tokens:]
    bounds = torch.stack([bound for _, bound in looks])
    return RolloutDiagnostics(
        maps,
        rows[..., 0],
        rows[..., 1:prefix_tokens].sum(-1),
        maps.amax(-1) / maps.mean(-1),
        whole.amax(-1) / whole.mean(-1),
        bounds.flip(0).cumprod(0).flip(0),
    )


def describe_diagnostics(diagnostics: RolloutDiagnostics, start_layer: int = 0) -> str:
    """A small table, a line a layer, the mean over images; layers before start_layer are marked as not counted."""
    lines = ["layer  CLS keeps  registers  contrast  rows differ by at most"]
    columns = (diagnostics.self_mass, diagnostics.register_mass, diagnostics.contrast, diagnostics.mixing_bound)
    for layer, (kept, registers, contrast, bound) in enumerate(
        zip(*(c.mean(1).tolist() for c in columns), strict=True)
    ):
        line = f"{layer:5}  {kept:9.3f}  {registers:9.3f}  {contrast:8.2f}  {bound:.2g}"
        lines.append(line if layer >= start_layer else f"{line}  (not counted)")
    lines.append(f"whole rollout: contrast {diagnostics.rollout_contrast.mean():.2f} (max / mean; 1 is flat)")
    return "\n".join(lines)


def joined(parts: Sequence[RolloutDiagnostics]) -> RolloutDiagnostics:
    """Diagnostics of several batches as those of one."""
    return RolloutDiagnostics(
        *(torch.cat(column, dim=0 if column[0].ndim == 1 else 1) for column in zip(*parts, strict=True))
    )


def _look(
    layer: AttentionMap, fusion: Fusion, share: float | Tensor, discard: float
) -> tuple[Float[Tensor, "b n"], Float[Tensor, " b"]]:
    """CLS's fused row, and how far apart two rows of (1 − c) A + c I can lie."""
    first, least = None, None
    for block in [slice(0, layer.tokens)] if discard else row_blocks(layer.tokens):
        fused = fuse_heads(layer.rows(block), fusion)  # (b rows n)
        if discard:
            fused = drop_smallest(fused, discard, (0,))
        total = fused.sum(-1)
        fused = fused * share_out(torch.ones_like(total), total)[..., None]
        first = fused[:, 0] if first is None else first
        mixed = (1 - share) * fused
        here = torch.arange(block.start, block.stop, device=fused.device)
        mixed[:, here - block.start, here] += share + (1 - share) * (total == 0)
        lowest = mixed.amin(1)
        least = lowest if least is None else torch.minimum(least, lowest)
    return first, (1 - least.sum(-1)).clamp(min=0)
