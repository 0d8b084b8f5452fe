"""Frames of one series laid out as a straight, even volume: order, spacing, gaps and gantry tilt.

Positions decide, nothing else: not the names of files, not InstanceNumber, not SliceThickness. Each slice has a place
along the normal and a place in its own plane. Slices that step sideways (gantry tilt) are resampled in the plane,
missing and uneven ones are blended of their neighbours, pixel by same pixel; both are linear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from genomic_vit.imaging.geometry import Geometry

OnGap = Literal["error", "resample"]
EVEN_MM, EVEN_SHARE = 0.1, 0.02  # a slice may lie this far off its even place, or this share of the spacing
STRAIGHT_MM = 0.1  # and this far aside
MOST_TILT_DEG = 40.0
MOST_ASIDE_MM = 10.0  # off the line of the others: a couch may shift a little, a garbled position lies far away
SAME_PLACE_MM = 0.01
WIDEST_GAP = 3.0  # gaps up to this many spacings are filled on request: at most two missing slices
AIR_HU = -1024.0


class StackError(ValueError):
    """Slices do not make a volume; the message gives the reason with its numbers."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """Where the slices of a stack were taken, in the stack's own frame.

    Args:
        shape: rows, columns of a slice.
        pixel_mm: distance between rows, between columns.
        origin_mm: LPS of the first pixel of the first slice.
        direction: (3, 3); columns are the LPS unit vectors of normal, column (y) and row (x).
        along_mm: (n,) place of each slice along the normal, rising from 0.
        aside_mm: (n, 2) place of each slice's first pixel along y and x, relative to the first slice's.
    """

    shape: tuple[int, int]
    pixel_mm: np.ndarray
    origin_mm: np.ndarray
    direction: np.ndarray
    along_mm: np.ndarray
    aside_mm: np.ndarray


@dataclass(frozen=True, eq=False)
class Stack:
    """A straight, even volume over a lattice of slices.

    Args:
        geometry: of the volume.
        below: (z,) index of the slice at or below each of the volume's slices.
        weight: (z,) share of the slice above it; 0 where the volume's slice is the scanner's own.
        shift_px: (z, 2) by how much each of the volume's slices is moved along y and x; None where none is.
    """

    geometry: Geometry
    below: np.ndarray
    weight: np.ndarray
    shift_px: np.ndarray | None

    def read(self, first: int, last: int, slice_hu: Callable[[int], np.ndarray]) -> np.ndarray:
        """Slices first to last (both included) of the volume, float32 (z y x).

        Args:
            first, last: indices along axis 0.
            slice_hu: gives the HU (y x) of one slice of the lattice; called once for each slice needed.
        """
        volume = np.empty((last - first + 1, *self.geometry.shape[1:]), dtype=np.float32)
        held: dict[int, np.ndarray] = {}
        for z in range(first, last + 1):
            low, weight = int(self.below[z]), self.weight[z]
            needed = (low,) if weight == 0 else (low, low + 1)
            held = {k: held[k] if k in held else slice_hu(k) for k in needed}
            hu = held[low] if weight == 0 else (1 - weight) * held[low] + weight * held[low + 1]
            if self.shift_px is not None:  # after the blend, which follows the shear from pixel to same pixel
                hu = shifted(hu, self.shift_px[z], self.geometry.shape[1:])
            volume[z - first] = hu
        return volume


def shifted(hu: np.ndarray, shift_px: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A slice (y x) moved by `shift_px` (not negative) onto a plane of `shape`, linear.

    A pixel is air where the slice has none: its centre lies more than half a pixel beyond the slice's outer centres.
    """
    plane = np.full(shape, AIR_HU, dtype=np.float32)
    (y, fy), (x, fx) = ((int(np.floor(s)), np.float32(s - np.floor(s))) for s in shift_px)
    padded = np.pad(hu, 1, mode="edge")
    blend = (1 - fy) * padded[1:] + fy * padded[:-1]  # one row more than the slice, half of it beyond either end
    blend = (1 - fx) * blend[:, 1:] + fx * blend[:, :-1]
    top, left = int(fy > 0.5), int(fx > 0.5)
    blend = blend[top : top + hu.shape[0], left : left + hu.shape[1]]
    plane[y + top : y + top + blend.shape[0], x + left : x + left + blend.shape[1]] = blend
    return plane


def make_lattice(
    position_mm: np.ndarray, orientation: np.ndarray, pixel_mm: tuple[float, float], shape: tuple[int, int]
) -> tuple[Lattice, np.ndarray]:
    """The lattice of slices in any order, and the order that sorts them along the normal.

    Args:
        position_mm: (n, 3) LPS of each slice's first pixel.
        orientation: (6,) LPS direction along a row, then along a column.
        pixel_mm: distance between rows, between columns.
        shape: rows, columns.

    Raises:
        StackError: fewer than two slices, directions that are none, or two slices at one place.
    """
    if len(position_mm) < 2:
        raise StackError("it is a single slice; a volume needs at least two")
    direction = _axes(orientation)
    place = (position_mm - position_mm[0]) @ direction
    order = np.argsort(place[:, 0], kind="stable")
    place = place[order] - place[order[0]]
    steps_mm = np.diff(place[:, 0])
    doubled = int((steps_mm < SAME_PLACE_MM).sum())
    if doubled:
        raise StackError(
            f"{doubled + 1} of its {len(place)} slices share their place with another "
            f"(first at {place[steps_mm.argmin(), 0]:.2f} mm along the normal); no header tells them apart"
        )
    lattice = Lattice(
        shape, np.array(pixel_mm, dtype=np.float64), position_mm[order[0]], direction, place[:, 0], place[:, 1:]
    )
    return lattice, order


