"""One step of the rollout without its n × n matrix: blocks of rows, made, used and forgotten, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor

Fusion = Literal["mean", "max", "min"]
BLOCK_ROWS = 128
BLOCK_BYTES = {"cpu": 2 * 2**20, "cuda": 2**28}  # of one block of attention; on a CPU it should stay in cache


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
    images, heads, tokens, _width = q.shape
    known = mean_rows.shape[1]
    read = torch.einsum("bi,bij->bj", row[:, :known], mean_rows)
    if known == tokens:
        return read
    queries, keys = rearrange(q * scale, "b h n e -> (b h) n e"), rearrange(k, "b h n e -> (b h) e n")
    weight = repeat(row / heads, "b n -> (b h) 1 n", h=heads)
    out = torch.zeros_like(weight)
    for some in groups_of(images * heads, tokens, row):
        for block in row_blocks(tokens, known):
            attention = torch.softmax(torch.bmm(queries[some, block], keys[some]), dim=-1)  # (bh rows n)
            out[some].baddbmm_(weight[some, :, block], attention)
    return read + rearrange(out, "(b h) 1 n -> b h n", h=heads).sum(1)


def mean_seen(
    g: Float[Tensor, "b n"],
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    scale: float,
    mean_rows: Float[Tensor, "b m n"],
) -> Float[Tensor, "b n"]:
    """mean_h A_h g in blocks, off the graph: what `mean_step` hands back to its row."""
    images, heads, tokens, _width = q.shape
    known = mean_rows.shape[1]
    read = torch.einsum("bij,bj->bi", mean_rows, g)
    if known == tokens:
        return read
    queries, keys = rearrange(q * scale, "b h n e -> (b h) n e"), rearrange(k, "b h n e -> (b h) e n")
    across = repeat(g, "b n -> (b h) 1 n", h=heads)
    out = queries.new_empty(images * heads, tokens - known)
    for some in groups_of(images * heads, tokens, g):
        for block in row_blocks(tokens, known):
            attention = torch.softmax(torch.bmm(queries[some, block], keys[some]), dim=-1)  # (bh rows n)
            out[some, block.start - known : block.stop - known] = attention.mul_(across[some]).sum(-1)
    return torch.cat([read, rearrange(out, "(b h) n -> b h n", h=heads).mean(1)], dim=1)


def _mean_backward(gradient: Tensor, row: Tensor, q: Tensor, k: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """With g the gradient, u = A g and w = r/h: ∂r = mean_h u, and ∂S = w_i A_ij (g_j − u_i) for the scores S."""
    images, heads, tokens, _width = q.shape
    queries, keys = rearrange(q * scale, "b h n e -> (b h) n e"), rearrange(k, "b h n e -> (b h) n e").contiguous()
    g = repeat(gradient, "b n -> (b h) 1 n", h=heads)
    weighted = queries * repeat(row / heads, "b n -> (b h) n 1", h=heads)
    d_row, d_queries, d_keys = torch.empty_like(queries[..., :1]), torch.empty_like(queries), torch.zeros_like(keys)
    for some in groups_of(images * heads, tokens, row):
        keys_row = keys[some].transpose(1, 2)
        for block in row_blocks(tokens):
            attention = torch.softmax(torch.bmm(queries[some, block], keys_row), dim=-1)  # (bh rows n)
            u = (attention * g[some]).sum(-1, keepdim=True)  # (bh rows 1); bmm by one column takes five times as long
            d_scores = (g[some] - u).mul_(attention)  # but for w, which the two small factors below carry
            d_row[some, block] = u
            d_queries[some, block] = torch.bmm(d_scores, keys[some])
            d_keys[some].baddbmm_(d_scores.transpose(1, 2), weighted[some, block])
    d_queries *= repeat(row * (scale / heads), "b n -> (b h) n 1", h=heads)
    return (
        rearrange(d_row, "(b h) n 1 -> b h n", h=heads).mean(1),
        rearrange(d_queries, "(b h) n e -> b h n e", h=heads),
        rearrange(d_keys, "(b h) n e -> b h n e", h=heads),
    )


def _extreme(row: Tensor, q: Tensor, k: Tensor, scale: float, fusion: Fusion) -> Tensor:
    images, heads, tokens, _ = q.shape
    queries, keys = q * scale, k.transpose(-2, -1)
    out = torch.zeros_like(row)
    for some in groups_of(images, tokens * heads, row):
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
    images, heads, tokens, _ = q.shape
    queries, keys = q * scale, k.transpose(-2, -1)
    d_row, d_queries, d_keys = torch.empty_like(row), torch.empty_like(q), torch.zeros_like(k)
    for some in groups_of(images, tokens * heads, row):
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


def row_blocks(stop: int, start: int = 0) -> Iterator[slice]:
    """The rows of a matrix from `start` on, a block after the other, all of about one size."""
    rows = stop - start
    size = -(-rows // max(-(-rows // BLOCK_ROWS), 1))
    return (slice(at, min(at + size, stop)) for at in range(start, stop, size))


def groups_of(count: int, row_length: int, like: Tensor, together: int | None = None) -> Iterator[slice]:
    """Slices of `count` matrices, as many at once as a block's bytes allow, a multiple of `together`.

    Without `together` of the threads on a CPU, so that each has one.
    """
    if torch.compiler.is_compiling():  # the batch may be symbolic there
        return iter((slice(None),))
    rows = min(BLOCK_ROWS, row_length)
    budget = BLOCK_BYTES.get(like.device.type, BLOCK_BYTES["cuda"])
    together = together or (torch.get_num_threads() if like.device.type == "cpu" else 1)
    size = max(budget // (rows * row_length * like.element_size()) // together, 1) * together
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
