"""Attention whose forward pass keeps rows for a rollout, and whose backward pass takes a rollout's gradient along.

A rollout through r′ = rᵀ mean_h A_h hands each layer the gradient (r_i / h) g_j for entry A_ij, which is of rank one:
the same as one more column g beside the values, met by one more column r/h beside the gradient of what was made of
them. So the backward pass of attention, which makes A anew anyway, can carry the rollout's share of ∂q and ∂k for the
price of a column. What it needs, r and g, is known before it runs: the rollout's step stands behind it in the graph.

For r′ and for g one layer up, mean_h A_h is all that is needed. The forward pass has A in its hands and can keep the
mean of the first rows: as many as are small beside what the layer keeps of its tokens are nearly free.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from genomic_vit.models.blocks import Place, Rooms, attention_of, each, flat, groups_of, places_of, row_blocks
from genomic_vit.models.streamed import mean_seen, mean_step, once_only


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
        tokens, width = q.shape[2:]
        d_mixed = torch.zeros_like(mixed) if d_mixed is None else d_mixed
        beside = [torch.ones_like(v[..., :1])]  # V, so that one product gives P less rowsum(A P)
        sent = [(d_mixed * mixed).sum(-1, keepdim=True).neg_()]
        if message is not None:
            weight, g = (repeat(part, "b n -> b h n 1", h=q.shape[1]) for part in message.unbind(1))
            beside, sent = [g, *beside], [weight, *sent]
        values = torch.cat([v, *beside], dim=-1)  # [V, g, 1], (b h n e+2)
        received = torch.cat([d_mixed, *sent], dim=-1)  # [dO, r/h, −rowsum(A P)], the last still without A g
        d_q, (d_k, d_v) = q.new_empty(q.shape), q.new_zeros(2, *q.shape)

        def work(place: Place, rooms: Rooms) -> None:
            queries, keys, given, values_row = (flat(part[place]) for part in (q, k, received, values))
            values_row = values_row.transpose(1, 2)
            across = values_row[:, width:-1].contiguous()  # g, (bh 1 n), or nothing, (bh 0 n)
            d_queries, d_keys, d_values = (part[place].view(-1, tokens, width) for part in (d_q, d_k, d_v))
            for block in row_blocks(tokens):
                asking, receiving = queries[:, block], given[:, block]
                attention = attention_of(asking, keys, ctx.scale, rooms)
                free, _, *masks = rooms.like(q, 3 if ctx.drop else 2, *attention.shape)
                if message is not None:
                    seen = torch.mul(attention, across, out=free).sum(-1, keepdim=True)  # A g, (bh rows 1)
                    receiving[..., -1:] -= seen * receiving[..., width : width + 1]
                if masks:
                    mask = ctx.drop.mask(*masks, place, block, q.shape[1])
                    d_scores = torch.bmm(receiving[..., :width], values_row[:, :width], out=free).mul_(mask)
                    d_scores.baddbmm_(receiving[..., width:], values_row[:, width:])
                    mixing = mask.mul_(attention)
                else:
                    d_scores, mixing = torch.bmm(receiving, values_row, out=free), attention
                d_values.baddbmm_(mixing.transpose(1, 2), receiving[..., :width])
                d_scores.mul_(attention)
                d_queries[:, block] = torch.bmm(d_scores, keys)
                d_keys.baddbmm_(d_scores.transpose(1, 2), asking, alpha=ctx.scale)

        each(work, *places_of(q))
        return d_q.mul_(ctx.scale), d_k, d_v, None, None, None


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
    mixed, mean_rows = q.new_empty(images, tokens, heads, width), q.new_zeros(images, rows, tokens)
    mixed = rearrange(mixed, "b n h e -> b h n e")  # as the projection behind it reads it
    places, side_by_side = places_of(q)
    of_one = sum(place.images.start == 0 for place in places)
    for some in groups_of(len(places), of_one):  # all heads of the same images, which add to the same rows of the mean
        laid: list[tuple[Place, list[Tensor]]] = []

        def lay(place: Place, _rooms: Rooms, laid: list = laid) -> None:
            laid.append((place, [flat(part[place]) for part in (q, k, v)]))

        def work(block: slice, rooms: Rooms, laid: list = laid) -> None:
            keep = slice(block.start, min(block.stop, rows))
            for place, (queries, keys, values) in laid:
                attention = attention_of(queries[:, block], keys, scale, rooms)  # (bh rows n)
                by_head = attention.unflatten(0, q[place].shape[:2])
                for head in by_head[:, :, : keep.stop - keep.start].unbind(1) if keep.start < keep.stop else ():
                    mean_rows[place.images, keep].add_(head, alpha=1 / heads)
                if drop:
                    attention.mul_(drop.mask(rooms.like(q, 2, *attention.shape)[0], place, block, heads))
                mixed[*place, block] = torch.bmm(attention, values).view(mixed[*place, block].shape)

        each(lay, places[some], side_by_side)
        laid.sort(key=lambda part: part[0].heads.start)  # sums over heads in one order, whichever thread was first
        each(work, row_blocks(made), side_by_side)
    if made < tokens:
        mixed[:, :, made:] = rest
    return mixed, mean_rows


@dataclass(frozen=True)
class Drop:
    """Dropout whose masks can be drawn again.

    Args:
        share: of entries dropped, in (0, 1]; of 1 all is 0, as in torch's own dropout.
        seed: of the masks.
    """

    share: float
    seed: int

    def mask(
        self, room: Float[Tensor, "bh rows n"], place: Place, block: slice, heads: int
    ) -> Float[Tensor, "bh rows n"]:
        """0 or 1 / (1 − share), of these rows of these matrices, written into `room`: the same in any company."""
        kept, tokens = 1 - self.share, room.shape[2]
        matrices = product(*(range(part.start, part.stop) for part in place))
        for rows, (image, head) in zip(room, matrices, strict=True):
            own = torch.Generator().manual_seed(self.seed + (image * heads + head) * tokens + block.start)
            rows.bernoulli_(kept, generator=own)
        return room.div_(kept or 1)  # where all is dropped, 0 / 1
