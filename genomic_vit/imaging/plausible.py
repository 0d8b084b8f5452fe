"""What numbers a chest CT can hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genomic_vit.imaging.errors import ScanError
from genomic_vit.imaging.geometry import Geometry

CT_RANGE_HU = (-4096.0, 32767.0)  # beyond it no CT value can lie, metal and padding included
SPACING_MM = (0.05, 30.0)  # no chest CT's voxels are smaller or larger
LUNG_HU, SPREAD_HU = -300.0, 100.0  # even a crop of a chest CT holds some lung or air, and more than one grey


def check_range(path: Path, array: np.ndarray) -> tuple[float, float]:
    """Lowest and highest value; ScanError where one is none that a CT can hold."""
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(low) or not np.isfinite(high):
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise ScanError(
            f"{path}: {bad} of {array.size} voxels are NaN or infinite; a scan needs a HU value in every voxel. "
            "Convert it again from DICOM, or replace them by -1024 (air)."
        )
    if low < CT_RANGE_HU[0] or high > CT_RANGE_HU[1]:
        raise _no_chest(path, low, high)
    return low, high


def check_chest(path: Path, array: np.ndarray) -> None:
    """ScanError unless the values look like HU of a chest, for files whose header does not say what they are."""
    low, high = check_range(path, array)
    if low > LUNG_HU or high - low < SPREAD_HU:
        raise _no_chest(path, low, high)


def _no_chest(path: Path, low: float, high: float) -> ScanError:
    return ScanError(
        f"{path}: values run from {low:g} to {high:g}, not a chest CT in HU (lung near -850, tissue near 0). "
        "If the file was normalised or windowed, convert it again from DICOM with the rescale slope and intercept."
    )


def check_spacing(path: Path, geometry: Geometry) -> None:
    """ScanError where no chest CT has such voxels."""
    if geometry.spacing_mm.min() < SPACING_MM[0] or geometry.spacing_mm.max() > SPACING_MM[1]:
        sizes = " × ".join(f"{spacing:.4g}" for spacing in geometry.spacing_mm)
        raise ScanError(
            f"{path}: voxels of {sizes} mm (z y x) are no chest CT's ({SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm); the "
            "header may be damaged, or written in other units. Convert it again from DICOM."
        )
