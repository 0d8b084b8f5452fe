"""What a rollout is made of, layer by layer, and how far it can be trusted to say anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from genomic_vit.models.blocks import row_blocks
from genomic_vit.models.rollout import attention_rollout, drop_smallest
from genomic_vit.models.rollout_arguments import (
    Layer,
    Layers,
    Shares,
    first_row,
    layer_shares,
    layers_of,
    never_dropped,
    rows_of,
)
from genomic_vit.models.streamed import Fusion, fuse_heads, nothing, share_out


class RolloutDiagnostics(NamedTuple):
    """Per layer, first layer first, and per image.

    Args:
        maps: the query's own row of each layer's fused attention, patches only: CLS's, another prefix token's, or the
            mean of all patches'.
        self_mass: what the query keeps of itself in that row; of the mean, what a patch keeps on average.
        register_mass: what it gives to the other prefix tokens: of CLS, to registers.
        contrast: max over mean of `maps`; 1 is flat.
        rollout_contrast: the same of the whole rollout.
        mixing_bound: of this and all layers above it: no two rows of that part of the rollout differ by more than this
            (total variation, 0 to 1). Near 0, every token's row is the same, and the map says nothing of the
            query.
    """

    maps: Float[Tensor, "l b patches"]
    self_mass: Float[Tensor, "l b"]
    register_mass: Float[Tensor, "l b"]
    contrast: Float[Tensor, "l b"]
    rollout_contrast: Float[Tensor, " b"]
    mixing_bound: Float[Tensor, "l b"]


@torch.no_grad()
def rollout_diagnostics(
    attention: Layers,
    *,
    fusion: Fusion = "mean",
    residual: Shares = 0.5,
    discard: float = 0.0,
    start_layer: int = 0,
    prefix_tokens: int = 1,
    query: Literal["cls", "mean"] | int = "cls",
) -> RolloutDiagnostics:
    """Look into a rollout.

    The bound is Doeblin's: a stochastic matrix P brings any two rows at least as near as 1 − Σ_j min_i P_ij, and the
    bounds of a product multiply (Seneta 2006, Non-negative Matrices and Markov Chains, ch. 4). It costs one pass over
    the attention, in blocks of rows; with `discard` the matrices are made.

    Args:
        attention, fusion, residual, discard, start_layer, prefix_tokens, query: as `attention_rollout` had them, maps
            or matrices. Layers before start_layer are looked at too, but count as the identity in `mixing_bound`.

    Raises:
        ValueError: as `attention_rollout`.
    """
    layers = layers_of(attention)
    whole = attention_rollout(
        layers,
        fusion=fusion,
        residual=residual,
        discard=discard,
        start_layer=start_layer,
        prefix_tokens=prefix_tokens,
        query=query,
    )
    token = 0 if query == "cls" else query
    weight = first_row(whole.shape[0], whole.shape[1] + prefix_tokens, prefix_tokens, token, whole)
    spared = never_dropped(prefix_tokens, token)
    shares = [1.0 if i < start_layer else c for i, c in enumerate(layer_shares(residual, len(layers), whole))]
    looks = [_look(layer, weight, fusion, share, discard, spared) for layer, share in zip(layers, shares, strict=True)]
    rows, kept, bounds = (torch.stack(part) for part in zip(*looks, strict=True))  # (l b n), (l b), (l b)
    maps, others = rows[..., prefix_tokens:], [i for i in range(prefix_tokens) if i != token]
    return RolloutDiagnostics(
        maps,
        kept,
        rows[..., others].sum(-1),
        maps.amax(-1) / maps.mean(-1),
        whole.amax(-1) / whole.mean(-1),
        bounds.flip(0).cumprod(0).flip(0),
    )


def describe_diagnostics(diagnostics: RolloutDiagnostics, start_layer: int = 0) -> str:
    """A small table, a line a layer, the mean over images; layers before start_layer are marked as not counted."""
    lines = ["layer  query keeps  registers  contrast  rows differ by at most"]
    columns = (diagnostics.self_mass, diagnostics.register_mass, diagnostics.contrast, diagnostics.mixing_bound)
    for layer, (kept, registers, contrast, bound) in enumerate(
        zip(*(c.mean(1).tolist() for c in columns), strict=True)
    ):
        line = f"{layer:5}  {kept:11.3f}  {registers:9.3f}  {contrast:8.2f}  {bound:.2g}"
        lines.append(line if layer >= start_layer else f"{line}  (not counted)")
    lines.append(f"whole rollout: contrast {diagnostics.rollout_contrast.mean():.2f} (max / mean; 1 is flat)")
    return "\n".join(lines)


def joined(parts: Sequence[RolloutDiagnostics]) -> RolloutDiagnostics:
    """Diagnostics of several batches as those of one."""
    return RolloutDiagnostics(
        *(torch.cat(column, dim=0 if column[0].ndim == 1 else 1) for column in zip(*parts, strict=True))
    )


def _look(
    layer: Layer,
    weight: Float[Tensor, "b n"],
    fusion: Fusion,
    share: float | Tensor,
    discard: float,
    spared: Sequence[int],
) -> tuple[Float[Tensor, "b n"], Float[Tensor, " b"], Float[Tensor, " b"]]:
    """`weight` times the fused rows, and times their diagonal; how far apart two rows of (1 − c) A + c I can lie."""
    row, kept, least = torch.zeros_like(weight), torch.zeros_like(weight[:, 0]), torch.full_like(weight, torch.inf)
    tokens = weight.shape[1]
    for block in [slice(0, tokens)] if discard else row_blocks(tokens):
        fused = fuse_heads(rows_of(layer, block), fusion)  # (b rows n)
        if discard:
            fused = drop_smallest(fused, discard, spared)
        total = fused.sum(-1)
        fused = fused * share_out(torch.ones_like(total), total)[..., None]
        here = torch.arange(block.start, block.stop, device=fused.device)
        fused[:, here - block.start, here] += nothing(total)
        row += torch.bmm(weight[:, None, block], fused)[:, 0]
        kept += (weight[:, block] * fused[:, here - block.start, here]).sum(1)
        mixed = (1 - share) * fused
        mixed[:, here - block.start, here] += share
        least = torch.minimum(least, mixed.amin(1))
    return row, kept, (1 - least.sum(-1)).clamp(min=0)
