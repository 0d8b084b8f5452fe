"""What a rollout is given, in its many forms, brought to one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from genomic_vit.models.attention import AttentionMap, single
from genomic_vit.models.rollout_checks import check_residual

Layer = AttentionMap | Float[Tensor, "b h n n"]
Layers = Sequence[Layer] | Float[Tensor, "b l h n n"]
Shares = float | Iterable[float] | Float[Tensor, ""] | Float[Tensor, " l"]


def layers_of(attention: Sequence[AttentionMap | Tensor] | Tensor) -> list[AttentionMap | Tensor]:
    """A layer at a time, first layer first."""
    if isinstance(attention, Tensor) and attention.ndim == 5:
        return [*attention.unbind(1)]
    return [] if attention is None else [*attention]


def rows_of(layer: Layer, queries: slice) -> Float[Tensor, "b h queries n"]:
    """Some rows of a layer's matrix, float32 at least."""
    return layer.rows(queries) if isinstance(layer, AttentionMap) else single(layer[:, :, queries])


def size_of(layer: Layer) -> tuple[int, int, Tensor]:
    """Images, tokens, and an empty tensor of the rollout's device and dtype."""
    tensor = layer.q if isinstance(layer, AttentionMap) else layer
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return tensor.shape[0], tensor.shape[-2], torch.empty(0, dtype=dtype, device=tensor.device)


def layer_shares(residual: Shares, depth: int, like: Tensor, check: bool = True) -> Sequence[float | Tensor]:
    """The identity's share of every layer, on the device of `like`; `check` looks at their values.

    Raises:
        ValueError: a share is not in (0, 1), there are more or fewer than `depth`, or shares have two axes or more.
    """
    if getattr(residual, "ndim", 0) > 1:
        raise ValueError(
            f"attention_rollout: residual is of shape {tuple(residual.shape)}; pass one number, or one a layer (l)"
        )
    if isinstance(residual, Tensor):
        if check:
            check_residual(residual)
        shares = residual.to(like).expand(depth) if residual.ndim == 0 else residual.to(like)
        shares = shares.unbind()
    else:
        plain = residual.tolist() if hasattr(residual, "tolist") else residual  # NumPy's own numbers are no floats
        shares = list(plain) if isinstance(plain, Iterable) else [plain] * depth
        check_residual(shares)
    if len(shares) != depth:
        raise ValueError(f"attention_rollout: residual has {len(shares)} shares for {depth} layers; pass one a layer")
    return shares


def first_row(
    images: int, tokens: int, prefix_tokens: int, token: Literal["mean"] | int, like: Tensor
) -> Float[Tensor, "b n"]:
    """The query as weights of tokens."""
    row = torch.zeros(images, tokens, dtype=like.dtype, device=like.device)
    if token == "mean":
        row[:, prefix_tokens:] = 1 / (tokens - prefix_tokens)
    else:
        row[:, token] = 1
    return row


def never_dropped(prefix_tokens: int, token: Literal["mean"] | int) -> list[int]:
    """Tokens whose rows and columns `discard` leaves alone: CLS, and the one whose row is asked for."""
    return sorted({*range(min(1, prefix_tokens)), *({token} - {"mean"})})
