"""Attention whose forward pass keeps rows for a rollout, and whose backward pass takes a rollout's gradient along.

A rollout through r′ = rᵀ mean_h A_h hands each layer the gradient (r_i / h) g_j for entry A_ij, which is of rank one:
the same as one more column g beside the values, met by one more column r/h beside the gradient of what was made of
them. So the backward pass of attention, which makes A anew anyway, can carry the rollout's share of ∂q and ∂k for the
price of a column. What it needs, r and g, is known before it runs: the rollout's step stands behind it in the graph.

For r′ and for g one layer up, mean_h A_h is all that is needed. The forward pass has A in its hands and can keep the
mean of the first rows: as many as are small beside what the layer keeps of its tokens are nearly free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from genomic_vit.models.streamed import groups_of, mean_seen, mean_step, once_only, row_blocks


def shared_attention(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    v: Float[Tensor, "b h n e"],
    scale: float,
    rows: int = 0,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b two n"], Float[Tensor, "b rows n"]]:
    """softmax(q kᵀ scale) v, a port for one rollout's step through the same attention, and its first rows.

    Autocast does not reach inside: on a CPU bfloat16 makes attention slower, not faster.

    Args:
        q, k, v: float32 or float64.
        scale: what q·k is multiplied by before the softmax.
        rows: how many rows of the mean over heads to keep; without dropout queries beyond them run on the fused kernel.
        dropout: of the attention that mixes the values, in [0, 1]; kept rows and what a rollout is told are undropped.
            A seed is drawn from torch's generator, masks block by block from the seed, and again in the backward pass.

    Returns:
        What attention made of the values; the port: zeros whose gradient is the message (r, g); the rows, off the
        graph. A port serves one `ported_step`, since two messages would be added up; first derivatives only.
    """
    drop = Drop(dropout, int(torch.randint(2**62, (), device=q.device))) if dropout else None
    return _Attention.apply(q, k, v, scale, rows, drop)


def ported_step(
    row: Float[Tensor, "b n"],
    port: Float[Tensor, "b two n"],
    q: Tensor,
    k: Tensor,
    scale: float,
    mean_rows: Float[Tensor, "b m n"],
) -> Float[Tensor, "b n"]:
    """`streamed_step` with mean fusion, whose share of ∂q and ∂k goes through the port of `shared_attention`."""
    return _Step.apply(row, port, q.detach(), k.detach(), scale, mean_rows)


class _Attention(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # switches autocast off inside, backward too
    def forward(
        ctx, q: Tensor, k: Tensor, v: Tensor, scale: float, rows: int, drop: Drop | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        mixed, mean_rows = _with_rows(q, k, v, scale, rows, drop)
        ctx.save_for_backward(q, k, v, mixed)
        ctx.scale, ctx.drop = scale, drop
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mean_rows)
        return mixed, q.new_zeros(q.shape[0], 2, q.shape[2]), mean_rows

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx, d_mixed: Tensor | None, message: Tensor | None, _rows: None) -> tuple[Tensor | None, ...]:
        """With P = [dO, r/h] [V, g]ᵀ the gradient of A: ∂S = A (P − rowsum(A P)), and rowsum(A P) = dO·O + r/h A g.

        Under dropout by masks M, O = (M A) V, and P = M (dO Vᵀ) + r/h gᵀ has the same row sums.
        """
        once_only()
        q, k, v, mixed = ctx.saved_tensors
        heads, tokens, width = q.shape[1:]
        flat = "b h n e -> (b h) n e"
        d_mixed = torch.zeros_like(mixed) if d_mixed is None else d_mixed
        own = rearrange((d_mixed * mixed).sum(-1, keepdim=True), flat)
        if message is not None:
            weight, g = (repeat(part, "b n -> b h n 1", h=heads) for part in message.unbind(1))
            v, d_mixed = torch.cat([v, g], dim=-1), torch.cat([d_mixed, weight], dim=-1)
        queries, keys = rearrange(q * ctx.scale, flat), rearrange(k, flat).contiguous()
        values, received = rearrange(v, flat).contiguous(), rearrange(d_mixed, flat).contiguous()
        across = values[..., width:].transpose(1, 2).contiguous()  # g, (bh 1 n), or nothing, (bh 0 n)
        d_queries, d_keys, d_values = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(keys)
        rooms, masks = Rooms(4 if ctx.drop else 3), ctx.drop and ctx.drop.masks()
        for some in _groups(q, masks is not None):
            keys_row, values_row = keys[some].transpose(1, 2), values[some].transpose(1, 2)
            for block in row_blocks(tokens):
                asking, given, less = queries[some, block], received[some, block], own[some, block]
                scores, attention, other, *mask = rooms.like(q, *asking.shape[:2], tokens)
                torch.softmax(torch.bmm(asking, keys_row, out=scores), dim=-1, out=attention)  # (bh rows n)
                if message is not None:
                    seen = torch.mul(attention, across[some], out=other).sum(-1, keepdim=True)  # A g, (bh rows 1)
                    less = less + seen * given[..., width:]
                if masks:
                    d_scores = torch.bmm(given[..., :width], values_row[:, :width], out=scores).mul_(masks(*mask))
                    d_scores.baddbmm_(given[..., width:], values_row[:, width:])
                    mixing = torch.mul(attention, *mask, out=other)
                else:
                    d_scores, mixing = torch.bmm(given, values_row, out=scores), attention
                d_values[some].baddbmm_(mixing.transpose(1, 2), given[..., :width])
                d_scores.sub_(less).mul_(attention)
                d_queries[some, block] = torch.bmm(d_scores, keys[some])
                d_keys[some].baddbmm_(d_scores.transpose(1, 2), asking)
        d_queries *= ctx.scale
        back = [rearrange(part, "(b h) n e -> b h n e", h=heads) for part in (d_queries, d_keys, d_values)]
        return *back, None, None, None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, row: Tensor, port: Tensor, q: Tensor, k: Tensor, scale: float, mean_rows: Tensor) -> Tensor:
        ctx.save_for_backward(row, q, k, mean_rows)
        ctx.scale = scale
        return mean_step(row, q, k, scale, mean_rows)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor | None, ...]:
        once_only()
        row, q, k, mean_rows = ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            seen = mean_seen(g, q, k, ctx.scale, mean_rows) if ctx.needs_input_grad[0] else None
        return seen, torch.stack([row / q.shape[1], g], dim=1), None, None, None, None


def _with_rows(q: Tensor, k: Tensor, v: Tensor, scale: float, rows: int, drop: Drop | None) -> tuple[Tensor, Tensor]:
    """What attention makes of the values, (b h n e), and the first `rows` rows of the mean over heads, (b rows n)."""
    images, heads, tokens, width = q.shape
    made = tokens if drop else rows  # here; the others by the fused kernel
    if made < tokens:
        rest = F.scaled_dot_product_attention(q[:, :, made:], k, v, scale=scale)
        if not made:
            return rest, q.new_empty(images, 0, tokens)
    mixed, mean_rows = q.new_empty(images, tokens, heads, width), q.new_empty(images, rows, tokens)
    flat, rooms, masks = "b h n e -> (b h) n e", Rooms(2), drop and drop.masks()
    for some in _groups(q, whole_images=True):
        some = slice(some.start // heads, some.stop // heads)
        keys_row, values = rearrange(k[some], "b h n e -> (b h) e n"), rearrange(v[some], flat)
        for block in row_blocks(made):
            asking = rearrange(q[some, :, block] * scale, flat)
            scores, attention = rooms.like(q, *asking.shape[:2], tokens)
            torch.softmax(torch.bmm(asking, keys_row, out=scores), dim=-1, out=attention)  # (bh rows n)
            keep = slice(block.start, min(block.stop, rows))
            if keep.start < keep.stop:
                apart = rearrange(attention, "(b h) i j -> b h i j", h=heads)
                torch.mean(apart[:, :, : keep.stop - keep.start], 1, out=mean_rows[some, keep])
            if masks:
                attention.mul_(masks(scores))
            mixed[some, block] = rearrange(torch.bmm(attention, values), "(b h) n e -> b n h e", h=heads)
    if made < tokens:
        mixed[:, made:] = rearrange(rest, "b h n e -> b n h e")
    return rearrange(mixed, "b n h e -> b h n e"), mean_rows


def _groups(q: Tensor, whole_images: bool) -> Iterator[slice]:
    """Slices of the matrices (b h), image by image if asked for, which no number of threads changes."""
    images, heads, tokens, _width = q.shape
    if not whole_images:
        return groups_of(images * heads, tokens, q)
    return (slice(s.start * heads, s.stop * heads) for s in groups_of(images, tokens * heads, q, together=1))


@dataclass(frozen=True)
class Drop:
    """Dropout whose masks can be drawn again.

    Args:
        share: of entries dropped, in (0, 1]; of 1 all is 0, as in torch's own dropout.
        seed: of the masks.
    """

    share: float
    seed: int

    def masks(self) -> Callable[[Tensor], Tensor]:
        """Fills one tensor after the other with 0 or 1 / (1 − share), each time from the beginning."""
        generator, kept = torch.Generator().manual_seed(self.seed), 1 - self.share
        return lambda room: room.bernoulli_(kept, generator=generator).div_(kept or 1)  # where all is dropped, 0 / 1


class Rooms:
    """Memory for blocks of attention, used again from block to block: fresh memory is as dear as a softmax.

    Args:
        count: how many blocks are held at once.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.held: list[Tensor] = []

    def like(self, kind: Tensor, *shape: int) -> list[Tensor]:
        """Tensors of this shape, of `kind`'s dtype and device; what was in them is anything."""
        size = math.prod(shape)
        if not self.held or self.held[0].numel() < size:
            self.held = [kind.new_empty(size) for _ in range(self.count)]
        return [room[:size].view(shape) for room in self.held]
