"""Attention rollout (Abnar & Zuidema 2020, arXiv 2005.00928), batched, differentiable, row first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from genomic_vit.models.attention import AttentionMap


def attention_rollout(
    attention: Sequence[AttentionMap | Float[Tensor, "b h n n"]],
    *,
    residual: float = 0.5,
    prefix_tokens: int = 1,
) -> Float[Tensor, "b patches"]:
    """How much CLS at the last layer draws from each patch at the first, if attention were all that mixed tokens.

    With A_l the head-averaged attention of layer l and c the identity's share, Â_l = (1 − c) A_l + c I, this is the
    CLS row of Â_L … Â_1 without the prefix columns. Only that row is ever formed: r ← (1 − c) rᵀA_l + c r from the
    last layer down, 2 L n² operations in place of 2 (L − 1) n³.

    Args:
        attention: one map a layer, first layer first; AttentionMap, or tensors whose rows sum to one.
        residual: c, in (0, 1).
        prefix_tokens: tokens before the patches; the first of them is CLS.

    Returns:
        (b, n − prefix_tokens), float32 at least, non-negative, on the graph. A row sums to one less what the prefix
        tokens keep.

    Raises:
        ValueError: no layers, layers of different shape, residual outside (0, 1), prefix_tokens outside [1, n).
    """
    if not attention:
        raise ValueError("attention_rollout: no layers were given; pass one attention map a layer, first layer first")
    if not 0 < residual < 1:
        raise ValueError(f"attention_rollout: residual is {residual}; it must be between 0 and 1")
    shapes = {(a.q.shape[0], a.tokens) if isinstance(a, AttentionMap) else (a.shape[0], a.shape[-1]) for a in attention}
    if len(shapes) > 1:
        raise ValueError(f"attention_rollout: layers differ in (b, n): {sorted(shapes)}; pass layers of one network")
    _, tokens = shapes.pop()
    if not 1 <= prefix_tokens < tokens:
        raise ValueError(
            f"attention_rollout: prefix_tokens is {prefix_tokens} with {tokens} tokens; "
            f"pass the number of CLS and registers, 1 to {tokens - 1}"
        )
    *lower, last = attention
    row = (1 - residual) * _rows(last, slice(0, 1)).mean(dim=1)  # (b 1 n): the last layer counts by its CLS row alone
    row = row + residual * _one_hot(row)
    for layer in reversed(lower):
        row = (1 - residual) * (row @ _rows(layer, slice(None)).mean(dim=1)) + residual * row
    return row[:, 0, prefix_tokens:]


def _rows(layer: AttentionMap | Tensor, queries: slice) -> Float[Tensor, "b h queries n"]:
    if isinstance(layer, AttentionMap):
        return layer.rows(queries)
    rows = layer[:, :, queries]
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def _one_hot(row: Float[Tensor, "b 1 n"]) -> Float[Tensor, "b 1 n"]:
    cls = torch.zeros_like(row)
    cls[..., 0] = 1
    return cls
