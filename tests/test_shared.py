"""Attention whose backward takes a rollout along, against the two apart."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genomic_vit import ViT, attention_rollout
from genomic_vit.models import blocks, shared
from genomic_vit.models.attention import REST_ROWS, Attention, AttentionMap
from genomic_vit.models.shared import shared_attention


@pytest.fixture(autouse=True, params=["in turn", "side by side"])
def small_blocks(monkeypatch, request):
    """In blocks that do not divide evenly, by all threads together or by each on its own."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)
    monkeypatch.setitem(blocks.BLOCK_BYTES, "cpu", 300)
    threads = torch.get_num_threads()
    if request.param == "side by side":
        monkeypatch.setattr(blocks, "LARGE", 0)
        torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == (2 if request.param == "side by side" else threads)
    torch.set_num_threads(threads)


def inputs(layers: int = 3, heads: int = 3, tokens: int = 9) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [t.requires_grad_() for t in torch.randn(3, layers, 2, heads, tokens, 4, generator=generator).double()]


def answer(q, k, v, share: bool, uses: int = 1, rows: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """What the values became in each layer, weighed up, and the rollout, weighed up; `rows` kept of each layer."""
    maps, mixed = [], []
    for layer in range(len(q)):
        if share:
            out, port, mean_rows = shared_attention(q[layer], k[layer], v[layer], 0.7, rows)
            maps.append(AttentionMap(q[layer], k[layer], 0.7, ports=[port], mean_rows=mean_rows))
        else:
            out = AttentionMap(q[layer], k[layer], 0.7).dense() @ v[layer]
            maps.append(AttentionMap(q[layer], k[layer], 0.7))
        mixed.append(out)
    method = "auto" if share else "dense"
    rows = [attention_rollout(maps, residual=0.3 + 0.1 * use, method=method) for use in range(uses)]
    weight = torch.linspace(-1, 1, rows[0].numel(), dtype=torch.float64).view_as(rows[0])
    return sum((out.sin() * (i + 1)).sum() for i, out in enumerate(mixed)), sum((row * weight).sum() for row in rows)


@pytest.mark.parametrize("rows", [0, 5, 9])
@pytest.mark.parametrize("uses", [1, 2])
@pytest.mark.parametrize("parts", ["both", "values", "rollout"])
def test_gradients_are_those_of_the_two_apart(parts, uses, rows):
    found = []
    for share in (False, True):
        leaves = inputs()
        values, rollout = answer(*leaves, share, uses, rows)
        total = {"both": values + rollout, "values": values, "rollout": rollout}[parts]
        found.append((total.detach(), *torch.autograd.grad(total, leaves, allow_unused=parts == "rollout")))
    for apart, together in zip(*found, strict=True):
        together = torch.zeros_like(together if apart is None else apart) if together is None else together
        apart = torch.zeros_like(together) if apart is None else apart
        torch.testing.assert_close(together, apart, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rows", [0, 3, 4])
def test_gradient_equals_finite_differences(rows):
    q, k, v = (t.detach()[:2, :1, :2, :4, :2].clone().requires_grad_() for t in inputs())
    assert torch.autograd.gradcheck(lambda *given: sum(answer(*given, share=True, rows=rows)), (q, k, v))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    images=st.integers(1, 4),
    heads=st.integers(1, 4),
    tokens=st.integers(1, 14),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_rows_kept_are_those_of_the_mean_and_the_values_are_mixed_alike(images, heads, tokens, seed, data):
    """In blocks of rows and groups of images that do not divide evenly."""
    rows = data.draw(st.integers(0, tokens))
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, images, heads, tokens, 4, generator=generator, dtype=torch.float64)
    mixed, _, mean_rows = shared_attention(q, k, v, 0.7, rows)
    attention = AttentionMap(q, k, 0.7).dense()
    torch.testing.assert_close(mixed, attention @ v, rtol=0, atol=1e-12)
    torch.testing.assert_close(mean_rows, attention.mean(1)[:, :rows], rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", ["auto", "streamed"])
@pytest.mark.parametrize("learns", [True, False])
def test_auto_keeps_twice_as_many_rows_as_its_width_and_streamed_none(way, learns):
    torch.manual_seed(0)
    layer = Attention(4, 2, way=way).requires_grad_(learns)
    for tokens in (6, 8 + REST_ROWS, 9 + REST_ROWS):
        for rows in (None, 0):
            seen = layer(torch.randn(2, tokens, 4), rows)[1]
            kept = 0 if seen.mean_rows is None else seen.mean_rows.shape[1]
            wanted = tokens if tokens <= 8 + REST_ROWS else 8
            assert kept == (wanted if way == "auto" and rows is None else 0)
            assert len(seen.ports) == learns


def test_spare_rows_are_kept_beside():
    layer = Attention(4, 2)
    for tokens in (8, 9 + REST_ROWS, 38 + REST_ROWS, 39 + REST_ROWS):
        some = torch.randn(2, tokens, 4)
        seen = layer(some, layer.rows(some, spare=30))[1]
        assert seen.mean_rows.shape[1] == (tokens if tokens <= 38 + REST_ROWS else 38)


def by_hand(q, k, v, drop: shared.Drop) -> tuple[torch.Tensor, torch.Tensor]:
    """Dropped attention times the values, and the mean of the undropped attention, with matrices."""
    attention = AttentionMap(q, k, 0.7).dense()
    images, heads, tokens, _ = q.shape
    masks = torch.empty(images * heads, tokens, tokens, dtype=q.dtype)
    for block in blocks.row_blocks(tokens):
        everywhere = blocks.Place(slice(0, images), slice(0, heads))
        masks[:, block] = drop.mask(masks[:, block].clone(), everywhere, block, heads)
    return (attention * masks.view_as(attention)) @ v, attention.mean(1)


@pytest.mark.parametrize("rows", [0, 5, 9])
@pytest.mark.parametrize("parts", ["both", "values", "rollout"])
def test_dropped_attention_and_its_gradients_are_those_of_matrices_with_the_same_masks(parts, rows):
    found = []
    for way in ("ours", "by hand"):
        q, k, v = (leaf.detach()[0].requires_grad_() for leaf in inputs())
        torch.manual_seed(3)
        if way == "ours":
            mixed, port, mean_rows = shared_attention(q, k, v, 0.7, rows, 0.4)
            seen = AttentionMap(q, k, 0.7, ports=[port], mean_rows=mean_rows)
            row = attention_rollout([seen, AttentionMap(q, k, 0.7)], residual=0.3)
        else:
            mixed, mean = by_hand(q, k, v, shared.Drop(0.4, int(torch.randint(2**62, ()))))
            first = AttentionMap(q, k, 0.7).dense().mean(1)[:, 0] * 0.7
            first = first + 0.3 * torch.eye(9, dtype=torch.float64)[0]
            row = (0.7 * torch.einsum("bi,bij->bj", first, mean) + 0.3 * first)[:, 1:]
        weight = torch.linspace(-1, 1, row.numel(), dtype=torch.float64).view_as(row)
        values, rollout = mixed.sin().sum(), (row * weight).sum()
        total = {"both": values + rollout, "values": values, "rollout": rollout}[parts]
        slopes = torch.autograd.grad(total, (q, k, v), allow_unused=parts == "rollout")
        found.append([mixed.detach(), row.detach(), *(torch.zeros_like(q) if s is None else s for s in slopes)])
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-10)


def test_masks_drop_the_share_asked_for_and_scale_what_is_left():
    place = blocks.Place(slice(1, 3), slice(0, 2))
    mask = shared.Drop(0.3, 1).mask(torch.empty(4, 25, 1000), place, slice(25, 50), heads=2).flatten(0, 1)
    torch.testing.assert_close(mask.unique(), torch.tensor([0.0, 1 / 0.7]))
    assert abs((mask == 0).float().mean() - 0.3) < 5 * (0.3 * 0.7 / 1e5) ** 0.5


def test_the_seed_of_masks_comes_from_the_generator_that_checkpointing_winds_back():
    """The CPU's, whatever device new tensors are made on."""
    q, k, v = (leaf.detach()[0] for leaf in inputs())
    torch.manual_seed(3)
    wanted = shared_attention(q, k, v, 0.7, 0, 0.4)[0]
    torch.manual_seed(3)
    with torch.device("meta"):
        found = shared_attention(q, k, v, 0.7, 0, 0.4)[0]
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("way", ["auto", "streamed", "dense"])
def test_attention_that_is_dropped_whole_hands_nothing_on(way):
    """And no NaN, forward or backward, as torch's own dropout allows a share of one."""
    torch.manual_seed(0)
    layer = Attention(8, 2, dropout=1.0, way=way)
    out, _ = layer(torch.randn(2, 6, 8))
    out.square().sum().backward()
    torch.testing.assert_close(out, layer.project.bias.expand_as(out))
    assert not layer.qkv.weight.grad.any()  # NaN counts as any


def test_what_is_kept_is_read_and_not_made_again(monkeypatch):
    """Of a ViT that learns and of one that stays as it is: no attention is made for rows that are kept."""
    torch.manual_seed(0)
    made = []
    plain = torch.softmax
    monkeypatch.setattr(torch, "softmax", lambda scores, **how: made.append(scores.shape) or plain(scores, **how))
    residual = torch.full((2,), 0.4, requires_grad=True)
    for learns in (True, False):
        vit = ViT((8, 8), patch_px=4, width=8, depth=3, heads=2).requires_grad_(learns)
        seen = vit(torch.randn(1, 1, 8, 8))
        made.clear()
        row = attention_rollout(seen.attention[:2], residual=residual, query="mean")
        torch.autograd.grad(row[:, 0].sum(), residual)
        assert not made
        row = attention_rollout(seen.attention, residual=0.4)
        assert made == [(1, 2, 1, 5)]  # of the last layer the query's row


def test_a_gradient_of_the_row_alone_leaves_no_trace_in_the_next_backward():
    leaves = inputs()
    clean = [g.clone() for g in torch.autograd.grad(sum(answer(*leaves, share=True)), leaves)]
    q, k, v = leaves
    outs = [shared_attention(q[i], k[i], v[i], 0.7, 4) for i in range(3)]
    maps = [AttentionMap(q[i], k[i], 0.7, ports=[outs[i][1]], mean_rows=outs[i][2]) for i in range(3)]
    residual = torch.full((3,), 0.3, dtype=torch.float64, requires_grad=True)
    row = attention_rollout(maps, residual=residual)
    weight = torch.linspace(-1, 1, row.numel(), dtype=torch.float64).view_as(row)
    rollout = (row * weight).sum()
    torch.autograd.grad(rollout, residual, retain_graph=True)  # reaches the steps, not the attention behind them
    values = sum((out.sin() * (i + 1)).sum() for i, (out, *_) in enumerate(outs))
    again = torch.autograd.grad(values + rollout, leaves, retain_graph=True)
    twice = torch.autograd.grad(values + rollout, leaves)
    for first, second, third in zip(clean, again, twice, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-12)
        assert torch.equal(second, third)


def test_second_derivatives_are_refused_and_the_dense_way_has_them():
    torch.manual_seed(0)
    image = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    vits = {
        way: ViT((8, 8), patch_px=4, width=8, depth=2, heads=2, attention=way).double() for way in ("auto", "dense")
    }
    for way, vit in vits.items():
        seen = vit(image)
        total = attention_rollout(seen.attention, method=way).square().sum() + seen.logits.sum()
        if way == "auto":
            with pytest.raises(RuntimeError, match=r"create_graph asks for second; pass method='dense'"):
                torch.autograd.grad(total, image, create_graph=True)
        else:
            (slope,) = torch.autograd.grad(total, image, create_graph=True)
            assert torch.autograd.grad(slope.square().sum(), image)[0].abs().max() > 0


@pytest.mark.parametrize(("width", "size_px"), [(12, (8, 12)), (6, (40, 44))])  # the second has more tokens than rows
def test_every_way_gives_the_same_network(width, size_px):
    torch.manual_seed(0)
    image, found = torch.randn(2, 1, *size_px, dtype=torch.float64), []
    for way in ("auto", "streamed", "dense"):
        torch.manual_seed(1)
        vit = ViT(size_px, patch_px=4, width=width, depth=3, heads=3, registers=1, attention=way, dropout=0.2).double()
        torch.manual_seed(2)
        seen = vit(image)
        loss = seen.logits.sum() + attention_rollout(seen.attention, prefix_tokens=2)[:, 1].sum()
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in vit.parameters())])
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("way", ["auto", "dense"])
def test_dropped_attention_mixes_the_values_and_the_map_stays_whole(way):
    torch.manual_seed(0)
    layer = Attention(8, 2, dropout=0.5, way=way)
    tokens = torch.randn(1, 6, 8)
    out, seen = layer(tokens)
    torch.testing.assert_close(seen.dense().sum(-1), torch.ones(1, 2, 6))
    assert not torch.allclose(out, layer(tokens)[0])
    layer.eval()
    plain, seen = layer(tokens)
    mixed = F.scaled_dot_product_attention(seen.q, seen.k, seen.v, scale=layer.scale)
    torch.testing.assert_close(seen.mixed, mixed)
    torch.testing.assert_close(plain, layer(tokens)[0])


def test_under_autocast_attention_and_rollout_are_those_of_single_precision():
    """Of the same rounded q, k and v; and the port is used."""
    torch.manual_seed(0)
    attention, tokens = Attention(8, 2), torch.randn(2, 9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, seen = attention(tokens)
        weight = torch.linspace(-1, 1, 9)[None]
        row = attention_rollout([seen, seen], residual=0.3, prefix_tokens=0, query="mean")
        found = torch.autograd.grad((row * weight).sum() + seen.mixed.sin().sum(), (seen.q, seen.k))
    assert mixed.dtype == torch.bfloat16 and seen.q.dtype == torch.float32 and not seen.ports
    apart = AttentionMap(*(part.detach().requires_grad_() for part in (seen.q, seen.k)), seen.scale)
    wanted_row = attention_rollout([apart, apart], residual=0.3, prefix_tokens=0, query="mean", method="dense")
    total = (wanted_row * weight).sum() + (apart.dense() @ seen.v.detach()).sin().sum()
    torch.testing.assert_close(row, wanted_row)
    for slope, wanted in zip(found, torch.autograd.grad(total, (apart.q, apart.k)), strict=True):
        torch.testing.assert_close(slope, wanted)
