"""One step of the rollout without its n × n matrix: blocks of rows, made, used and forgotten, forward and backward."""

from __future__ import annotations

from typing import Literal

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor

from genomic_vit.models.blocks import Place, Rooms, attention_of, each, flat, images_of, places_of, row_blocks

Fusion = Literal["mean", "max", "min"]


def streamed_step(
    row: Float[Tensor, "b n"],
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    scale: float,
    fusion: Fusion,
    mean_rows: Float[Tensor, "b m n"],
) -> Float[Tensor, "b n"]:
    """`row` times the head-fused attention of one layer, rᵀ Ā, in memory linear in n.

    Args:
        row: weights r of the queries, float32 or float64.
        q, k: queries and keys; half precision is computed in float32.
        scale: what q·k is multiplied by before the softmax.
        fusion: over heads. After max and min the rows of Ā are divided by their sums.
        mean_rows: the first m rows of the mean over heads, m from 0 to n, off the graph; mean fusion reads them in
            place of making them.

    Returns:
        (b n), on the graph of row, q and k. First derivatives only.

    Raises:
        RuntimeError: a second derivative is asked for.
    """
    return _Step.apply(row, q.to(row.dtype), k.to(row.dtype), scale, fusion, mean_rows.to(row.dtype))


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, row: Tensor, q: Tensor, k: Tensor, scale: float, fusion: Fusion, mean_rows: Tensor) -> Tensor:
        ctx.save_for_backward(row, q, k, mean_rows)
        ctx.scale, ctx.fusion = scale, fusion
        return mean_step(row, q, k, scale, mean_rows) if fusion == "mean" else _extreme(row, q, k, scale, fusion)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        once_only()
        row, q, k, mean_rows = ctx.saved_tensors
        with torch.autocast(gradient.device.type, enabled=False):
            if ctx.fusion != "mean":
                return *_extreme_backward(gradient, row, q, k, ctx.scale, ctx.fusion), None, None, None
            if any(ctx.needs_input_grad[1:3]):
                return *_mean_backward(gradient, row, q, k, ctx.scale), None, None, None
            return mean_seen(gradient, q, k, ctx.scale, mean_rows), *[None] * 5  # a ViT that stays as it is


