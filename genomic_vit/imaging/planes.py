"""Pictures on parallel planes in the patient (frames of a SEG, contours of an RTSTRUCT), and their place on a scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genomic_vit.imaging.drawn import bounds, part_of
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.volume import Volume

TIE = 0.01  # of a plane's spacing or a pixel: centres this near a border belong to the upper side, noise or not
MOST_VOXELS = 1 << 30


@dataclass(frozen=True, eq=False)
class Planes:
    """Masks `[k y x]` on parallel planes, each with its own place.

    Args:
        masks: bool.
        corners_mm: (k 3), LPS position of the centre of pixel [0, 0] of each plane.
        axes: (3 3); columns are the planes' normal and the unit vectors along y and x.
        pixel_mm: (2,), spacing along y and x.
        reach_mm: (k 2), how far a plane stands for the tissue below and above it along the normal.
    """

    masks: np.ndarray
    corners_mm: np.ndarray
    axes: np.ndarray
    pixel_mm: np.ndarray
    reach_mm: np.ndarray


def reaches(distance_mm: np.ndarray, spacing_mm: float, bridged: np.ndarray | None = None) -> np.ndarray:
    """How far each plane stands for what lies beside it, (k 2): half a spacing, or half-way to a neighbour.

    Args:
        distance_mm: (k,), places of the planes along their normal, rising.
        spacing_mm: usual distance of planes.
        bridged: (k - 1,), gaps wider than that which their two planes share nevertheless.
    """
    half = np.full((len(distance_mm), 2), spacing_mm / 2)
    gaps_mm = np.diff(distance_mm)
    shared = gaps_mm <= spacing_mm * 1.05
    shared = shared if bridged is None else shared | bridged
    half[1:, 0][shared] = half[:-1, 1][shared] = gaps_mm[shared] / 2
    return half


def on_grid(planes: Planes, grid: Geometry) -> Volume | None:
    """The planes' masks on the voxels of `grid`, which they may leave: a bool block of that very grid.

    A voxel belongs when its centre does: the plane that stands for it is found along the normal, then the pixel in
    that plane. Neither even spacing nor planes stacked at right angles are needed. None where no voxel belongs.

    Raises:
        ValueError: the planes span more voxels than any scan has.
    """
    distance = planes.corners_mm @ planes.axes[:, 0]
    order = np.argsort(distance)
    masks, corners_mm, reach_mm = planes.masks[order], planes.corners_mm[order], planes.reach_mm[order]
    lower = distance[order] - reach_mm[:, 0]
    upper = distance[order] + reach_mm[:, 1]
    first, shape = _extent(planes, grid)
    part = part_of(grid, first, shape)
    along = (
        planes.axes.T @ part.step_mm
    )  # how far a step of z, y, x (columns) goes along the planes' normal, y, x (rows)
    start = planes.axes.T @ part.origin_mm
    tie_mm = TIE * float(reach_mm.min()) * 2
    y, x = np.arange(shape[1])[:, None], np.arange(shape[2])[None, :]
    block = np.zeros(tuple(shape), dtype=bool)
    for z in range(shape[0]):
        normal, down, right = (
            at + step[0] * z + step[1] * y + step[2] * x for at, step in zip(start, along, strict=True)
        )
        plane = np.searchsorted(lower, normal + tie_mm, side="right") - 1
        near = (plane >= 0) & (normal + tie_mm < upper[plane])
        if not near.any():
            continue
        corner = corners_mm[plane] @ planes.axes[:, 1:]
        row = np.floor((down - corner[..., 0]) / planes.pixel_mm[0] + 0.5 + TIE).astype(int)
        column = np.floor((right - corner[..., 1]) / planes.pixel_mm[1] + 0.5 + TIE).astype(int)
        near &= (row >= 0) & (row < masks.shape[1]) & (column >= 0) & (column < masks.shape[2])
        block[z][near] = masks[plane[near], row[near], column[near]]
    return Volume(block, part) if block.any() else None


def _extent(planes: Planes, grid: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """First voxel and shape of the block of `grid` that holds everything the planes draw."""
    drawn = np.flatnonzero(planes.masks.any(axis=(1, 2)))
    _, rows, columns = bounds(planes.masks)
    sides = np.array([(row.start - 0.5, row.stop - 0.5) for row in (rows, columns)]) * planes.pixel_mm[:, None]
    corners = []
    for plane in drawn:
        below, above = planes.reach_mm[plane]
        offsets = np.stack(np.meshgrid((-below, above), *sides), axis=-1).reshape(8, 3)
        corners.append(planes.corners_mm[plane] + offsets @ planes.axes.T)
    index = grid.to_index(np.concatenate(corners))
    first = np.floor(index.min(0)).astype(int)
    shape = np.ceil(index.max(0)).astype(int) - first + 1
    if np.prod(shape.astype(float)) > MOST_VOXELS:
        size = (shape * grid.spacing_mm).round().astype(int).tolist()
        raise ValueError(f"the drawing spans {' × '.join(map(str, size))} mm (z y x)")
    return first, shape
