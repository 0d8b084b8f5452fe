"""Attention rollout (Abnar & Zuidema 2020, arXiv 2005.00928): batched, differentiable, row first, dense or streamed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genomic_vit.models.attention import AttentionMap, Way, single
from genomic_vit.models.rollout_arguments import (
    Layer,
    Layers,
    Shares,
    first_row,
    layer_shares,
    layers_of,
    never_dropped,
    rows_of,
    size_of,
)
from genomic_vit.models.rollout_checks import check_call, check_options, check_residual, check_result, check_values
from genomic_vit.models.shared import ported_step
from genomic_vit.models.streamed import Fusion, fuse_heads, no_rows, nothing, share_out, streamed_step

LEARNT_EDGE = 1e-4  # how near to 0 and 1 a learnt share may come
ROOM_BYTES = 2**22  # of a sum over heads on a CPU: it should be read again from cache


def attention_rollout(
    attention: Layers,
    *,
    fusion: Fusion = "mean",
    residual: Shares = 0.5,
    discard: float = 0.0,
    start_layer: int = 0,
    prefix_tokens: int = 1,
    query: Literal["cls", "mean"] | int = "cls",
    method: Way = "auto",
    check: bool | None = None,
) -> Float[Tensor, "b patches"]:
    """How much a token at the last layer draws from each patch at the first, if attention were all that mixed tokens.

    With A_l the fused attention of layer l and c_l the identity's share, Â_l = (1 − c_l) A_l + c_l I, this is one row
    of Â_L … Â_1 without the prefix columns. Only that row is ever formed: r ← (1 − c) rᵀA_l + c r from the last layer
    down, 2 L n² operations in place of 2 (L − 1) n³.

    Args:
        attention: first layer first: the ViT's maps, or matrices of any model whose rows sum to one, as a sequence of
            (b h n n) or one tensor (b l h n n). float32 and float64 do not mix.
        fusion: over heads. After max or min each row is divided by its sum, before the identity is mixed in.
        residual: c in (0, 1): a number, one a layer (of all layers, also those before start_layer), or a tensor of
            either kind, which may be learnt.
        discard: share in [0, 1) of the smallest entries of the fused matrix that are dropped, for each image and layer
            on its own; rows are then divided by their sums. Rows and columns of CLS and of the query token are
            neither dropped nor counted, and entries that tie with the smallest kept one stay. A row that loses
            everything keeps its share to itself.
        start_layer: first layer that counts, from 0.
        prefix_tokens: tokens before the patches: CLS and registers. 0 for models without any.
        query: whose row: "cls" (token 0), a prefix token by its number, or "mean" over the patches, which suits models
            without CLS.
        method: "streamed" works from q and k in blocks and never holds an n × n matrix; it needs maps and no discard.
            "dense" makes the matrices; needed for second derivatives. "auto" streams where it can.
        check: whether rows sum to one and nothing is NaN. True: every row of every layer. None: by the sums of the
            result and of query rows, of the last layer and with max or min fusion of all; on a CPU outside of
            torch.compile only, since elsewhere looking at a value would make the device wait. Max and min hide what
            other rows sum to. False: not at all.

    Returns:
        (b, n − prefix_tokens), float32 at least, non-negative, on the graph. A row sums to one less what the prefix
        tokens keep.

    Raises:
        ValueError: an argument is impossible, or the attention is none; the message says what was found and what to
            pass.
    """
    layers = layers_of(attention)
    check_call(layers, fusion, discard, start_layer, prefix_tokens, query, method)
    images, tokens, like = size_of(layers[0])
    shares = layer_shares(residual, len(layers), like, check is not False)
    looks = like.device.type == "cpu" and not torch.compiler.is_compiling() if check is None else check
    if check:
        check_values(layers)
    token = 0 if query == "cls" else query
    dense = not all(_streams(layer, method) for layer in layers)
    room = _room(images, tokens, like) if dense and not torch.compiler.is_compiling() else None
    row = first_row(images, tokens, prefix_tokens, token, like)
    with torch.autocast(like.device.type, enabled=False):  # half precision is not enough to accumulate in
        for index in range(len(layers) - 1, start_layer - 1, -1):
            layer, share = layers[index], shares[index]
            if index == len(layers) - 1 and token != "mean" and not discard:  # of the last layer one row alone counts
                mixed = _lone_row(layer, token, fusion)
            elif _streams(layer, method) and not discard:
                mixed = _streamed(row, layer, fusion)
            else:
                kept = never_dropped(prefix_tokens, token)
                mixed = dense_step(row, rows_of(layer, slice(None)), fusion, discard, kept, room)
            row = torch.lerp(mixed, row, share)
    if looks:
        check_result(row, layers, token, fusion)
    return row[:, prefix_tokens:]


def dense_step(
    row: Float[Tensor, "b n"],
    attention: Float[Tensor, "b h n n"],
    fusion: Fusion = "mean",
    discard: float = 0.0,
    kept: Sequence[int] = (),
    room: Tensor | None = None,
) -> Float[Tensor, "b n"]:
    """`row` times the head-fused attention, rᵀ Ā, given the matrix.

    Args:
        row: weights r of the queries.
        attention: rows sum to one.
        fusion, discard: as `attention_rollout`.
        kept: tokens whose rows and columns are not dropped.
        room: (b rows n), overwritten: where sums over heads are written, `rows` at a time, where nothing needs a
            gradient. One for all layers, since fresh memory costs more than what is written there.
    """
    if fusion == "mean" and not discard:
        weight = row[:, None] / attention.shape[1]
        if room is None or (torch.is_grad_enabled() and (row.requires_grad or attention.requires_grad)):
            return torch.bmm(weight, attention.sum(1))[:, 0]
        blocks = zip(weight.split(room.shape[1], 2), attention.split(room.shape[1], 2), strict=True)
        mixed = [torch.bmm(some, torch.sum(rows, 1, out=room[:, : rows.shape[2]])) for some, rows in blocks]
        return sum(mixed)[:, 0]
    fused = fuse_heads(attention, fusion)
    if discard:
        fused = drop_smallest(fused, discard, kept)
    total = fused.sum(-1)
    return torch.einsum("bi,bij->bj", share_out(row, total), fused) + row * nothing(total)


def drop_smallest(fused: Float[Tensor, "b n n"], discard: float, kept: Sequence[int]) -> Float[Tensor, "b n n"]:
    """Zero in place of the smallest entries of each image's matrix, without the rows and columns of `kept`."""
    ends = [-1, *sorted(kept), fused.shape[-1]]  # the others by number: a mask's count would have to be waited for
    others = torch.cat([torch.arange(before + 1, end, device=fused.device) for before, end in pairwise(ends)])
    body = fused.detach().index_select(1, others).index_select(2, others).flatten(1)
    dropped = int(discard * body.shape[1])
    smallest_kept = body.kthvalue(dropped + 1, dim=1).values[:, None, None]
    exempt = torch.ones(fused.shape[-1], dtype=torch.bool, device=fused.device).index_fill(0, others, False)
    return fused * ((fused >= smallest_kept) | exempt[:, None] | exempt)


