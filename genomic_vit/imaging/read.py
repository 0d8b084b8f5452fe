"""Disk to Volume: the readers in one place."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from genomic_vit.config import UserError
from genomic_vit.imaging.errors import ScanError
from genomic_vit.imaging.files import read_image
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.resample import resample
from genomic_vit.imaging.scan import read_scan
from genomic_vit.imaging.volume import Volume

__all__ = ["LesionError", "ScanError", "read_lesion", "read_scan"]
log = logging.getLogger(__name__)


class LesionError(UserError):
    """A lesion cannot be used; the message says which, what was found, what was needed, what to do."""


def read_lesion(path: str | Path, like: Volume) -> Volume:
    """Read a lesion mask onto the grid of its scan.

    Args:
        path: a mask image NIfTI, NRRD, MHA or MHD; every voxel above 0 is lesion.
        like: the scan. Where the grids differ the mask is resampled by physical space (linear, cut at one half).

    Returns:
        Volume with a bool array on exactly `like.geometry`.

    Raises:
        LesionError: the mask is unreadable, empty, outside the scan, or vanishes on the scan's grid.
    """
    path = Path(path)
    mask = read_image(path, LesionError)
    lesion = np.nan_to_num(mask.array) > 0
    if not lesion.any():
        raise LesionError(f"{path}: the mask is empty (no voxel above 0); draw the lesion, or name another file.")
    if mask.geometry.same_as(like.geometry):
        return Volume(lesion, like.geometry)
    _check_overlap(path, np.argwhere(lesion), mask.geometry, like.geometry)
    on_scan = resample(Volume(lesion, mask.geometry), like.geometry, outside=0.0) >= 0.5
    if not on_scan.any():
        raise LesionError(
            f"{path}: the lesion ({int(lesion.sum())} voxels of {_mm(mask.geometry)} mm) vanishes "
            f"on the scan's grid of {_mm(like.geometry)} mm (z y x). Draw it on the scan itself."
        )
    return Volume(on_scan, like.geometry)


def _mm(geometry: Geometry) -> str:
    return " × ".join(f"{spacing:.2f}" for spacing in geometry.spacing_mm)


def _check_overlap(path: Path, index_zyx: np.ndarray, mask: Geometry, scan: Geometry) -> None:
    """Raise LesionError unless most of the lesion lies in the scan."""
    points_mm = mask.to_lps(index_zyx)
    index = scan.to_index(points_mm)
    share = float(((index > -0.5) & (index < np.array(scan.shape) - 0.5)).all(axis=1).mean())
    if share < 0.5:
        corners = scan.to_lps(np.array([[0, 0, 0], np.array(scan.shape) - 1]))
        raise LesionError(
            f"{path}: {share:.0%} of the lesion lies in the scan, at least half is needed. Lesion centre "
            f"{points_mm.mean(0).round(1).tolist()}, scan from {corners.min(0).round(1).tolist()} to "
            f"{corners.max(0).round(1).tolist()} (LPS mm). "
            "The mask may belong to another series or have lost its origin."
        )
    if share < 1.0:
        log.warning("%s: %.1f %% of the lesion lies outside the scan and is left out", path, 100 * (1 - share))
