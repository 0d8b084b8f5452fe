"""A slab cut from the slices it needs is the slab cut from the whole scan."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from genomic_vit import Geometry, Volume
from genomic_vit.config import SlabConfig
from genomic_vit.data.slab import cut_planned, cut_slab, plan_slab
from tests.scans import ball, chest, grid_of
from tests.test_slab import CUTS, STORAGE, stored

PLACES = {
    "inside": (0.5, 0.45, 0.55),
    "at the first slice": (0.02, 0.5, 0.5),
    "at the last slice": (0.97, 0.5, 0.5),
    "at the chest wall": (0.5, 0.04, 0.97),
}
SETTINGS = CUTS | {"narrow": SlabConfig(crop_mm=12.0, margin_mm=0.0, context_slices=0)}


def rough(geometry: Geometry) -> Volume:
    """A chest no neighbouring voxels of which are alike."""
    noise = np.random.default_rng(3).normal(0, 300, geometry.shape)
    return Volume((chest(geometry).array + noise).astype(np.float32), geometry)


def block_of(lesion: Volume) -> Volume:
    """The lesion without the zeros around it."""
    touched = np.argwhere(lesion.array)
    low, high = touched.min(0), touched.max(0) + 1
    geometry = lesion.geometry
    array = lesion.array[tuple(map(slice, low, high))]
    return Volume(array, replace(geometry, shape=array.shape, origin_mm=geometry.to_lps(low)))


def from_the_whole(scan: Volume, slab: Geometry) -> np.ndarray:
    """Values of a slab's pixels by SciPy's interpolation in the whole scan, each the mean of fine samples."""
    fine = max(1, round(slab.spacing_mm[1] / scan.geometry.canonical().spacing_mm[1:].min()))
    shift = (np.arange(fine) - (fine - 1) / 2) / fine
    total = 0.0
    for y in shift:
        for x in shift:
            index = scan.geometry.to_index(replace(slab, origin_mm=slab.to_lps([0, y, x])).positions_mm())
            total = total + map_coordinates(scan.array, np.moveaxis(index, -1, 0), np.float64, order=1, mode="nearest")
    return total / fine**2


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("cut", SETTINGS)
@pytest.mark.parametrize("storage", STORAGE)
def test_the_slices_a_plan_names_are_all_a_slab_needs(storage, cut, place):
    geometry, order, flips = STORAGE[storage]
    scan = stored(rough(geometry), order, flips)
    lesion = stored(ball(geometry, 6.0, PLACES[place]), order, flips)
    wanted = cut_slab(scan, lesion, SETTINGS[cut])
    block = block_of(lesion)
    plan = plan_slab(scan.geometry, block, SETTINGS[cut])
    first, last = plan.slices(scan.geometry)
    assert last - first + 1 < scan.geometry.shape[0]
    part = scan.array[first : last + 1]
    origin_mm = scan.geometry.to_lps([first, 0, 0])
    slab = cut_planned(plan, Volume(part, replace(scan.geometry, shape=part.shape, origin_mm=origin_mm)), block)
    assert np.array_equal(slab.hu, wanted.hu)
    np.testing.assert_allclose(slab.hu, from_the_whole(scan, slab.geometry), atol=5e-3, rtol=0)
    inside = from_the_whole(Volume(lesion.array.astype(np.float32), lesion.geometry), slab.geometry)
    clear = np.abs(inside - min(0.5, inside.max())) > 1e-4
    assert np.array_equal(slab.lesion[clear], (inside >= min(0.5, inside.max()))[clear])
    assert np.array_equal(slab.lesion, wanted.lesion) and slab.geometry.same_as(wanted.geometry, 1e-9)
    assert slab.diameter_mm == wanted.diameter_mm


def test_fewer_slices_than_planned_are_refused():
    scan, lesion = chest(grid_of()), ball(grid_of())
    plan = plan_slab(scan.geometry, lesion, SlabConfig())
    first, last = plan.slices(scan.geometry)
    part = scan.array[first:last]
    geometry = replace(scan.geometry, shape=part.shape, origin_mm=scan.geometry.to_lps([first, 0, 0]))
    with pytest.raises(ValueError, match=r"needed, .* given"):
        cut_planned(plan, Volume(part, geometry), lesion)


@pytest.mark.parametrize("measured", ["box", "point", "lung"])
def test_a_lesion_that_was_not_outlined_has_no_diameter(measured):
    scan, lesion = chest(grid_of()), ball(grid_of())
    slab = cut_planned(plan_slab(scan.geometry, lesion, SlabConfig()), scan, lesion, measured)
    assert np.isnan(slab.diameter_mm) and slab.measured == measured


def test_the_same_voxels_beside_the_part_change_nothing():
    """The plan is tight: HU beyond it may be anything."""
    scan, lesion = rough(grid_of()), ball(grid_of(), 6.0)
    plan = plan_slab(scan.geometry, lesion, SlabConfig())
    other = np.full_like(scan.array, 5000.0)
    inside = tuple(slice(max(0, low), high + 1) for low, high in zip(plan.low, plan.high, strict=True))
    other[inside] = scan.array[inside]
    a, b = (cut_planned(plan, Volume(array, scan.geometry), lesion) for array in (scan.array, other))
    assert np.array_equal(a.hu, b.hu) and (plan.high - plan.low + 1 < scan.array.shape).all()
