"""Attention as a return value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """One layer's attention: it can give its matrix, and can do without it.

    Args:
        q: queries, (b h n e), on the graph.
        k: keys, (b h n e), on the graph.
        scale: what q·k is multiplied by before the softmax, 1/sqrt(e) as a rule.
        v: values, (b h n e); `gradient_rollout` needs them, nothing else does.
        mixed: what the layer made of them, A v, (b h n e), on the graph; for `gradient_rollout` too.
    """

    q: Float[Tensor, "b h n e"]
    k: Float[Tensor, "b h n e"]
    scale: float
    v: Float[Tensor, "b h n e"] | None = None
    mixed: Float[Tensor, "b h n e"] | None = None

    @property
    def device(self) -> torch.device:
        """Where q and k are."""
        return self.q.device

    @property
    def tokens(self) -> int:
        """n, prefix tokens included."""
        return self.q.shape[-2]

    def dense(self) -> Float[Tensor, "b h n n"]:
        """The attention matrix: entry [i, j] is how much query i looks at key j; rows sum to one. Differentiable."""
        return self.rows(slice(None))

    def rows(self, queries: slice) -> Float[Tensor, "b h queries n"]:
        """Some rows of the matrix, without the others being made. float32 at least, whatever autocast says."""
        with torch.autocast(self.q.device.type, enabled=False):
            q, k = self.q[:, :, queries], self.k
            if q.dtype in (torch.float16, torch.bfloat16):
                q, k = q.float(), k.float()
            return torch.softmax(q @ k.transpose(-2, -1) * self.scale, dim=-1)


torch.export.register_dataclass(AttentionMap, serialized_type_name="genomic_vit.AttentionMap")


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, arXiv 1706.03762, §3.2.2) that returns its map beside the tokens.

    The value path runs on the fused kernel; the map keeps q and k on the graph, so that what is learnt through it
    reaches the same weights.

    Args:
        width: d.
        heads: h, divides d.
        dropout: of attention in training, in the value path only: the map, and with it the rollout, is the undropped
            attention.

    Raises:
        ValueError: heads does not divide width.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"Attention: width {width} must be a multiple of heads {heads}")
        self.heads = heads
        self.dropout = dropout
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b n d"], AttentionMap]:
        q, k, v = rearrange(self.qkv(tokens), "b n (three h e) -> three b h n e", three=3, h=self.heads)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale, dropout_p=dropout)  # (b h n e)
        return self.project(rearrange(mixed, "b h n e -> b n (h e)")), AttentionMap(q, k, self.scale, v, mixed)