def patch_map(row: Float[Tensor, "b patches"], grid: tuple[int, int]) -> Float[Tensor, "b 1 r c"]:
    """A rollout as a picture of patches.

    Args:
        row: what `attention_rollout` returns.
        grid: rows and columns of patches.

    Raises:
        ValueError: the grid has another number of patches.
    """
    rows, columns = grid
    if rows * columns != row.shape[1]:
        raise ValueError(
            f"patch_map: a grid of {rows} × {columns} has {rows * columns} patches, the rollout {row.shape[1]}; "
            "pass the image's own patch grid, and the right prefix_tokens to attention_rollout"
        )
    return rearrange(row, "b (r c) -> b 1 r c", r=rows)


class Rollout(nn.Module):
    """`attention_rollout` with its options held, and its residual learnt where asked.

    Args:
        depth: l.
        residual: the identity's share, in (0, 1); where learnt, where it starts.
        learn_residual: make it a parameter of its own for each layer: the logit of where it lies between 0.0001 and
            0.9999, so that it stays inside and can leave every place.
        fusion, discard, start_layer: as `attention_rollout`.
        attention: `method` of `attention_rollout`.

    Raises:
        ValueError: residual is outside (0, 1), or (0.0001, 0.9999) where learnt, or another option is impossible.
    """

    def __init__(
        self,
        depth: int,
        *,
        residual: float = 0.5,
        learn_residual: bool = False,
        fusion: Fusion = "mean",
        discard: float = 0.0,
        start_layer: int = 0,
        attention: Way = "auto",
    ) -> None:
        super().__init__()
        check_residual([residual], LEARNT_EDGE if learn_residual else 0.0)
        check_options(fusion, discard, start_layer, depth, attention)
        self.residual = residual
        self.fusion, self.discard, self.start_layer, self.attention = fusion, discard, start_layer, attention
        inside = 0.5 + (residual - 0.5) / (1 - 2 * LEARNT_EDGE)
        logit = torch.full((depth,), inside, dtype=torch.float64).logit().to(torch.get_default_dtype())
        self.logit = nn.Parameter(logit) if learn_residual else None

    def shares(self) -> float | Float[Tensor, " l"]:
        """The identity's share now: the number given, or one learnt a layer."""
        if self.logit is None:
            return self.residual
        return 0.5 + (1 - 2 * LEARNT_EDGE) * (torch.sigmoid(single(self.logit)) - 0.5)

    def forward(
        self, attention: Sequence[AttentionMap], prefix_tokens: int, check: bool | None = None
    ) -> Float[Tensor, "b patches"]:
        return attention_rollout(
            attention,
            fusion=self.fusion,
            residual=self.shares(),
            discard=self.discard,
            start_layer=self.start_layer,
            prefix_tokens=prefix_tokens,
            method=self.attention,
            check=check,
        )


