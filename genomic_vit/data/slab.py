"""Volume to slab: the slices cut around a lesion, still with their geometry; and heat back onto the scan."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from einops import reduce

from genomic_vit.config import SlabConfig
from genomic_vit.data.grid import STACK_SLICES
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.read import LesionError
from genomic_vit.imaging.resample import resample
from genomic_vit.imaging.volume import Volume


@dataclass(frozen=True, eq=False)
class Slab:
    """Slices cut around a lesion.

    Args:
        hu: float32 `[z y x]`, z running to superior, y to posterior, x to left, at least nine slices.
        lesion: bool, same shape.
        geometry: where the slab's pixels lie.
        diameter_mm: of the circle with the area of the lesion's largest axial section, in the scan's own resolution.
    """

    hu: np.ndarray
    lesion: np.ndarray
    geometry: Geometry
    diameter_mm: float

    def __post_init__(self) -> None:
        if not self.hu.shape == self.lesion.shape == self.geometry.shape:
            raise ValueError(
                f"Slab: hu {self.hu.shape}, lesion {self.lesion.shape}, geometry {self.geometry.shape} differ"
            )


def cut_slab(scan: Volume, lesion: Volume, config: SlabConfig) -> Slab:
    """Cut the slices around a lesion into square tiles.

    Slices follow the scan's own axis nearest to superior; where the scan ends, its last voxels repeat.

    Args:
        scan: HU.
        lesion: bool, on the scan's grid.
        config: tile size, crop, step.

    Raises:
        LesionError: nothing of the lesion falls on the slab's slices.
    """
    scan, lesion = scan.canonical(), lesion.canonical()
    geometry = slab_geometry(scan.geometry, lesion.array, config)
    pixel_mm = geometry.spacing_mm[1]
    fine = max(1, round(pixel_mm / float(scan.geometry.spacing_mm[1:].min())))  # average, where pixels are coarser
    hu = _block_mean(scan, geometry, fine)
    inside = _block_mean(Volume(lesion.array.astype(np.float32), lesion.geometry), geometry, fine)
    if inside.max() <= 0:
        raise LesionError(
            f"no part of the lesion falls on slices {geometry.spacing_mm[0]:.2f} mm apart; "
            "use a smaller slab.slice_step_mm"
        )
    nearest = _slices_inside(geometry, scan.geometry)
    hu, inside = hu[nearest], inside[nearest]
    area_mm2 = lesion.array.sum(axis=(1, 2)).max() * np.prod(scan.geometry.spacing_mm[1:])
    return Slab(hu, inside >= min(0.5, inside.max()), geometry, float(2 * math.sqrt(area_mm2 / math.pi)))


def slab_geometry(scan: Geometry, lesion: np.ndarray, config: SlabConfig) -> Geometry:
    """The slab's grid for a lesion (bool, on canonical grid `scan`), by the rules of `config`."""
    touched = [np.flatnonzero(lesion.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    low, high = np.array([t[0] for t in touched]), np.array([t[-1] for t in touched])
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


def _slices_inside(slab: Geometry, scan: Geometry) -> np.ndarray:
    """For each slice of the slab, itself where it lies in the scan, else the nearest slice that does."""
    slices = np.arange(slab.shape[0])
    at = scan.to_index(slab.to_lps(np.stack([slices, 0 * slices, 0 * slices], axis=-1)))[:, 0]
    within = slices[(at > -1e-3) & (at < scan.shape[0] - 1 + 1e-3)]
    return slices.clip(within.min(), within.max())


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