def straighten(lattice: Lattice, on_gap: OnGap, names: Sequence[str]) -> Stack:
    """The even, straight volume over a lattice.

    Args:
        lattice: of two slices at least.
        on_gap: "error" refuses missing and uneven slices, "resample" interpolates between their neighbours.
        names: of the slices, for messages.

    Raises:
        StackError: slices are missing or uneven and `on_gap` is "error", or the gap is too wide to fill.
    """
    count, extent_mm = len(lattice.along_mm), float(lattice.along_mm[-1])
    steps_mm = np.diff(lattice.along_mm)
    usual_mm = float(np.median(steps_mm))
    even_mm = np.arange(count) * extent_mm / (count - 1)
    if np.abs(lattice.along_mm - even_mm).max() > max(EVEN_MM, EVEN_SHARE * usual_mm):
        _check_gaps(steps_mm, usual_mm, on_gap, names)
        count = round(extent_mm / usual_mm) + 1
        even_mm = np.arange(count) * extent_mm / (count - 1)
        below, weight = _between(lattice.along_mm, even_mm)
    else:
        below, weight = np.arange(count), np.zeros(count)
    _check_aside(lattice, names)
    low_mm = lattice.aside_mm.min(axis=0)
    across_mm = lattice.aside_mm.max(axis=0) - low_mm
    straight = across_mm.max() <= STRAIGHT_MM
    if straight:
        low_mm, across_mm = np.zeros(2), np.zeros(2)
    shift_px = None
    if not straight:
        above = np.minimum(below + 1, len(lattice.aside_mm) - 1)
        aside_mm = (1 - weight)[:, None] * lattice.aside_mm[below] + weight[:, None] * lattice.aside_mm[above]
        shift_px = (aside_mm - low_mm) / lattice.pixel_mm
    grown = np.ceil(across_mm / lattice.pixel_mm - 1e-6).astype(int)
    geometry = Geometry(
        (count, lattice.shape[0] + grown[0], lattice.shape[1] + grown[1]),
        np.array([extent_mm / (len(even_mm) - 1), *lattice.pixel_mm]),
        lattice.origin_mm + lattice.direction[:, 1:] @ low_mm,
        lattice.direction,
    )
    return Stack(geometry, below, weight, shift_px)


def _axes(orientation: np.ndarray) -> np.ndarray:
    """(3, 3); columns normal, column (y), row (x) of DICOM's six direction cosines, made exactly orthonormal."""
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1) for length in lengths) > 0.01 or abs(row @ column) > 0.01:
        raise StackError(f"its directions {np.round(orientation, 4).tolist()} are not two unit vectors at right angles")
    row = row / lengths[0]
    column = column - (column @ row) * row
    column /= np.linalg.norm(column)
    return np.stack([np.cross(row, column), column, row], axis=1)


def _check_aside(lattice: Lattice, names: Sequence[str]) -> None:
    """Raise StackError where slices step aside as no gantry tilts, or one lies far off the line of the others."""
    slope = np.median(np.diff(lattice.aside_mm, axis=0) / np.diff(lattice.along_mm)[:, None], axis=0)
    lean_deg = float(np.degrees(np.arctan(np.abs(slope).max())))
    if lean_deg > MOST_TILT_DEG:
        raise StackError(f"its slices step aside by {lean_deg:.0f} degrees, a gantry tilts {MOST_TILT_DEG:g} at most")
    off_mm = lattice.aside_mm - np.outer(lattice.along_mm, slope)
    off_mm = np.abs(off_mm - np.median(off_mm, axis=0)).max(axis=1)
    if off_mm.max() > MOST_ASIDE_MM:
        raise StackError(
            f"{names[int(off_mm.argmax())]} lies {off_mm.max():.1f} mm aside of the line of the others; its position "
            "must be wrong: export the series again"
        )


def _check_gaps(steps_mm: np.ndarray, usual_mm: float, on_gap: OnGap, names: Sequence[str]) -> None:
    widest = int(steps_mm.argmax())
    found = (
        f"its slices lie {steps_mm.min():.2f} to {steps_mm.max():.2f} mm apart (usually {usual_mm:.2f}); "
        f"the widest gap follows {names[widest]} (slice {widest + 1} of {len(names)})"
    )
    if on_gap == "error":
        raise StackError(f"{found}. A slice may be missing: export the series again, or pass --on-gap resample")
    if steps_mm[widest] > WIDEST_GAP * usual_mm * 1.01:
        raise StackError(
            f"{found}. More than {WIDEST_GAP:g} spacings are too wide to fill by interpolation: export the series again"
        )


def _between(along_mm: np.ndarray, even_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each even place the slice at or below it, and the share of the next one."""
    below = np.clip(np.searchsorted(along_mm, even_mm, side="right") - 1, 0, len(along_mm) - 2)
    weight = (even_mm - along_mm[below]) / (along_mm[below + 1] - along_mm[below])
    near = along_mm[below + 1] - along_mm[below]
    below = np.where((1 - weight) * near < SAME_PLACE_MM, below + 1, below)
    weight = np.where((weight * near < SAME_PLACE_MM) | ((1 - weight) * near < SAME_PLACE_MM), 0.0, weight)
    return below, weight
