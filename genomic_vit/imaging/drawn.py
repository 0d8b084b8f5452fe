"""What a lesion source draws, before and after it lies on the grid of its scan."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from genomic_vit.config import UserError
from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.resample import resample
from genomic_vit.imaging.volume import Volume

Measured = Literal["outline", "box", "point", "lung"]
LEAST_SHARE = 0.5  # of a lesion that must lie in the scan
AT_ONCE = 1 << 22  # voxels interpolated at a time
ON_GRID = 0.01  # voxels by which two grids may miss one another and still be taken as one


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the many kinds of error that readers of DICOM raise into a LesionError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's words on bad values may quote them
            yield
    except UserError:
        raise
    except Exception as cause:
        reason = " ".join(str(cause).split())[-160:]
        raise LesionError(
            f"{path}: cannot be read ({type(cause).__name__}: {reason}). The file may be damaged or cut short; "
            "copy or export it again."
        ) from cause


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a source draws.

    Args:
        mask: bool, on any grid in patient space; it may reach beyond the scan.
        measured: how well the extent is known.
        notes: what a user should know of how it was read.
        share: of the drawing that lies in the scan; None where the mask tells.
        whole: one lesion, whatever its pieces.
    """

    mask: Volume
    measured: Measured
    notes: tuple[str, ...] = ()
    share: float | None = None
    whole: bool = False


@dataclass(frozen=True, eq=False)
class Placed:
    """A drawing on its scan: voxels `[z y x]` of a block whose voxel [0, 0, 0] is the scan's voxel `first`."""

    block: np.ndarray
    first: tuple[int, int, int]
    share: float


def place(drawn: Drawn, scan: Geometry, where: str) -> Placed:
    """Put a drawing on the voxels of its scan, by physical space.

    A grid that coincides with the scan's is copied; any other is interpolated linearly and cut at one half.

    Args:
        drawn: what to place.
        scan: grid of the scan.
        where: the source, for messages.

    Raises:
        LesionError: less than half of it lies in the scan, or it vanishes between the scan's voxels.
    """
    mask = cropped(drawn.mask)
    first = _whole_offset(mask.geometry, scan)
    if first is not None:
        low, high = np.maximum(first, 0), np.minimum(first + mask.array.shape, scan.shape)
        block = mask.array[tuple(slice(max(0, a), max(0, b)) for a, b in zip(low - first, high - first, strict=True))]
        share = float(np.count_nonzero(block) / np.count_nonzero(mask.array))
    else:
        index = scan.to_index(mask.geometry.to_lps(np.argwhere(mask.array)))
        share = float(((index > -0.5) & (index < np.array(scan.shape) - 0.5)).all(axis=1).mean())
        low = np.floor(index.min(0) - _reach(mask.geometry, scan)).astype(int).clip(0)
        high = np.minimum(np.ceil(index.max(0) + _reach(mask.geometry, scan)).astype(int) + 1, scan.shape)
        block = None
    share = share if drawn.share is None else drawn.share
    check_share(share, lambda: mask.geometry.to_lps(np.argwhere(mask.array)), scan, where)
    block = _interpolated(mask, part_of(scan, low, high - low)) if block is None else block
    if not block.any():
        raise LesionError(
            f"{where}: the lesion ({int(mask.array.sum())} voxels of {_mm(mask.geometry)} mm) vanishes "
            f"on the scan's grid of {_mm(scan)} mm (z y x). Draw it on the scan itself."
        )
    box = bounds(block)
    start = low + np.array([side.start for side in box])
    return Placed(np.ascontiguousarray(block[box]), tuple(int(n) for n in start), share)


def _reach(mask: Geometry, scan: Geometry) -> np.ndarray:
    """How far one voxel of a mask reaches, in voxels of the scan along its axes."""
    return np.abs(np.linalg.inv(scan.step_mm) @ mask.step_mm).sum(axis=1)


def _interpolated(mask: Volume, onto: Geometry) -> np.ndarray:
    """The mask on another grid, a few slices at a time: bool takes a quarter of the memory of what is interpolated."""
    slices = max(1, AT_ONCE // (onto.shape[1] * onto.shape[2]))
    block = np.zeros(onto.shape, dtype=bool)
    for z in range(0, onto.shape[0], slices):
        part = part_of(onto, np.array([z, 0, 0]), np.array([min(slices, onto.shape[0] - z), *onto.shape[1:]]))
        block[z : z + slices] = resample(mask, part, outside=0.0) >= 0.5
    return block


def part_of(grid: Geometry, first: np.ndarray, shape: np.ndarray) -> Geometry:
    """The same grid, beginning at voxel `first` (which may lie outside) and of another shape."""
    return Geometry(tuple(int(n) for n in shape), grid.spacing_mm, grid.to_lps(np.asarray(first)), grid.direction)


def cropped(volume: Volume) -> Volume:
    """The block of a mask that holds something, with its place. The mask must not be empty."""
    box = bounds(volume.array)
    low = np.array([side.start for side in box])
    part = np.ascontiguousarray(volume.array[box])
    return Volume(part, part_of(volume.geometry, low, part.shape))


def bounds(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest block that holds every voxel of a mask (bool, any number of axes, not empty)."""
    box = [slice(None)] * mask.ndim
    for axis in range(mask.ndim):  # each within the bounds of those before: the first cut leaves little to look at
        part = mask[tuple(box)]
        touched = np.flatnonzero(part.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box[axis] = slice(int(touched[0]), int(touched[-1]) + 1)
    return tuple(box)


def check_share(share: float, points_mm: Callable[[], np.ndarray], scan: Geometry, where: str) -> None:
    """Raise LesionError unless at least half of a lesion lies in the scan."""
    if share >= LEAST_SHARE:
        return
    corners = scan.to_lps(np.array([[0, 0, 0], np.array(scan.shape) - 1]))
    raise LesionError(
        f"{where}: {share:.0%} of the lesion lies in the scan, at least half is needed. Lesion centre "
        f"{points_mm().mean(0).round(1).tolist()}, scan from {corners.min(0).round(1).tolist()} to "
        f"{corners.max(0).round(1).tolist()} (LPS mm). "
        "It may belong to another series or have lost its origin."
    )


def _whole_offset(mask: Geometry, scan: Geometry) -> np.ndarray | None:
    """Index in the scan of the mask's first voxel, where the two grids coincide; else None."""
    index = scan.to_index(mask.to_lps(np.array([[0, 0, 0], np.array(mask.shape) - 1])))
    first = index[0].round()
    expected = np.array([first, first + np.array(mask.shape) - 1])
    if np.abs(index - expected).max() > ON_GRID or np.abs(mask.step_mm - scan.step_mm).max() > ON_GRID:
        return None
    return first.astype(int)


def _mm(geometry: Geometry) -> str:
    return " × ".join(f"{spacing:.2f}" for spacing in geometry.spacing_mm)
