"""Rollout against the full product, over all its options, dense and streamed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genomic_vit import attention_rollout
from genomic_vit.models import blocks
from genomic_vit.models import rollout as rollout_module
from genomic_vit.models.attention import AttentionMap
from genomic_vit.models.rollout import patch_map
from genomic_vit.models.rollout_checks import TOLERANCE
from tests import oracles
from tests.attentions import random_attention, random_maps

EXACT = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-5}  # of a rollout; half is computed in single


def near_tie(attention: list[np.ndarray], fusion: str, discard: float, kept: tuple[int, ...]) -> bool:
    """Whether rounding may decide which entry is the smallest that is kept."""
    fuse = {"mean": np.mean, "max": np.max, "min": np.min}[fusion]
    others = [i for i in range(attention[0].shape[-1]) if i not in kept]
    for fused in (fuse(layer, axis=1) for layer in attention):
        body = np.sort(fused[:, others][:, :, others].reshape(len(fused), -1), axis=1)
        place = int(discard * body.shape[1])
        if place and (body[:, place] - body[:, place - 1] < 1e-4 * body[:, place]).any():
            return True
    return False


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 999),
    layers=st.integers(1, 4),
    images=st.integers(1, 3),
    heads=st.integers(1, 4),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    prefix=st.integers(0, 4),
    fusion=st.sampled_from(["mean", "max", "min"]),
    residual=st.one_of(st.floats(0.05, 0.95), st.lists(st.floats(0.05, 0.95), min_size=4, max_size=4)),
    discard=st.sampled_from([0.0, 0.0, 0.1, 0.5, 0.9, 0.99]),
    start=st.integers(0, 3),
    query=st.sampled_from(["cls", "mean", 1, 3]),
    kind=st.sampled_from(["matrices", "tensor", "maps", "dense maps"]),
    block=st.sampled_from([1, 3, 64]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
def test_equals_the_full_matrix_oracle(
    seed, layers, images, heads, grid, prefix, fusion, residual, discard, start, query, kind, block, dtype
):
    """Of what was given, rounded as it was given."""
    tokens = prefix + grid[0] * grid[1]
    query = query if prefix > (query if isinstance(query, int) else query == "mean" and -1) else "mean"
    residual = residual[:layers] if isinstance(residual, list) else residual
    start = min(start, layers - 1)
    exact = random_maps(seed, layers, images, heads, tokens)
    maps = [AttentionMap(m.q.to(dtype), m.k.to(dtype), m.scale) for m in exact]
    dense = [m.dense().to(dtype) for m in exact]
    if kind in ("maps", "dense maps"):
        numbers = [oracles.softmax_attention(*(t.double().numpy() for t in (m.q, m.k)), m.scale) for m in maps]
    else:
        numbers = [a.double().numpy() for a in dense]
    token = 0 if query == "cls" else query
    kept = tuple({*range(min(1, prefix)), *({token} - {"mean"})})
    discard = 0.0 if dtype != torch.float64 and near_tie(numbers, fusion, discard, kept) else discard
    whole = oracles.rollout(numbers, residual, fusion, discard, start, kept)
    wanted = whole[:, prefix:].mean(1) if query == "mean" else whole[:, token]
    given = {"matrices": dense, "tensor": torch.stack(dense, dim=1)}.get(kind, maps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_ROWS", block)
        patch.setattr(rollout_module, "ROOM_BYTES", 500)  # so that sums over heads are taken in several blocks
        row = attention_rollout(
            given, fusion=fusion, residual=residual, discard=discard, start_layer=start, prefix_tokens=prefix,
            query=query, method="dense" if kind == "dense maps" else "auto", check=True,
        )  # fmt: skip
    assert row.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    np.testing.assert_allclose(row, wanted[:, prefix:], rtol=0, atol=EXACT[dtype])
    rounding = layers * TOLERANCE[dtype] if fusion == "mean" and kind in ("matrices", "tensor") else 1e-12
    np.testing.assert_allclose(wanted.sum(1), 1, atol=rounding)  # the whole row sums to one, whatever the options
    assert patch_map(row, grid).shape == (images, 1, *grid)


def test_two_tokens_by_hand():
    first = torch.tensor([[[[0.5, 0.5], [0.2, 0.8]]]], dtype=torch.float64)
    second = torch.tensor([[[[0.4, 0.6], [0.9, 0.1]]]], dtype=torch.float64)
    # CLS row of the second with half the identity: (0.7, 0.3); times the first with half: (.75 .25; .1 .9)
    row = attention_rollout([first, second], residual=0.5)
    torch.testing.assert_close(row, torch.tensor([[0.7 * 0.25 + 0.3 * 0.9]], dtype=torch.float64))


def test_maps_and_matrices_give_the_same():
    q, k = torch.randn(2, 3, 2, 2, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    maps = [AttentionMap(q[layer], k[layer], 0.5) for layer in range(3)]
    torch.testing.assert_close(
        attention_rollout(maps), attention_rollout([m.dense() for m in maps]), rtol=0, atol=1e-15
    )


def test_images_of_a_batch_do_not_influence_one_another():
    attention = random_attention(3, 4, 3, 2, 8)
    together = attention_rollout(attention)
    alone = torch.cat([attention_rollout([layer[i : i + 1] for layer in attention]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-15)


def test_permuting_patches_permutes_the_map():
    attention = random_attention(4, 3, 1, 2, 7)
    order = torch.tensor([0, 3, 1, 6, 2, 5, 4])  # CLS stays
    moved = attention_rollout([layer[:, :, order][:, :, :, order] for layer in attention])
    torch.testing.assert_close(moved, attention_rollout(attention)[:, order[1:] - 1])


def test_row_of_the_whole_rollout_sums_to_one():
    attention = random_attention(5, 4, 2, 3, 6)
    rest = oracles.rollout([layer.numpy() for layer in attention], 0.5)[:, 0, :1].sum(1)
    np.testing.assert_allclose(attention_rollout(attention).sum(1) + rest, 1, atol=1e-12)
