"""Gradients of the rollout: dense as streamed, and both as finite differences."""

from functools import partial

import pytest
import torch

from genomic_vit import attention_rollout
from genomic_vit.models import blocks, streamed
from genomic_vit.models.attention import AttentionMap
from tests.attentions import random_maps


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("query", ["cls", "mean"])
def test_dense_and_streamed_agree_in_every_gradient(fusion, query, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)
    monkeypatch.setitem(blocks.BLOCK_BYTES, "cpu", 200)
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


def test_a_network_that_stays_as_it_is_pays_for_no_gradient_of_its_own(monkeypatch):
    maps = random_maps(0, 2, 2, 3, 7)
    residual = torch.tensor([0.4, 0.6], dtype=torch.float64, requires_grad=True)
    (wanted,) = torch.autograd.grad(attention_rollout(maps, residual=residual, method="dense")[:, 2].sum(), residual)
    monkeypatch.setattr(streamed, "_mean_backward", None)  # gradients of q and k
    (found,) = torch.autograd.grad(attention_rollout(maps, residual=residual)[:, 2].sum(), residual)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
