"""Volume to slab: the slices cut around a lesion, still with their geometry; and heat back onto the scan."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from einops import reduce

from genomic_vit.config import SlabConfig
from genomic_vit.data.grid import STACK_SLICES
from genomic_vit.imaging.drawn import Measured
from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.resample import resample
from genomic_vit.imaging.volume import Volume

ROUNDING = 1e-7  # of an index: far above float64's noise, worth less than 1e-3 HU between neighbouring voxels


@dataclass(frozen=True, eq=False)
class Slab:
    """Slices cut around a lesion.

    Args:
        hu: float32 `[z y x]`, z running to superior, y to posterior, x to left, at least nine slices.
        lesion: bool, same shape.
        geometry: where the slab's pixels lie.
        diameter_mm: of the circle with the area of the lesion's largest axial section, in the scan's own resolution;
            NaN where the lesion was not outlined.
        measured: how the lesion's extent is known.
    """

    hu: np.ndarray
    lesion: np.ndarray
    geometry: Geometry
    diameter_mm: float
    measured: Measured = "outline"

    def __post_init__(self) -> None:
        if not self.hu.shape == self.lesion.shape == self.geometry.shape:
            raise ValueError(
                f"Slab: hu {self.hu.shape}, lesion {self.lesion.shape}, geometry {self.geometry.shape} differ"
            )


@dataclass(frozen=True, eq=False)
class SlabPlan:
    """Where a slab lies, and the least part of its scan that decides every pixel of it.

    Args:
        slab: the slab's grid.
        scan: the whole scan's grid, canonical.
        low, high: first and last index z y x of that part on the canonical grid, both included. They may lie beyond
            the scan, whose edge voxels repeat there.
    """

    slab: Geometry
    scan: Geometry
    low: np.ndarray
    high: np.ndarray

    def slices(self, scan: Geometry) -> tuple[int, int]:
        """First and last slice needed along array axis 0 of the scan as stored, whatever axis of the body that is."""
        along = scan.to_index(self.scan.to_lps(np.array([self.low, self.high])))[:, 0].round().astype(int)
        first, last = along.clip(0, scan.shape[0] - 1)
        return int(min(first, last)), int(max(first, last))


def cut_slab(scan: Volume, lesion: Volume, config: SlabConfig) -> Slab:
    """Cut the slices around a lesion into square tiles.

    Slices follow the scan's own axis nearest to superior; where the scan ends, its last voxels repeat.

    Args:
        scan: HU.
        lesion: bool, on the scan's grid or on a block of it.
        config: tile size, crop, step.

    Raises:
        LesionError: nothing of the lesion falls on the slab's slices.
    """
    return cut_planned(plan_slab(scan.geometry, lesion, config), scan, lesion)


def plan_slab(scan: Geometry, lesion: Volume, config: SlabConfig) -> SlabPlan:
    """Where the slab of a lesion lies (bool, on the scan's grid or a block of it), before any HU is read."""
    canonical, block = scan.canonical(), lesion.canonical()
    touched = [np.flatnonzero(block.array.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    first = _start(block.geometry, canonical)
    low, high = (first + np.array([axis[end] for axis in touched]) for end in (0, -1))
    slab = slab_geometry(canonical, low, high, config)
    ends = np.array(slab.shape) - 1
    half = np.array([0.0, 0.5, 0.5])  # pixels are means over their own area
    index = canonical.to_index(slab.to_lps(np.array([-half, ends + half])))
    return SlabPlan(
        slab, canonical, np.floor(index[0] + ROUNDING).astype(int), np.ceil(index[1] - ROUNDING).astype(int)
    )


def cut_planned(plan: SlabPlan, part: Volume, lesion: Volume, measured: Measured = "outline") -> Slab:
    """Cut a planned slab.

    Args:
        plan: of this lesion.
        part: HU, the whole scan or at least the slices the plan needs.
        lesion: bool, on the scan's grid or on a block of it.
        measured: how the lesion's extent is known.

    Raises:
        LesionError: nothing of the lesion falls on the slab's slices.
    """
    part, block, geometry = part.canonical(), lesion.canonical(), plan.slab
    fine = max(1, round(float(geometry.spacing_mm[1] / plan.scan.spacing_mm[1:].min())))  # average coarser pixels
    hu = _block_mean(_needed(plan, part), geometry, fine)
    inside = _block_mean(_needed(plan, block, zeros_around=True), geometry, fine)
    if inside.max() <= 0:
        raise LesionError(
            f"no part of the lesion falls on slices {geometry.spacing_mm[0]:.2f} mm apart; "
            "use a smaller slab.slice_step_mm"
        )
    area_mm2 = block.array.sum(axis=(1, 2)).max() * np.prod(plan.scan.spacing_mm[1:])
    diameter_mm = float(2 * math.sqrt(area_mm2 / math.pi)) if measured == "outline" else math.nan
    return Slab(hu, inside >= min(0.5, inside.max()), geometry, diameter_mm, measured)


def slab_geometry(scan: Geometry, low: np.ndarray, high: np.ndarray, config: SlabConfig) -> Geometry:
    """The slab's grid for a lesion that spans voxels low to high (z y x, both included) of canonical grid `scan`."""
    extent_mm = (high - low + 1) * scan.spacing_mm
    side_mm = max(config.crop_mm, float(extent_mm[1:].max()) + 2 * config.margin_mm)
    pixel_mm = side_mm / config.tile_px

    if config.slice_step_mm is None:
        step_mm, anchor, first, last = float(scan.spacing_mm[0]), float(low[0]), 0, int(high[0] - low[0])
    else:  # centred on the lesion, as many steps as lie within it
        step_mm, anchor = config.slice_step_mm, (low[0] + high[0]) / 2
        last = int(extent_mm[0] / 2 / step_mm)
        first = -last
    step = step_mm / scan.spacing_mm[0]  # in slices of the scan
    lowest, highest = math.ceil(-anchor / step - 1e-6), math.floor((scan.shape[0] - 1 - anchor) / step + 1e-6)
    start, stop = slice_range(first, last, lowest, highest, config.context_slices)

    corner = (low + high) / 2 - (config.tile_px - 1) / 2 * pixel_mm / scan.spacing_mm
    corner[0] = anchor + start * step
    return Geometry(
        (stop - start + 1, config.tile_px, config.tile_px),
        np.array([step_mm, pixel_mm, pixel_mm]),
        scan.to_lps(corner),
        scan.direction,
    )


def slice_range(first: int, last: int, lowest: int, highest: int, context: int) -> tuple[int, int]:
    """First and last slice of a slab, both included.

    Args:
        first, last: slices of the lesion.
        lowest, highest: slices of the scan.
        context: slices wanted on each side of the lesion.

    Returns:
        A range of at least nine, inside the scan where the scan has nine, centred on the scan where it has not.
    """
    lacking = max(0, STACK_SLICES - (last - first + 1 + 2 * context))
    start = max(first - context - lacking // 2, lowest)
    stop = min(last + context + lacking - lacking // 2, highest)
    if stop - start + 1 < STACK_SLICES:
        start = max(lowest, min(start, stop - STACK_SLICES + 1))
        stop = min(highest, max(stop, start + STACK_SLICES - 1))
    lacking = max(0, STACK_SLICES - (stop - start + 1))
    return start - lacking // 2, stop + lacking - lacking // 2


def place_on_scan(values: np.ndarray, slab: Geometry, scan: Geometry) -> Volume:
    """Values on the slab's grid (z y x) put onto the scan's own voxels, linear, zero outside the slab."""
    return Volume(resample(Volume(values, slab), scan, outside=0.0), scan)


def _start(part: Geometry, scan: Geometry) -> np.ndarray:
    """Index in `scan` of voxel [0, 0, 0] of a part of it, both canonical."""
    return scan.to_index(part.origin_mm).round().astype(int)


def _needed(plan: SlabPlan, part: Volume, zeros_around: bool = False) -> Volume:
    """The planned part of a scan, float32, its edge voxels repeated beyond it; out of a part that holds it, canonical.

    Args:
        plan: says which.
        part: of the scan.
        zeros_around: the scan is zero where `part` does not reach.
    """
    start, end = _start(part.geometry, plan.scan), np.array(plan.scan.shape) - 1
    stop = start + np.array(part.array.shape)
    low, high = plan.low.clip(0, end), plan.high.clip(0, end) + 1
    if not zeros_around and ((low < start) | (high > stop)).any():
        raise ValueError(f"cut_planned: voxels {low} to {high - 1} needed, {start} to {stop - 1} given (z y x)")
    array = np.zeros(high - low, np.float32)
    both = np.maximum(low, start), np.minimum(high, stop)
    to, of = (
        tuple(slice(a, max(a, b)) for a, b in zip(*(ends - base for ends in both), strict=True))
        for base in (low, start)
    )
    array[to] = part.array[of]
    array = np.pad(array, np.stack([low - plan.low, plan.high + 1 - high], axis=-1), mode="edge")
    grid = plan.scan
    return Volume(array, Geometry(array.shape, grid.spacing_mm, grid.to_lps(plan.low), grid.direction))


def _block_mean(volume: Volume, onto: Geometry, fine: int) -> np.ndarray:
    """`volume` on `onto`, each pixel the mean of fine × fine linear samples in its plane, float32."""
    half = np.array([0.0, 0.5 - 0.5 / fine, 0.5 - 0.5 / fine])
    depth, height, width = onto.shape
    finer = Geometry(
        (depth, height * fine, width * fine),
        onto.spacing_mm / np.array([1, fine, fine]),
        onto.to_lps(-half),
        onto.direction,
    )
    return reduce(resample(volume, finer), "z (y fy) (x fx) -> z y x", "mean", fy=fine, fx=fine)
