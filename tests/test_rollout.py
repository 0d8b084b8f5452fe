"""Rollout against the full product, over all its options, dense and streamed."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genomic_vit import attention_rollout
from genomic_vit.models import rollout as rollout_module
from genomic_vit.models import streamed
from genomic_vit.models.attention import AttentionMap
from genomic_vit.models.rollout import Rollout, patch_map
from genomic_vit.models.rollout_checks import TOLERANCE
from tests import oracles


def random_attention(seed: int, layers: int, images: int, heads: int, tokens: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (images, heads, tokens, tokens)
    return [(2 * torch.randn(shape, generator=generator, dtype=torch.float64)).softmax(-1) for _ in range(layers)]


def random_maps(seed: int, layers: int, images: int, heads: int, tokens: int, width: int = 3) -> list[AttentionMap]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, layers, images, heads, tokens, width)
    q, k = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return [AttentionMap(q[layer], k[layer], 0.6) for layer in range(layers)]


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
        patch.setattr(streamed, "BLOCK_ROWS", block)
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


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("query", ["cls", "mean"])
def test_dense_and_streamed_agree_in_every_gradient(fusion, query, monkeypatch):
    monkeypatch.setattr(streamed, "BLOCK_ROWS", 4)
    monkeypatch.setitem(streamed.BLOCK_BYTES, "cpu", 200)
    layers, images, heads, tokens = 3, 3, 4, 11
    start = [random_maps(7, layers, images, heads, tokens, width=5) for _ in range(2)]
    found = []
    for method, maps in zip(("dense", "streamed"), start, strict=True):
        leaves = [t.requires_grad_() for m in maps for t in (m.q, m.k)]
        residual = torch.tensor([0.3, 0.5, 0.6], dtype=torch.float64, requires_grad=True)
        row = attention_rollout(maps, fusion=fusion, residual=residual, query=query, method=method)
        weight = torch.linspace(-1, 2, row.numel(), dtype=torch.float64).view_as(row)
        found.append((row.detach(), *torch.autograd.grad((row * weight).sum(), [*leaves, residual])))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=1e-12)
    for dense, stream in zip(*(f[1:] for f in found), strict=True):
        assert dense.abs().max() > 0
        torch.testing.assert_close(dense, stream, rtol=0, atol=1e-10)


def test_heads_that_tie_share_the_gradient_alike(monkeypatch):
    q, k = torch.randn(2, 1, 1, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = []
    for method in ("dense", "streamed"):
        twice = [t.expand(1, 2, 6, 4).clone().requires_grad_() for t in (q, k)]  # two heads alike
        attention_rollout([AttentionMap(*twice, 0.5)] * 2, fusion="max", method=method)[:, 1].sum().backward()
        found.append([t.grad for t in twice])
    for dense, stream in zip(*found, strict=True):
        torch.testing.assert_close(dense, stream, rtol=0, atol=1e-12)


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


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("method", ["dense", "streamed"])
def test_gradient_equals_finite_differences(method, fusion):
    q, k = torch.randn(2, 2, 2, 2, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    residual = torch.tensor([0.4, 0.6], dtype=torch.float64)

    def through(q: torch.Tensor, k: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        maps = [AttentionMap(q[layer], k[layer], 0.6) for layer in range(2)]
        return attention_rollout(maps, residual=residual, fusion=fusion, method=method)

    assert torch.autograd.gradcheck(through, [t.requires_grad_() for t in (q, k, residual)])
    if method == "dense" and fusion == "mean":
        assert torch.autograd.gradgradcheck(through, (q[:, :1], k[:, :1], residual))


def test_gradient_with_entries_dropped_equals_finite_differences():
    maps = random_maps(5, 2, 2, 2, 5)
    q, k = (torch.stack([getattr(m, name) for m in maps]).requires_grad_() for name in "qk")
    through = partial(attention_rollout, discard=0.4)
    assert torch.autograd.gradcheck(lambda q, k: through([AttentionMap(q[i], k[i], 0.6) for i in range(2)]), (q, k))


def test_a_second_derivative_streamed_is_refused():
    maps = random_maps(1, 2, 1, 1, 4)
    maps[0].q.requires_grad_()
    row = attention_rollout(maps, method="streamed")
    with pytest.raises(RuntimeError, match=r"first derivatives only.*pass method='dense'"):
        torch.autograd.grad(row.sum(), maps[0].q, create_graph=True)


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


@pytest.mark.parametrize("discard", [0.0, 0.3])
def test_images_do_not_influence_one_another_when_entries_are_dropped(discard):
    attention = random_attention(9, 3, 3, 2, 8)
    attention[1][0] = torch.eye(8)  # one image unlike the others
    together = attention_rollout(attention, discard=discard, fusion="max")
    alone = [attention_rollout([a[i : i + 1] for a in attention], discard=discard, fusion="max") for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-15)


def test_dropping_spares_cls_and_ties_stay():
    even = [torch.full((1, 1, 5, 5), 0.2, dtype=torch.float64)] * 2
    torch.testing.assert_close(attention_rollout(even, discard=0.9), attention_rollout(even))
    away = torch.full((1, 1, 4, 4), 1 / 3, dtype=torch.float64)
    away[..., 0, :] = torch.tensor([0.97, 0.01, 0.01, 0.01])  # CLS's row is tiny, and stays
    away[..., :, 0], away[..., 1:, 1:] = 0.1, 0.3
    away[..., 0, 0] = 0.97
    torch.testing.assert_close(attention_rollout([away], discard=0.99), torch.full((1, 3), 0.005, dtype=torch.float64))


def test_a_row_that_loses_everything_keeps_its_share():
    apart = torch.eye(3, dtype=torch.float64)[None, None].clone()
    apart[0, 0, 2] = torch.tensor([0.4, 0.35, 0.25])
    row = attention_rollout([apart] * 2, discard=0.9, prefix_tokens=0, query="mean")
    torch.testing.assert_close(row, torch.full((1, 3), 1 / 3, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", ["dense", "streamed"])
def test_low_precision_accumulates_in_float32(dtype, method):
    maps = [AttentionMap(m.q.to(dtype), m.k.to(dtype), m.scale) for m in random_maps(6, 12, 2, 2, 300, width=8)]
    exact = [AttentionMap(m.q.double(), m.k.double(), m.scale) for m in maps]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        row = attention_rollout(maps, method=method)
    assert row.dtype == torch.float32
    torch.testing.assert_close(row.double(), attention_rollout(exact), rtol=1e-5, atol=0)


def test_low_precision_matrices_accumulate_in_float32():
    attention = [layer.bfloat16() for layer in random_attention(6, 3, 1, 1, 6)]
    assert attention_rollout(attention).dtype == torch.float32


def test_the_learnt_residual_stays_between_zero_and_one_and_learns():
    maps = random_maps(0, 3, 1, 2, 6)
    rollout = Rollout(3, residual=0.3, learn_residual=True)
    torch.testing.assert_close(rollout.shares(), torch.full((3,), 0.3))
    rollout(maps, 1)[0, 1].backward()
    assert (rollout.logit.grad.abs() > 0).all()
    rollout.logit.data.fill_(1e9)
    assert rollout(maps, 1).isfinite().all() and (rollout.shares() < 1).all()
    assert not list(Rollout(3).parameters())


@pytest.mark.parametrize("residual", [1.001e-4, 0.5, 0.99989])
def test_the_learnt_residual_begins_where_it_is_told_and_can_leave_every_place(residual):
    rollout = Rollout(3, residual=residual, learn_residual=True)
    torch.testing.assert_close(rollout.shares(), torch.full((3,), residual), rtol=0, atol=1e-6)
    assert residual != 0.5 or (rollout.shares() == 0.5).all()
    rollout.shares().sum().backward()
    assert (rollout.logit.grad > 0).all()
    if residual < 0.5:
        rollout.logit.data.fill_(-20.0)
        rollout.logit.grad = None
        rollout.shares().sum().backward()
        assert (rollout.logit.grad > 0).all()


def test_the_module_holds_its_options():
    maps = random_maps(4, 3, 2, 3, 9)
    options = {"residual": 0.3, "fusion": "max", "discard": 0.2, "start_layer": 1}
    torch.testing.assert_close(Rollout(3, **options)(maps, 2), attention_rollout(maps, prefix_tokens=2, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual": 1.0}, "residual is 1.0; it must be between 0 and 1"),
        (
            {"residual": 1e-5, "learn_residual": True},
            "residual is 1e-05; one that is learnt must be between 0.0001",
        ),
        ({"fusion": "median"}, "fusion is 'median'; pass one of mean, max, min"),
        ({"discard": 3.0}, "discard is 3.0; pass a share"),
        ({"discard": 0.2, "attention": "streamed"}, "needs the whole matrix"),
        ({"start_layer": 3}, "start_layer is 3 with 3 layers; pass 0 to 2"),
        ({"attention": "strem"}, "method is 'strem'; pass one of auto, dense, streamed"),
    ],
)
def test_the_module_refuses_impossible_options_when_it_is_made(options, message, unchecked_types):
    with pytest.raises(ValueError, match=message):
        Rollout(3, **options)


FLAT = torch.full((2, 1, 4, 4), 0.25)


def spoilt(image: int, value: float) -> list[torch.Tensor]:
    layers = [FLAT.clone() for _ in range(3)]
    layers[1][image, 0, 2, 3] = value
    return layers


def spoilt_map() -> list[AttentionMap]:
    maps = random_maps(0, 3, 2, 1, 4)
    maps[2].k[1, 0, 3, 0] = float("nan")
    return maps


def large_map() -> AttentionMap:
    """Finite queries and keys whose products are not."""
    return AttentionMap(torch.full((1, 1, 4, 2), 1e25), torch.full((1, 1, 4, 2), 2e25), 0.5)


def half_moved_map() -> AttentionMap:
    (given,) = random_maps(0, 1, 1, 1, 4)
    return AttentionMap(given.q, given.k.to("meta"), given.scale)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention": []}, "no layers were given; pass one attention map a layer"),
        ({"residual": 0.0}, "residual is 0.0; it must be between 0 and 1"),
        ({"residual": 1.5}, "residual is 1.5"),
        ({"residual": torch.tensor([0.5, float("nan"), 0.5])}, "residual is nan; it must be between 0 and 1"),
        ({"residual": [0.5, 0.5]}, "residual has 2 shares for 3 layers; pass one a layer"),
        ({"prefix_tokens": 0}, "query is 'cls' and prefix_tokens is 0; pass query='mean'"),
        ({"prefix_tokens": 4}, "prefix_tokens is 4 with 4 tokens; pass the number of CLS and registers, 0 to 3"),
        ({"query": 1}, "query is token 1 with 1 prefix tokens; pass 0 to 0"),
        ({"start_layer": 3}, "start_layer is 3 with 3 layers; pass 0 to 2"),
        ({"discard": 1.0}, "discard is 1.0; pass a share of at least 0 and below 1"),
        ({"method": "streamed"}, "'streamed', but matrices were given; pass AttentionMaps"),
        ({"attention": random_maps(0, 2, 1, 1, 4), "method": "streamed", "discard": 0.1}, "needs the whole matrix"),
        ({"attention": [FLAT, torch.full((2, 1, 5, 5), 0.2)]}, r"layers differ in \(b, n\): \[\(2, 4\), \(2, 5\)\]"),
        ({"attention": [FLAT, FLAT.to("meta")]}, "layers lie on cpu, meta; move them to one device"),
        ({"attention": spoilt(1, 0.5)}, r"layer 1, image 1: a row sums to 1.25, 1 was needed \(within 0.0001\)"),
        ({"attention": spoilt(1, 0.5), "fusion": "max", "check": True}, "layer 1, image 1: a row sums to 1.25"),
        ({"attention": spoilt(0, float("nan"))}, "layer 1, image 0: attention is NaN or infinite"),
        ({"attention": spoilt(0, -0.5), "check": True}, "layer 1, image 0: attention is as low as -0.5; pass it after"),
        ({"attention": spoilt_map()}, "layer 2, image 1: queries or keys are NaN or infinite"),
        ({"attention": [FLAT * 2]}, "layer 0, image 0: a row sums to 2, 1 was needed.*check=False where it was only"),
        ({"attention": [large_map()]}, "layer 0, image 0: products of queries and keys overflow.*1e\\+25 and 2e\\+25"),
        ({"attention": [large_map()], "check": True}, "layer 0, image 0: products of queries and keys overflow"),
        ({"prefix_tokens": 0, "query": 0}, "query is token 0 and prefix_tokens is 0; pass query='mean'"),
        ({"attention": [FLAT, FLAT.double()]}, "layers are of float32, float64; convert them to one precision"),
        ({"attention": [half_moved_map()]}, "layers lie on cpu, meta; move them to one device"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    given = {"attention": [FLAT] * 3} | arguments
    with pytest.raises(ValueError, match=message):
        attention_rollout(given.pop("attention"), **given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention": [torch.ones(4, 4)]}, r"layer 0 is of shape \(4, 4\); pass \(b h n n\) each"),
        ({"attention": None}, r"no layers were given.*attn_implementation='eager'"),
        ({"attention": [None, None]}, r"layer 0 is None.*attn_implementation='eager'"),
        ({"attention": [FLAT, FLAT.numpy()]}, r"layer 1 is of type numpy\.ndarray; pass torch tensors \(b h n n\)"),
        ({"attention": [FLAT.to(torch.int64)]}, "layer 0 is of int64; pass float16, bfloat16, float32 or float64"),
        ({"residual": torch.full((3, 4), 0.5)}, r"residual is of shape \(3, 4\); pass one number, or one a layer"),
        ({"residual": np.full((3, 1), 0.5)}, r"residual is of shape \(3, 1\); pass one number, or one a layer"),
        ({"query": "CLS"}, "query is 'CLS'; pass 'cls', 'mean', or the number of a prefix token"),
        ({"fusion": "median"}, "fusion is 'median'; pass one of mean, max, min"),
        ({"method": "fast"}, "method is 'fast'; pass one of auto, dense, streamed"),
    ],
)
def test_arguments_of_another_kind_are_refused(arguments, message, unchecked_types):
    given = {"attention": [FLAT] * 3} | arguments
    with pytest.raises(ValueError, match=message):
        attention_rollout(given.pop("attention"), **given)


@pytest.mark.parametrize(
    "residual", [np.array([0.3, 0.4, 0.6]), (c for c in (0.3, 0.4, 0.6)), torch.tensor([0.3, 0.4, 0.6]).double()]
)
def test_shares_may_be_given_in_any_row(residual):
    attention = random_attention(2, 3, 1, 2, 5)
    torch.testing.assert_close(
        attention_rollout(attention, residual=residual), attention_rollout(attention, residual=[0.3, 0.4, 0.6])
    )


def apart(gap: float, dtype: torch.dtype) -> tuple[list[AttentionMap], torch.Tensor]:
    """Maps of two heads, of which one looks at token 1 and the other at token 2, and their queries."""
    k = torch.tensor([[0.0, gap, 0, 0.3], [0, 0, gap, 0.3]], dtype=dtype)[None, :, :, None]
    q = (1 + 0.002 * torch.arange(8, dtype=dtype).view(1, 2, 4, 1)).requires_grad_()  # so that no two heads tie
    return [AttentionMap(q, k, 1.0)] * 3, q


@pytest.mark.parametrize("method", ["dense", "streamed"])
@pytest.mark.parametrize("query", ["cls", "mean"])
def test_least_attention_of_heads_that_look_apart_keeps_rows_whole(method, query):
    """So sharply that what is least is not a normal number."""
    maps, q = apart(90.0, torch.float32)
    assert 0 < maps[0].dense().amin(1).sum(-1).max() < torch.finfo(torch.float32).tiny
    row = attention_rollout(maps, fusion="min", prefix_tokens=0, query="mean", method=method, check=True)
    torch.testing.assert_close(row, torch.full((1, 4), 0.25))
    if query == "cls":
        torch.testing.assert_close(attention_rollout(maps, fusion="min", method=method), torch.zeros(1, 3))
    assert torch.autograd.grad(row[:, 1].sum(), q)[0].isfinite().all()


@pytest.mark.parametrize("method", ["dense", "streamed"])
@pytest.mark.parametrize("gap", [20.0, 40.0, 43.0, 50.0, 87.0])
def test_gradients_of_heads_that_look_apart_are_finite(gap, method):
    found = []
    for dtype in (torch.float64, torch.float32):
        maps, q = apart(gap, dtype)
        row = attention_rollout(maps, fusion="min", prefix_tokens=0, query="mean", method=method)
        torch.testing.assert_close(row.sum(), torch.ones((), dtype=dtype))
        found.append(torch.autograd.grad(1e5 * row[:, 1].sum(), q)[0].double())
    assert found[1].isfinite().all() and found[0].abs().max() > 0
    if gap < 44:  # e^-44 is 1e-19: what float32 can divide by
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4 * found[0].abs().max().item())


def test_unchecked_attention_is_taken_as_it_is():
    assert attention_rollout(spoilt(0, float("nan")), check=False).isnan().any()


def test_a_grid_of_other_size_is_refused():
    with pytest.raises(ValueError, match="a grid of 3 × 2 has 6 patches, the rollout 5; pass the image's own"):
        patch_map(torch.ones(1, 5), (3, 2))


def test_a_network_that_stays_as_it_is_pays_for_no_gradient_of_its_own(monkeypatch):
    maps = random_maps(0, 2, 2, 3, 7)
    residual = torch.tensor([0.4, 0.6], dtype=torch.float64, requires_grad=True)
    (wanted,) = torch.autograd.grad(attention_rollout(maps, residual=residual, method="dense")[:, 2].sum(), residual)
    monkeypatch.setattr(streamed, "_mean_backward", None)  # gradients of q and k
    (found,) = torch.autograd.grad(attention_rollout(maps, residual=residual)[:, 2].sum(), residual)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
