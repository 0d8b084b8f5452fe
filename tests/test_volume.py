from itertools import permutations, product

import numpy as np
import pytest

from genomic_vit import Volume
from tests.scans import AXES, grid_of, stored, turned


@pytest.mark.parametrize("order", permutations(range(3)))
@pytest.mark.parametrize("flips", product([False, True], repeat=3))
def test_canonical_turns_every_storage_into_the_same_array(order, flips):
    grid = grid_of(turned(8, -12), shape=(4, 5, 6))
    volume = Volume(np.arange(120.0).reshape(4, 5, 6), grid)
    turned_back = stored(volume, order, flips).canonical()
    np.testing.assert_array_equal(turned_back.array, volume.array)
    assert turned_back.geometry.same_as(grid, 1e-9)


def test_canonical_keeps_every_voxel_at_its_place():
    grid = grid_of(turned(25, 40) @ AXES, shape=(4, 5, 6))
    positions = grid.positions_mm()
    for axis in range(3):
        moved = Volume(positions[..., axis], grid).canonical()
        np.testing.assert_allclose(moved.array, moved.geometry.positions_mm()[..., axis], atol=1e-9)


def test_array_must_fit_its_geometry():
    with pytest.raises(ValueError, match=r"array \(4, 5, 7\) does not fit geometry \(4, 5, 6\)"):
        Volume(np.zeros((4, 5, 7)), grid_of(shape=(4, 5, 6)))
