"""Where numbers are coarse or tiny: half precision, and heads that look so far apart that their least underflows."""

import pytest
import torch

from genomic_vit import attention_rollout
from genomic_vit.models.attention import AttentionMap
from tests.attentions import random_attention, random_maps


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
