"""Which stacks training draws and evaluation sees."""

import numpy as np
import torch

from genomic_vit.config import SlabConfig, ViewConfig
from genomic_vit.data.datasets import AllStacks, RandomStacks, loader, window
from genomic_vit.data.slab import cut_slab
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
