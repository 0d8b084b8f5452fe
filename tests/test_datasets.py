"""Which stacks training draws and evaluation sees."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genomic_vit.config import AugmentConfig, SlabConfig, ViewConfig
from genomic_vit.config_tree import from_tree
from genomic_vit.data.augment import augment
from genomic_vit.data.datasets import AllStacks, RandomStacks, loader, window
from genomic_vit.data.prepare import Cases
from genomic_vit.data.slab import cut_slab
from genomic_vit.training.module import StageData
from tests.scans import ball, chest, grid_of

GEOMETRY = grid_of(spacing_mm=(1.25, 0.7, 0.7), shape=(40, 80, 80))
SLAB = cut_slab(chest(GEOMETRY), ball(GEOMETRY), SlabConfig(tile_px=16))


def first_slice(hu):
    return next(start for start in range(len(SLAB.hu)) if np.array_equal(SLAB.hu[start], hu[0].numpy()))


def test_every_admissible_start_is_drawn_and_touches_the_lesion():
    drawn = set()
    for epoch in range(200):
        batch = RandomStacks([SLAB], np.ones((1, 1)), seed=(0, 0, epoch))[0]
        drawn.add(first_slice(batch.hu))
        assert batch.lesion.any()
    assert drawn == set(range(len(SLAB.hu) - 8))


def test_a_draw_depends_on_seed_and_case_not_on_order():
    slabs, labels = [SLAB] * 4, np.zeros((4, 1))
    forward = [RandomStacks(slabs, labels, seed=(3, 1, 4))[i].hu for i in range(4)]
    backward = [RandomStacks(slabs, labels, seed=(3, 1, 4))[i].hu for i in reversed(range(4))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))


def test_evaluation_sees_every_slice():
    for stride in range(1, 10):
        stacks = AllStacks([SLAB], np.zeros((1, 1)), ViewConfig(eval_stride=stride))
        seen = {first_slice(item.hu) + i for item in stacks for i in range(9)}
        assert seen == set(range(len(SLAB.hu)))


def test_window_is_linear_and_clipped():
    hu = torch.tensor([-2000.0, -1350.0, -600.0, 150.0, 900.0])
    assert torch.allclose(window(hu, (-1350.0, 150.0)), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_gpu_is_given_pinned_batches_with_a_byte_a_mask_pixel(device, monkeypatch):
    """Page-locked memory needs a GPU; here the loader is told of one, and what it would lock is noted."""
    locked = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: device == "cuda")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: locked.append(tensor.data_ptr()) or tensor)
    cases = Cases([SLAB] * 4, np.zeros((4, 1)), ["a", "b", "c", "d"])
    data = StageData(cases, cases, from_tree({}, "here"), 0)
    data.trainer = SimpleNamespace(current_epoch=0, strategy=SimpleNamespace(root_device=torch.device(device)))
    for batches in (data.train_dataloader(), data.val_dataloader()):
        locked.clear()
        for batch in batches:
            assert batch.lesion.element_size() == 1 and batch.lesion.any() and not batch.lesion.all()
            assert locked[-4:] == ([part.data_ptr() for part in batch] if device == "cuda" else [])


def test_a_mask_of_bytes_is_augmented_as_shares():
    batch = next(iter(loader(RandomStacks([SLAB] * 4, np.zeros((4, 1)), seed=(0,)), 4)))
    once, again = (torch.Generator().manual_seed(1) for _ in range(2))
    found = augment(batch.hu, batch.lesion, AugmentConfig(), once)
    wanted = augment(batch.hu, batch.lesion.float(), AugmentConfig(), again)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))
    assert found[1].dtype == torch.float32 and 0 < found[1].mean() < 1


def test_a_lone_last_stack_is_left_out_of_training_only():
    stacks = RandomStacks([SLAB] * 5, np.zeros((5, 1)), seed=(0,))
    assert [len(batch.hu) for batch in loader(stacks, 2, shuffle=(0,))] == [2, 2]
    assert [len(batch.hu) for batch in loader(stacks, 2)] == [2, 2, 1]


def test_training_order_is_fixed_by_its_seed_however_often_it_is_asked_for():
    """A resumed epoch asks twice; and asking leaves torch's own generator, which dropout draws from, alone."""
    stacks = RandomStacks([SLAB] * 20, np.zeros((20, 1)), seed=(0,))
    batches = loader(stacks, 4, shuffle=(1, 2))
    untouched = torch.get_rng_state()
    first = [batch.case.tolist() for batch in batches]
    assert torch.equal(torch.get_rng_state(), untouched)
    assert [batch.case.tolist() for batch in batches] == first
    assert [batch.case.tolist() for batch in loader(stacks, 4, shuffle=(1, 3))] != first
    assert sorted(case for batch in first for case in batch) == list(range(20))
