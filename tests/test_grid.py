import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genomic_vit.data.grid import cut_stacks, from_grid, join_stacks, stack_starts, to_grid


def test_slices_lie_row_by_row():
    stack = np.arange(9)[:, None, None] * np.ones((9, 4, 5))
    grid = to_grid(stack)
    assert grid.shape == (12, 15)
    np.testing.assert_array_equal(grid[::4, ::5], np.arange(9).reshape(3, 3))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_there_and_back_is_the_identity(kind):
    stack = kind(np.random.default_rng(0).normal(size=(2, 9, 4, 6)))
    assert (from_grid(to_grid(stack)) == stack).all()
    grid = to_grid(stack)
    assert (to_grid(from_grid(grid)) == grid).all()


@given(slices=st.integers(9, 80), stride=st.integers(1, 9))
def test_strided_stacks_see_every_slice_and_nothing_beyond(slices, stride):
    starts = stack_starts(slices, stride)
    assert {start + offset for start in starts for offset in range(9)} == set(range(slices))
    assert starts == sorted(set(starts))


@pytest.mark.parametrize(("slices", "stride"), [(8, 1), (12, 0), (12, 10)])
def test_strides_that_leave_slices_unseen_are_refused(slices, stride):
    with pytest.raises(ValueError, match="at least 9 slices, stride 1 to 9 needed"):
        stack_starts(slices, stride)


def test_overlapping_stacks_are_averaged():
    starts = stack_starts(14, 3)
    slab = np.random.default_rng(0).normal(size=(14, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(join_stacks(cut_stacks(slab, starts), starts, 14), slab, rtol=1e-6)
    levels = np.stack([np.full((9, 1, 1), float(index)) for index in range(2)])
    np.testing.assert_allclose(join_stacks(levels, [0, 3], 12)[:, 0, 0], [0] * 3 + [0.5] * 6 + [1] * 3)
