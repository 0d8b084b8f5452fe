"""Attention as a return value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genomic_vit.models.shared import shared_attention

Way = Literal["auto", "dense", "streamed"]
MEAN_ROWS = 2  # rows kept of the mean over heads, in widths d: an eighth of what else a layer keeps to learn from
REST_ROWS = 16  # so few more, such as CLS and registers, are kept too: a pass over keys would cost more than it spares


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """One layer's attention: it can give its matrix, and can do without it.

    Args:
        q: queries, (b h n e), on the graph.
        k: keys, (b h n e), on the graph.
        scale: what q·k is multiplied by before the softmax, 1/sqrt(e) as a rule.
        v: values, (b h n e); `gradient_rollout` needs them, nothing else does.
        mixed: what the layer made of them, A v, (b h n e), on the graph; for `gradient_rollout` too.
        matrix: the attention itself, (b h n n), where the layer made it (the dense way).
        ports: of `shared_attention`, each for one rollout, which takes it out; without one a rollout goes its own way.
        mean_rows: the first m rows of the mean over heads, where they were kept, (b m n), off the graph.
    """

    q: Float[Tensor, "b h n e"]
    k: Float[Tensor, "b h n e"]
    scale: float
    v: Float[Tensor, "b h n e"] | None = None
    mixed: Float[Tensor, "b h n e"] | None = None
    matrix: Float[Tensor, "b h n n"] | None = None
    ports: list[Float[Tensor, "b two n"]] = field(default_factory=list)
    mean_rows: Float[Tensor, "b m n"] | None = None

    @property
    def device(self) -> torch.device:
        """Where q is, and k should be."""
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
        if self.matrix is not None:
            return self.matrix[:, :, queries]
        with torch.autocast(self.q.device.type, enabled=False):
            q, k = single(self.q[:, :, queries]), single(self.k)
            return torch.softmax(q @ k.transpose(-2, -1) * self.scale, dim=-1)


torch.export.register_dataclass(AttentionMap, serialized_type_name="genomic_vit.AttentionMap")


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, arXiv 1706.03762, §3.2.2) that returns its map beside the tokens.

    The map keeps q and k on the graph, so that what is learnt through it reaches the same weights.

    Args:
        width: d.
        heads: h, divides d.
        dropout: of attention in training, in the value path only: the map, and with it the rollout, is the undropped
            attention.
        way: "dense" makes the matrix once, for values and rollout alike; "streamed" leaves it to the fused kernel, in
            training on a CPU with a backward pass that a rollout shares, and with dropout on a CPU makes it in blocks;
            "auto" does so too, and on a CPU makes the first rows itself and keeps their mean over heads: 2 d of them,
            an eighth of what the layer keeps to learn from, and all that a rollout needs where n is at most 2 d.

    Raises:
        ValueError: heads does not divide width, dropout is no share, or there is no such way.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        way: Way = "auto",
    ) -> None:
        super().__init__()
        if way not in get_args(Way):
            raise ValueError(f"Attention: attention is {way!r}; pass one of {', '.join(get_args(Way))}")
        if width % heads:
            raise ValueError(f"Attention: width {width} must be a multiple of heads {heads}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"Attention: dropout is {dropout}; pass a share from 0 to 1")
        self.heads = heads
        self.dropout = dropout
        self.way = way
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(
        self, tokens: Float[Tensor, "b n d"], rows: int | None = None
    ) -> tuple[Float[Tensor, "b n d"], AttentionMap]:
        """Tokens mixed, and the map.

        Args:
            tokens: after their norm.
            rows: of the mean over heads to keep, from 0 to n; None takes `self.rows(tokens)`. Only "auto" on a CPU
                keeps any.
        """
        qkv = self.qkv(tokens)
        q, k, v = rearrange(qkv, "b n (three h e) -> three b h n e", three=3, h=self.heads)
        dropout = self.dropout if self.training else 0.0
        here = _here(tokens)
        learns = q.requires_grad and torch.is_grad_enabled()
        if self.way == "dense":
            matrix = AttentionMap(q, k, self.scale).dense()
            mixed = F.dropout(matrix, dropout).to(v.dtype) @ v  # (b h n e)
            seen = AttentionMap(q, k, self.scale, v, mixed, matrix)
        elif here and (learns or dropout or self.way == "auto"):
            rows = self.rows(tokens) if rows is None else rows
            q, k, v = (single(part) for part in (q, k, v))
            mixed, port, mean_rows = shared_attention(q, k, v, self.scale, rows, dropout)
            seen = AttentionMap(q, k, self.scale, v, mixed, ports=[port] if learns else [], mean_rows=mean_rows)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale, dropout_p=dropout)
            seen = AttentionMap(q, k, self.scale, v, mixed)
        return self.project(rearrange(mixed, "b h n e -> b n (h e)").to(qkv.dtype)), seen

    def rows(self, tokens: Float[Tensor, "b n d"], spare: int = 0) -> int:
        """How many rows of the mean over heads should be kept of these tokens; `spare` has room elsewhere."""
        if self.way != "auto" or not _here(tokens):
            return 0
        rows = MEAN_ROWS * self.project.in_features + spare
        return tokens.shape[1] if tokens.shape[1] <= rows + REST_ROWS else rows


def _here(tokens: Tensor) -> bool:
    """Whether attention is made by our own code, which is for CPUs and not for compilers."""
    return tokens.device.type == "cpu" and not torch.compiler.is_compiling()


def single(part: Tensor) -> Tensor:
    """float32 of what is in half precision; the rest as it is."""
    return part.float() if part.dtype in (torch.float16, torch.bfloat16) else part
