import numpy as np
import pytest
import torch

from genomic_vit.models import blocks
from genomic_vit.models.attention import AttentionMap
from genomic_vit.models.diagnostics import describe_diagnostics, rollout_diagnostics
from tests import oracles


def random_maps(layers: int, strength: float) -> list[AttentionMap]:
    generator = torch.Generator().manual_seed(0)
    q, k = strength * torch.randn(2, layers, 2, 3, 9, 4, dtype=torch.float64, generator=generator)
    return [AttentionMap(q[i], k[i], 0.5) for i in range(layers)]


def test_maps_and_masses_are_those_of_the_matrix(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)
    maps = random_maps(3, 1.0)
    seen = rollout_diagnostics(maps, prefix_tokens=3)
    for layer, attention in enumerate(maps):
        row = attention.dense().mean(1)[:, 0]
        torch.testing.assert_close(seen.maps[layer], row[:, 3:])
        torch.testing.assert_close(seen.self_mass[layer], row[:, 0])
        torch.testing.assert_close(seen.register_mass[layer], row[:, 1] + row[:, 2])
        torch.testing.assert_close(seen.contrast[layer], row[:, 3:].amax(1) / row[:, 3:].mean(1))


def test_no_two_rows_of_the_rollout_lie_further_apart_than_the_bound():
    for strength in (0.0, 0.3, 1.0, 3.0):
        maps = random_maps(4, strength)
        for fusion in ("mean", "max"):
            seen = rollout_diagnostics(maps, fusion=fusion, residual=[0.2, 0.5, 0.4, 0.5])
            for start in range(4):
                dense = [m.dense().numpy() for m in maps]
                whole = torch.tensor(oracles.rollout(dense, [0.2, 0.5, 0.4, 0.5], fusion, start_layer=start))
                apart = torch.cdist(whole, whole, p=1).amax((1, 2)) / 2
                assert (apart <= seen.mixing_bound[start] + 1e-12).all()
    flat = rollout_diagnostics(random_maps(4, 0.0), residual=0.5).mixing_bound[0]
    torch.testing.assert_close(flat, torch.full((2,), 0.5**4, dtype=torch.float64))  # reached where attention is flat


@pytest.mark.parametrize(("discard", "start"), [(0.0, 2), (0.6, 0), (0.98, 1)])
def test_they_are_of_the_rollout_with_its_options(discard, start):
    maps = random_maps(4, 1.0)
    seen = rollout_diagnostics(maps, discard=discard, start_layer=start, residual=0.3)
    dense = [m.dense().numpy() for m in maps]
    whole = torch.tensor(oracles.rollout(dense, 0.3, "mean", discard, start, kept=(0,)))
    torch.testing.assert_close(seen.rollout_contrast, whole[:, 0, 1:].amax(1) / whole[:, 0, 1:].mean(1))
    for layer in range(4):
        part = torch.tensor(oracles.rollout(dense, 0.3, "mean", discard, max(layer, start), kept=(0,)))
        apart = torch.cdist(part, part, p=1).amax((1, 2)) / 2
        assert (apart <= seen.mixing_bound[layer] + 1e-12).all()
        assert torch.equal(seen.mixing_bound[min(layer, start)], seen.mixing_bound[start])


def rows_asked_for(square: torch.Tensor, query: str | int) -> torch.Tensor:
    """Of (b n n) with three prefix tokens."""
    return square[:, 3:] if query == "mean" else square[:, [0 if query == "cls" else query]]


@pytest.mark.parametrize("query", ["cls", 1, "mean"])
@pytest.mark.parametrize("discard", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["maps", "matrices", "tensor"])
def test_they_are_of_the_query_and_of_whatever_attention_is_given(kind, query, discard, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)
    maps = random_maps(3, 1.0)
    dense = [m.dense() for m in maps]
    given = {"maps": maps, "matrices": dense, "tensor": torch.stack(dense, dim=1)}[kind]
    seen = rollout_diagnostics(given, prefix_tokens=3, query=query, fusion="max", discard=discard)
    kept = tuple({0, *({0 if query == "cls" else query} - {"mean"})})
    own = list(kept)[-1:] if query != "mean" else []
    for layer in range(3):
        numbers = dense[layer].numpy()
        fused = torch.tensor(np.stack([oracles.fuse(numbers[image], "max", discard, kept) for image in range(2)]))
        row = rows_asked_for(fused, query).mean(1)
        diagonal = rows_asked_for(fused.diagonal(dim1=1, dim2=2)[..., None], query)
        torch.testing.assert_close(seen.maps[layer], row[:, 3:])
        torch.testing.assert_close(seen.self_mass[layer], diagonal[..., 0].mean(1))
        torch.testing.assert_close(seen.register_mass[layer], row[:, [i for i in range(3) if i not in own]].sum(1))
    whole = torch.tensor(oracles.rollout([d.numpy() for d in dense], 0.5, "max", discard, kept=kept))
    row = rows_asked_for(whole, query).mean(1)[:, 3:]
    torch.testing.assert_close(seen.rollout_contrast, row.amax(1) / row.mean(1))


def test_the_report_is_a_line_a_layer():
    lines = describe_diagnostics(rollout_diagnostics(random_maps(3, 1.0)), start_layer=1).splitlines()
    assert len(lines) == 5 and "rows differ by at most" in lines[0] and "contrast" in lines[-1]
    assert [line.endswith("(not counted)") for line in lines] == [False, True, False, False, False]