def _room(images: int, tokens: int, like: Tensor) -> Float[Tensor, "b rows n"] | None:
    """Memory for sums over heads, on a CPU; none of it is taken before it is written to."""
    if like.device.type != "cpu":
        return None
    rows = min(max(ROOM_BYTES // (max(images, 1) * tokens * like.element_size()), 1), tokens)
    return like.new_empty(images, -(-tokens // -(-tokens // rows)), tokens)  # in blocks of one size


def _lone_row(layer: Layer, token: int, fusion: Fusion) -> Float[Tensor, "b n"]:
    """One fused row of a layer."""
    row = fuse_heads(rows_of(layer, slice(token, token + 1)), fusion)[:, 0]
    if fusion == "mean":
        return row
    total = row.sum(-1, keepdim=True)
    alone = first_row(*row.shape, 0, token, row) * nothing(total)
    return row * share_out(torch.ones_like(total), total) + alone


def _streams(layer: Layer, method: Way) -> bool:
    """Whether a layer is streamed: where it is asked for, or may be and no matrix is there yet."""
    return method != "dense" and isinstance(layer, AttentionMap) and (method == "streamed" or layer.matrix is None)


def _streamed(row: Float[Tensor, "b n"], layer: AttentionMap, fusion: Fusion) -> Float[Tensor, "b n"]:
    known = no_rows(row) if layer.mean_rows is None else layer.mean_rows
    if layer.ports and fusion == "mean" and row.dtype == layer.q.dtype and torch.is_grad_enabled():
        return ported_step(row, layer.ports.pop(), layer.q, layer.k, layer.scale, known)
    return streamed_step(row, layer.q, layer.k, layer.scale, fusion, known)
