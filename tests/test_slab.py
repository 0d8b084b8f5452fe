"""Slab, grid, un-grid and heat placement, by volumes whose voxels hold their own position."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genomic_vit import Volume, read_lesion, read_scan, write_volume
from genomic_vit.config import SlabConfig
from genomic_vit.data.grid import cut_stacks, from_grid, join_stacks, stack_starts, to_grid
from genomic_vit.data.slab import cut_slab, place_on_scan, slice_range
from genomic_vit.imaging.read import LesionError
from tests.scans import AXES, ball, chest, grid_of, stored, turned

STORAGE = {
    "LPS": (grid_of(), (0, 1, 2), (False, False, False)),
    "RAS": (grid_of(), (0, 1, 2), (False, True, True)),
    "upside down": (grid_of(), (0, 1, 2), (True, False, False)),
    "permuted": (grid_of(), (2, 0, 1), (False, True, False)),
    "isotropic": (grid_of(spacing_mm=(0.8, 0.8, 0.8), shape=(60, 80, 80)), (1, 2, 0), (True, True, False)),
    "oblique": (grid_of(turned(25, 0)), (0, 1, 2), (False, False, False)),
    "oblique, permuted, flipped": (grid_of(turned(20, 15)), (1, 0, 2), (True, False, True)),
}
CUTS = {
    "scan's own slices": SlabConfig(),
    "2 mm": SlabConfig(slice_step_mm=2.0),
    "coarse tiles": SlabConfig(tile_px=16, crop_mm=48.0),
}
TOLERANCE_MM = 0.1


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("storage", STORAGE)
def test_every_pixel_of_a_slab_is_where_its_geometry_says(storage, cut):
    geometry, order, flips = STORAGE[storage]
    lesion = stored(ball(geometry), order, flips)
    for axis in range(3):
        scan = stored(Volume(geometry.positions_mm()[..., axis].astype(np.float32), geometry), order, flips)
        slab = cut_slab(scan, lesion, CUTS[cut])
        positions_mm = slab.geometry.positions_mm()
        index = scan.geometry.to_index(positions_mm)
        inside = ((index >= 2) & (index <= np.array(scan.geometry.shape) - 3)).all(axis=-1)
        assert inside.mean() > 0.5
        assert np.abs(slab.hu - positions_mm[..., axis])[inside].max() < TOLERANCE_MM


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("storage", STORAGE)
def test_what_is_seen_at_a_place_returns_to_that_place(storage, cut):
    geometry, order, flips = STORAGE[storage]
    lesion = stored(ball(geometry), order, flips)
    scan = lesion.geometry
    slab = cut_slab(Volume(lesion.array.astype(np.float32), scan), lesion, CUTS[cut]).geometry
    index = slab.to_index(scan.positions_mm())
    within = ((index >= 0) & (index <= np.array(slab.shape) - 1)).all(axis=-1)
    outside = ((index < -0.51) | (index > np.array(slab.shape) - 0.49)).any(axis=-1)
    assert within.sum() > 1000 and outside.any()
    starts = stack_starts(slab.shape[0], 2)
    for axis in range(3):
        values = slab.positions_mm()[..., axis]
        stacks = cut_stacks(values, starts)
        back = from_grid(to_grid(stacks))
        assert np.array_equal(back, stacks)
        placed = place_on_scan(join_stacks(back, starts, slab.shape[0]), slab, scan)
        assert placed.geometry is scan
        assert np.abs(placed.array - scan.positions_mm()[..., axis])[within].max() < TOLERANCE_MM
        assert (placed.array[outside] == 0).all()


def test_the_same_nodule_gives_the_same_slab_however_it_is_stored():
    scan, lesion = chest(grid_of()), ball(grid_of())
    wanted = cut_slab(scan, lesion, SlabConfig())
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        slab = cut_slab(stored(scan, order, flips), stored(lesion, order, flips), SlabConfig())
        assert slab.geometry.same_as(wanted.geometry, 1e-6)
        np.testing.assert_allclose(slab.hu, wanted.hu, atol=0.05)
        assert np.array_equal(slab.lesion, wanted.lesion)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("storage", ["LPS", "RAS", "permuted"])
def test_the_same_nodule_on_disk_gives_the_same_slab(storage, suffix, tmp_path):
    _, order, flips = STORAGE[storage]
    scan, lesion = chest(grid_of()), ball(grid_of())
    write_volume(stored(scan, order, flips), tmp_path / f"scan{suffix}")
    write_volume(stored(lesion, order, flips), tmp_path / f"lesion{suffix}")
    read = read_scan(tmp_path / f"scan{suffix}")
    slab = cut_slab(read, read_lesion(tmp_path / f"lesion{suffix}", like=read), SlabConfig())
    wanted = cut_slab(scan, lesion, SlabConfig())
    assert slab.geometry.same_as(wanted.geometry, 1e-3)
    np.testing.assert_allclose(slab.hu, wanted.hu, atol=0.5)


@pytest.mark.parametrize("spacing_mm", [0.6, 2.5, 6.0])
def test_a_slab_holds_every_slice_of_the_lesion_and_at_least_nine(spacing_mm):
    geometry = grid_of(spacing_mm=(spacing_mm, 0.7, 0.7), shape=(int(60 / spacing_mm), 100, 96))
    lesion = ball(geometry)
    slab = cut_slab(chest(geometry), lesion, SlabConfig())
    touched = geometry.to_lps(np.argwhere(lesion.array))[:, 2]
    heights = slab.geometry.positions_mm()[:, 0, 0, 2]
    assert len(heights) >= 9
    assert heights.min() <= touched.min() + 1e-6 and heights.max() >= touched.max() - 1e-6


def test_a_scan_of_five_slices_repeats_its_edges():
    geometry = grid_of(shape=(5, 100, 96))
    slab = cut_slab(chest(geometry), ball(geometry, 4.0), SlabConfig())
    assert len(slab.hu) == 9
    assert np.array_equal(slab.hu[0], slab.hu[2]) and np.array_equal(slab.hu[8], slab.hu[6])
    assert not np.array_equal(slab.hu[2], slab.hu[3])


def test_a_large_lesion_widens_its_own_crop():
    geometry = grid_of()
    slab = cut_slab(chest(geometry), ball(geometry, 22.0), SlabConfig(crop_mm=30.0, margin_mm=5.0))
    side_mm = slab.geometry.spacing_mm[1] * slab.geometry.shape[1]
    assert 44 + 10 - 1.5 <= side_mm <= 44 + 10 + 1.5
    assert not slab.lesion[:, [0, -1]].any() and not slab.lesion[:, :, [0, -1]].any()


def test_the_mask_of_a_slab_lies_on_the_lesion():
    geometry = grid_of(turned(20, 10))
    slab = cut_slab(chest(geometry), ball(geometry), SlabConfig())
    middle = slab.geometry.positions_mm()[slab.lesion].mean(axis=0)
    wanted = geometry.positions_mm()[ball(geometry).array].mean(axis=0)
    assert np.linalg.norm(middle - wanted) < 0.5
    assert (slab.hu[slab.lesion] > -400).mean() > 0.95


def test_diameter_is_the_lesions_own():
    geometry = grid_of(AXES, (1.0, 0.5, 0.5), (40, 120, 120))
    assert abs(cut_slab(chest(geometry), ball(geometry, 9.0), SlabConfig()).diameter_mm - 18.0) < 0.3


def test_a_lesion_between_the_slices_asked_for_is_refused():
    geometry = grid_of(spacing_mm=(1.0, 0.7, 0.7), shape=(60, 100, 96))
    array = np.zeros(geometry.shape, dtype=bool)
    array[20, 50, 50] = array[30, 50, 50] = True
    with pytest.raises(LesionError, match=r"smaller slab\.slice_step_mm"):
        cut_slab(chest(geometry), Volume(array, geometry), SlabConfig(slice_step_mm=20.0))


@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 30), st.integers(0, 30), st.integers(0, 8))
def test_slice_range_keeps_its_promises(first, count, below, above, context):
    last, lowest, highest = first + count - 1, first - below, first + count - 1 + above
    start, stop = slice_range(first, last, lowest, highest, context)
    assert stop - start + 1 >= 9
    assert start <= first and stop >= last
    if highest - lowest + 1 >= 9:
        assert lowest <= start and stop <= highest
