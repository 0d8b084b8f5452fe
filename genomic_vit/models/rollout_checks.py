"""What a rollout refuses, and the words for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from genomic_vit.models.attention import AttentionMap, Way
from genomic_vit.models.blocks import row_blocks
from genomic_vit.models.streamed import Fusion

EAGER = "models with fused attention return none: load them with attn_implementation='eager'"
TOLERANCE = {torch.float16: 5e-3, torch.bfloat16: 3e-2, torch.float32: 1e-4, torch.float64: 1e-8}  # of a row's sum


def check_call(
    layers: Sequence[AttentionMap | Tensor],
    fusion: str,
    discard: float,
    start_layer: int,
    prefix_tokens: int,
    query: str | int,
    method: str,
) -> None:
    """Raise ValueError where shapes or options of `attention_rollout` are impossible; looks at no value."""
    if not layers:
        raise _wrong(f"no layers were given; pass one attention map a layer, first layer first ({EAGER})")
    for index, layer in enumerate(layers):
        _check_layer(index, layer)
    shapes = [_shape(layer) for layer in layers]
    if any(shape != shapes[0] for shape in shapes):  # no set: under torch.export the batch may be symbolic
        raise _wrong(f"layers differ in (b, n): {sorted(set(shapes))}; pass layers of one network and one batch")
    parts = [part for layer in layers for part in _parts(layer)]
    if any(part.device != parts[0].device for part in parts):
        found = sorted({str(part.device) for part in parts})
        raise _wrong(f"layers lie on {', '.join(found)}; move them to one device")
    if len({part.dtype == torch.float64 for part in parts}) > 1:
        found = sorted({str(part.dtype).removeprefix("torch.") for part in parts})
        raise _wrong(f"layers are of {', '.join(found)}; convert them to one precision, such as layer.double() each")
    check_options(fusion, discard, start_layer, len(layers), method)
    tokens = shapes[0][1]
    if not 0 <= prefix_tokens < tokens:
        raise _wrong(
            f"prefix_tokens is {prefix_tokens} with {tokens} tokens; pass the number of CLS and registers, "
            f"0 to {tokens - 1}"
        )
    _check_query(query, prefix_tokens)
    if method == "streamed" and not all(isinstance(layer, AttentionMap) for layer in layers):
        raise _wrong(
            "method is 'streamed', but matrices were given; pass AttentionMaps, which hold q and k, or 'dense'"
        )


def check_options(fusion: str, discard: float, start_layer: int, depth: int, method: str) -> None:
    """Raise ValueError where an option is impossible for a network of `depth` layers."""
    if fusion not in get_args(Fusion):
        raise _wrong(f"fusion is {fusion!r}; pass one of {', '.join(get_args(Fusion))}")
    if not 0 <= discard < 1:
        raise _wrong(f"discard is {discard}; pass a share of at least 0 and below 1")
    if not 0 <= start_layer < depth:
        raise _wrong(f"start_layer is {start_layer} with {depth} layers; pass 0 to {depth - 1}")
    if method not in get_args(Way):
        raise _wrong(f"method is {method!r}; pass one of {', '.join(get_args(Way))}")
    if method == "streamed" and discard:
        raise _wrong(
            f"discard is {discard}: finding the smallest entries needs the whole matrix; pass method='dense' "
            "(rollout.attention dense), or discard=0"
        )


def check_residual(shares: Sequence[float] | Tensor, edge: float = 0.0) -> None:
    """Raise ValueError where a share is not in (edge, 1 − edge); tensors on a CPU, outside of torch.compile."""
    if isinstance(shares, Tensor):
        if shares.device.type != "cpu" or torch.compiler.is_compiling():
            return
        shares = shares.detach().flatten().tolist()
    for share in shares:
        if not edge < share < 1 - edge:
            kind = "one that is learnt" if edge else "it"
            raise _wrong(f"residual is {share}; {kind} must be between {edge:g} and {1 - edge:g}")


def check_result(row: Tensor, layers: Sequence[AttentionMap | Tensor], query: str | int, fusion: str) -> None:
    """Look closer, and raise ValueError, where the sums give away that something is wrong with the attention.

    Rows that sum to one make a rollout that sums to one, so with mean fusion a sum (b) tells of all layers; of the last
    one the query's own row is looked at besides. Max and min divide by the sums, so there it is that row of each layer,
    and what other rows sum to stays unseen: a look at all would read every matrix once more.
    """
    right = _sums_to_one(row, _tolerance(layers) * len(layers))
    token = 0 if query == "mean" else query
    for layer in layers[-1:] if fusion == "mean" else layers:
        if isinstance(layer, Tensor):
            right = right and _sums_to_one(layer[:, :, token].float(), TOLERANCE[layer.dtype])
    if not right:
        check_values(layers)
        if not torch.isfinite(row).all():
            raise _wrong("the result is NaN or infinite though the attention is not; look at residual and scale")


def check_values(layers: Sequence[AttentionMap | Tensor]) -> None:
    """Raise ValueError naming layer and image where attention is NaN, negative, or a row does not sum to one.

    Of maps the attention is made, in blocks of rows, since products of finite queries and keys may overflow.
    """
    for index, layer in enumerate(layers):
        if isinstance(layer, AttentionMap):
            _check_map(index, layer)
            continue
        for image in range(len(layer)):
            where = f"layer {index}, image {image}"
            matrix = layer.detach()[image]
            if not torch.isfinite(matrix).all():
                raise _wrong(f"{where}: attention is NaN or infinite; look for what made it so (loss, AMP)")
            if matrix.min() < 0:
                raise _wrong(f"{where}: attention is as low as {matrix.min():.3g}; pass it after the softmax")
            sums = matrix.to(torch.float64).sum(-1)
            worst = sums.flatten()[(sums - 1).abs().argmax()].item()
            if abs(worst - 1) > TOLERANCE[layer.dtype]:
                raise _wrong(
                    f"{where}: a row sums to {worst:.4g}, 1 was needed (within {TOLERANCE[layer.dtype]:g}); pass "
                    "attention after the softmax and before dropout, queries along the last axis but one, or "
                    "check=False where it was only rounded"
                )


@torch.no_grad()
def _check_map(index: int, layer: AttentionMap) -> None:
    for image, (q, k) in enumerate(zip(layer.q, layer.k, strict=True)):
        if not (torch.isfinite(q).all() and torch.isfinite(k).all()):
            raise _wrong(
                f"layer {index}, image {image}: queries or keys are NaN or infinite; look for what made them so "
                "(loss, AMP)"
            )
    for block in row_blocks(layer.tokens):
        finite = torch.isfinite(layer.rows(block)).flatten(1).all(1).tolist()
        if not all(finite):
            image = finite.index(False)
            largest = " and ".join(f"{part[image].abs().max():.2g}" for part in (layer.q, layer.k))
            raise _wrong(
                f"layer {index}, image {image}: products of queries and keys overflow (they are as large as "
                f"{largest}); look for what made them so large (loss, learning rate)"
            )


def _check_query(query: str | int, prefix_tokens: int) -> None:
    if isinstance(query, str):
        if query not in ("cls", "mean"):
            raise _wrong(f"query is {query!r}; pass 'cls', 'mean', or the number of a prefix token")
        if query == "cls" and prefix_tokens == 0:
            raise _wrong("query is 'cls' and prefix_tokens is 0; pass query='mean' for a model without CLS")
    elif prefix_tokens == 0:
        raise _wrong(f"query is token {query} and prefix_tokens is 0; pass query='mean' for a model without CLS")
    elif not 0 <= query < prefix_tokens:
        raise _wrong(f"query is token {query} with {prefix_tokens} prefix tokens; pass 0 to {prefix_tokens - 1}")


def _check_layer(index: int, layer: object) -> None:
    if not isinstance(layer, (AttentionMap, Tensor)):
        if layer is None:
            raise _wrong(f"layer {index} is None; pass its attention (b h n n) ({EAGER})")
        kind = f"{type(layer).__module__}.{type(layer).__name__}"
        raise _wrong(f"layer {index} is of type {kind}; pass torch tensors (b h n n), or the ViT's maps")
    if isinstance(layer, Tensor) and (layer.ndim != 4 or layer.shape[-1] != layer.shape[-2]):
        raise _wrong(f"layer {index} is of shape {tuple(layer.shape)}; pass (b h n n) each, or one (b l h n n)")
    for part in _parts(layer):
        if part.dtype not in TOLERANCE:
            raise _wrong(
                f"layer {index} is of {str(part.dtype).removeprefix('torch.')}; pass float16, bfloat16, float32 or "
                "float64, rows that sum to one"
            )


def _sums_to_one(rows: Tensor, tolerance: float) -> bool:
    """Of all rows along the last axis; false for NaN too. In Python, as each of torch's small operations costs more."""
    return all(abs(total - 1) <= tolerance for total in rows.detach().sum(-1).flatten().tolist())


def _tolerance(layers: Sequence[AttentionMap | Tensor]) -> float:
    """Of a row's sum in the coarsest of the layers."""
    return max(TOLERANCE[dtype] for dtype in {_values(layer).dtype for layer in layers})


def _shape(layer: AttentionMap | Tensor) -> tuple[int, int]:
    return _values(layer).shape[0], _values(layer).shape[-2]


def _parts(layer: AttentionMap | Tensor) -> tuple[Tensor, ...]:
    return (layer.q, layer.k) if isinstance(layer, AttentionMap) else (layer,)


def _values(layer: AttentionMap | Tensor) -> Tensor:
    return layer.q if isinstance(layer, AttentionMap) else layer


def _wrong(message: str) -> ValueError:
    return ValueError(f"attention_rollout: {message}")