def once_only() -> None:
    """Raise RuntimeError where a backward pass is itself to be differentiated."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "attention_rollout: streamed attention has first derivatives only, and create_graph asks for second; "
            "pass method='dense' (attention='dense' in ViT and GenomicViT)"
        )


def no_rows(row: Float[Tensor, "b n"]) -> Float[Tensor, "b 0 n"]:
    """What stands for `mean_rows` where none are known."""
    return row.new_empty(row.shape[0], 0, row.shape[1])


def mean_step(
    row: Float[Tensor, "b n"],
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    scale: float,
    mean_rows: Float[Tensor, "b m n"],
) -> Float[Tensor, "b n"]:
    """rᵀ mean_h A_h in blocks, off the graph; the first m rows of the mean are known."""
    heads, tokens, known = q.shape[1], row.shape[1], mean_rows.shape[1]
    read = torch.einsum("bi,bij->bj", row[:, :known], mean_rows)
    if known == tokens:
        return read
    weight = repeat(row / heads, "b n -> b h 1 n", h=heads)
    out = q.new_zeros(weight.shape)

    def work(place: Place, rooms: Rooms) -> None:
        queries, keys, given = (flat(part[place]) for part in (q, k, weight))
        total = out[place].view(-1, 1, tokens)
        for block in row_blocks(tokens, known):
            attention = attention_of(queries[:, block], keys, scale, rooms)
            total.baddbmm_(given[:, :, block], attention)

    each(work, *places_of(q))
    return read + out.sum((1, 2))


def mean_seen(
    g: Float[Tensor, "b n"],
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    scale: float,
    mean_rows: Float[Tensor, "b m n"],
) -> Float[Tensor, "b n"]:
    """mean_h A_h g in blocks, off the graph: what `mean_step` hands back to its row."""
    heads, tokens, known = q.shape[1], g.shape[1], mean_rows.shape[1]
    read = torch.einsum("bij,bj->bi", mean_rows, g)
    if known == tokens:
        return read
    g = repeat(g, "b n -> b h 1 n", h=heads)
    out = q.new_empty(q.shape[:3])

    def work(place: Place, rooms: Rooms) -> None:
        queries, keys, across, seen = flat(q[place]), flat(k[place]), flat(g[place]), out[place].view(-1, tokens)
        for block in row_blocks(tokens, known):
            attention = attention_of(queries[:, block], keys, scale, rooms)
            seen[:, block] = attention.mul_(across).sum(-1)

    each(work, *places_of(q))
    return torch.cat([read, out[:, :, known:].mean(1)], dim=1)


def _mean_backward(gradient: Tensor, row: Tensor, q: Tensor, k: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """With g the gradient, u = A g and w = r/h: ∂r = mean_h u, and ∂S = w_i A_ij (g_j − u_i) for the scores S."""
    heads, tokens = q.shape[1:3]
    g, weight = (repeat(part, "b n -> b h n 1", h=heads) for part in (gradient, row * (scale / heads)))
    weighted = q * weight
    d_row, d_q, d_k = q.new_empty(weight.shape), q.new_empty(q.shape), q.new_zeros(q.shape)

    def work(place: Place, rooms: Rooms) -> None:
        queries, keys, given, across = (flat(part[place]) for part in (q, k, weighted, g))
        seen, d_queries, d_keys = (part[place].view(-1, *part.shape[2:]) for part in (d_row, d_q, d_k))
        across = across.transpose(1, 2)
        for block in row_blocks(tokens):
            attention = attention_of(queries[:, block], keys, scale, rooms)  # (bh rows n)
            u = (attention * across).sum(-1, keepdim=True)  # (bh rows 1); bmm by one column takes five times as long
            d_scores = (across - u).mul_(attention)  # but for w, which the two small factors carry
            seen[:, block] = u
            d_queries[:, block] = torch.bmm(d_scores, keys)
            d_keys.baddbmm_(d_scores.transpose(1, 2), given[:, block])

    each(work, *places_of(q))
    return d_row.mean(1)[..., 0], d_q.mul_(weight), d_k


def _extreme(row: Tensor, q: Tensor, k: Tensor, scale: float, fusion: Fusion) -> Tensor:
    tokens = q.shape[2]
    queries, keys = q * scale, k.transpose(-2, -1)
    out = torch.zeros_like(row)
    for some in images_of(q):
        for block in row_blocks(tokens):
            fused = fuse_heads(torch.softmax(queries[some, :, block] @ keys[some], dim=-1), fusion)  # (b rows n)
            total, weight = fused.sum(-1), row[some, block]
            out[some] += torch.einsum("bi,bij->bj", share_out(weight, total), fused)
            out[some, block] += weight * nothing(total)
    return out


def _extreme_backward(
    gradient: Tensor, row: Tensor, q: Tensor, k: Tensor, scale: float, fusion: Fusion
) -> tuple[Tensor, Tensor, Tensor]:
    """With F the fused rows, s their sums and u = F g / s: ∂r = u, ∂F = r_i/s_i (g_j − u_i), by the winning heads."""
    tokens = q.shape[2]
    queries, keys = q * scale, k.transpose(-2, -1)
    d_row, d_queries, d_keys = torch.empty_like(row), torch.empty_like(q), torch.zeros_like(k)
    for some in images_of(q):
        g = gradient[some]
        for block in row_blocks(tokens):
            attention = torch.softmax(queries[some, :, block] @ keys[some], dim=-1)  # (b h rows n)
            fused = fuse_heads(attention, fusion)
            total = fused.sum(-1)
            u = share_out(torch.einsum("bij,bj->bi", fused, g), total)
            d_row[some, block] = u + g[:, block] * nothing(total)
            d_fused = share_out(row[some, block], total)[..., None] * (g[:, None, :] - u[..., None])
            winner = attention == fused[:, None]
            d_attention = d_fused[:, None] * winner / winner.sum(1, keepdim=True)  # heads that tie share it
            d_scores = attention * (d_attention - (d_attention * attention).sum(-1, keepdim=True))
            d_queries[some, :, block] = d_scores @ k[some] * scale
            d_keys[some] += d_scores.transpose(-2, -1) @ queries[some, :, block]
    return d_row, d_queries, d_keys


def fuse_heads(attention: Float[Tensor, "b h rows n"], fusion: Fusion) -> Float[Tensor, "b rows n"]:
    """Mean, maximum or minimum over heads; max and min leave rows that do not sum to one."""
    if fusion == "mean":
        return attention.mean(1)
    return attention.amax(1) if fusion == "max" else attention.amin(1)


def share_out(weight: Float[Tensor, "b rows"], total: Float[Tensor, "b rows"]) -> Float[Tensor, "b rows"]:
    """weight / total, and 0 where the row has no attention: it hands nothing on."""
    least = least_sum(total.dtype)
    return torch.where(total >= least, weight / total.clamp(min=least), 0.0)


def nothing(total: Float[Tensor, "b rows"]) -> Bool[Tensor, "b rows"]:
    """Which rows have no attention: a sum below `least_sum` counts as zero."""
    return total < least_sum(total.dtype)


def least_sum(dtype: torch.dtype) -> float:
    """What a row of fused attention must sum to, to be divided by it: the gradient holds the sum's square (1e-19)."""
    return torch.finfo(dtype).tiny ** 0.5
