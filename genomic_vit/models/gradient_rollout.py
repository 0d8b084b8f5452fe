"""Gradient-weighted rollout (Chefer et al. 2021, arXiv 2012.09838 and 2103.15679): class-specific, for explanation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from genomic_vit.models.attention import AttentionMap
from genomic_vit.models.blocks import row_blocks


def gradient_rollout(
    logits: Float[Tensor, "b t"], attention: Sequence[AttentionMap], *, prefix_tokens: int = 1
) -> Float[Tensor, "b t patches"]:
    """How much each patch speaks for each target, by attention weighted with its gradient.

    With Ā_l = mean_h (∂y_t/∂A_l ⊙ A_l)⁺ this is the CLS row of (I + Ā_L) … (I + Ā_1) without the prefix columns
    (arXiv 2103.15679, eq. 5 and 6). ∂y/∂A_l is the gradient of what the layer made of its values times the values, so
    neither needs the matrix; both are formed in blocks of rows. It is an explanation: not differentiable, and other
    than the plain rollout it belongs to one target.

    Args:
        logits: of the ViT's own head, on the graph; images must not influence one another (evaluation mode).
        attention: the maps that came with them, first layer first. The way of a CNN's error through the plain rollout
            is not looked at.
        prefix_tokens: CLS and registers.

    Returns:
        (b, t, n − prefix_tokens), float32 at least, non-negative; its scale has no meaning. The graph is kept.

    Raises:
        ValueError: no maps, maps without values, prefix_tokens outside [1, n), logits or maps off the graph, or logits
            that the last map has no part in.
    """
    if not attention or any(layer.v is None or layer.mixed is None for layer in attention):
        raise ValueError("gradient_rollout: pass the ViT's own maps; matrices or maps without values give no gradient")
    tokens = attention[0].tokens
    if not 1 <= prefix_tokens < tokens:
        raise ValueError(
            f"gradient_rollout: prefix_tokens is {prefix_tokens} with {tokens} tokens; pass 1 to {tokens - 1}"
        )
    if not (logits.requires_grad and all(layer.mixed.requires_grad for layer in attention)):
        raise ValueError(
            "gradient_rollout: logits or maps are not on the graph: gradients were off, or weights are frozen; call "
            "the ViT with gradients enabled, and with weights that require them or on an image that does"
        )
    return torch.stack(
        [_relevance(logits[:, t].sum(), attention)[:, prefix_tokens:] for t in range(logits.shape[1])], dim=1
    )


def _relevance(answer: Float[Tensor, ""], attention: Sequence[AttentionMap]) -> Float[Tensor, "b n"]:
    gradients = torch.autograd.grad(answer, [layer.mixed for layer in attention], retain_graph=True, allow_unused=True)
    if gradients[-1] is None:
        raise ValueError(
            "gradient_rollout: the last map has no part in these logits; pass those of the ViT's own head "
            "(vit_logits of GenomicViT) and the maps of the same call"
        )
    first = attention[0].q
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    row = torch.zeros(first.shape[0], first.shape[-2], dtype=dtype, device=first.device)
    row[:, 0] = 1
    with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
        for layer, gradient in zip(reversed(attention), reversed(gradients), strict=True):
            if gradient is not None:
                row = row + _step(row, layer, gradient.to(dtype))
    return row


def _step(row: Float[Tensor, "b n"], layer: AttentionMap, gradient: Float[Tensor, "b h n e"]) -> Float[Tensor, "b n"]:
    """rᵀ mean_h (∂y/∂A ⊙ A)⁺ of one layer."""
    values, out = layer.v.to(row.dtype).transpose(-2, -1), torch.zeros_like(row)
    for block in row_blocks(row.shape[1]):
        weighted = (gradient[:, :, block] @ values).mul_(layer.rows(block)).clamp_(min=0).mean(1)  # (b rows n)
        out += torch.bmm(row[:, None, block], weighted)[:, 0]
    return out
