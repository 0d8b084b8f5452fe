"""Streamed training makes no n × n tensor, forward or backward: of one head, of the fused heads, or in one piece."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genomic_vit.config_tree import from_tree
from genomic_vit.models.attention import AttentionMap
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.models.rollout import attention_rollout
from genomic_vit.training.losses import Truth
from genomic_vit.training.stages import look, schedule

TOKENS, IMAGES, HEADS = 442, 2, 2  # 21 × 21 patches and CLS, several blocks of rows


class Watch(TorchDispatchMode):
    """Notes every operator that hands out a tensor as large as an attention matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.seen = set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.seen += 1
                matrix = (
                    tensor.ndim > 1 and tensor.shape[-2:].numel() >= TOKENS**2
                )  # not a block of many heads, laid flat
                if matrix or tensor.numel() >= IMAGES * HEADS * TOKENS**2:
                    self.large.add((str(func), tuple(tensor.shape)))
        return out


def watched_step(mode: str, attention_dropout: float = 0.0, **rollout) -> list[set]:
    """What was large in the forward and in the backward pass of each stage of a mode."""
    torch.manual_seed(0)
    vit = {
        "patch_px": 4,
        "width": 16,
        "depth": 2,
        "heads": HEADS,
        "dropout": 0.1,
        "attention_dropout": attention_dropout,
    }
    tree = {"slab": {"tile_px": 28}, "vit": vit}
    config = from_tree(tree | {"rollout": rollout, "training": {"lesion_weight": 0.5}}, "here")
    model, found = build_model(config).train(), []
    grid, lesion = torch.rand(IMAGES, 1, 84, 84), (torch.rand(IMAGES, 1, 84, 84) > 0.9).float()
    truth = Truth(torch.tensor([[0.0], [1.0]]), lesion, torch.ones(1))
    for stage in schedule(mode, config.training):
        for name, part in model.named_children():
            part.requires_grad_(name in stage.learns)
        with Watch() as forward:
            output = look(model, stage, grid, lesion, torch.arange(IMAGES))
            total = sum(weight * loss(output, truth) for weight, loss in stage.losses)
        with Watch() as backward:
            total.backward()
        assert forward.seen > 100 and backward.seen > 100
        found += [forward.large, backward.large]
    return found


@pytest.mark.parametrize(
    ("mode", "rollout"),
    [
        ("joint", {}),  # keeps some rows, of however many tokens
        ("joint", {"attention": "streamed"}),
        ("joint", {"attention": "streamed", "fusion": "max", "learn_residual": True}),
        ("joint", {"attention_dropout": 0.1}),
        ("joint", {"attention": "streamed", "attention_dropout": 0.1}),
        ("staged", {"learn_residual": True}),
    ],
)
def test_a_streamed_step_makes_no_matrix(mode, rollout):
    assert not any(watched_step(mode, **rollout))


def test_the_watch_sees_the_dense_way():
    forward, backward = watched_step("joint", attention="dense")
    assert forward and backward


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
def test_a_streamed_rollout_makes_no_matrix(fusion, learns):
    q, k = torch.randn(2, 3, IMAGES, HEADS, TOKENS, 4, generator=torch.Generator().manual_seed(0))
    residual = torch.full((3,), 0.4, requires_grad=True)
    maps = [AttentionMap(q[i].requires_grad_(learns), k[i].requires_grad_(learns), 0.5) for i in range(3)]
    with Watch() as watch:
        row = attention_rollout(maps, fusion=fusion, residual=residual, query="mean", method="streamed")
        row[:, ::2].sum().backward()
    assert watch.seen > 100 and not watch.large
