"""Disk to Volume: scans in HU and lesion masks, from NIfTI, NRRD, MHA, MHD, or a folder of one DICOM series."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from genomic_vit.config import UserError
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.resample import resample, sitk_geometry
from genomic_vit.imaging.volume import Volume
from genomic_vit.imaging.write import RAS_FROM_LPS, SUFFIXES

CT_RANGE_HU = (-4096.0, 32767.0)  # beyond it no CT value can lie, metal and padding included
AIR_HU, SPREAD_HU = -300.0, 100.0  # even a crop of a chest CT holds some lung or air, and more than one grey
log = logging.getLogger(__name__)


class ScanError(UserError):
    """A scan cannot be used; the message says which, what was found, what was needed, what to do."""


class LesionError(UserError):
    """A lesion cannot be used; the message says which, what was found, what was needed, what to do."""


def read_scan(path: str | Path) -> Volume:
    """Read a CT scan.

    Args:
        path: a .nii, .nii.gz, .nrrd, .mha or .mhd file, or a folder that holds one DICOM series.

    Returns:
        Volume with float32 HU `[z y x]` in file order and its geometry in LPS mm.

    Raises:
        ScanError: the file is missing, unreadable, truncated, not 3-D, holds NaN, or values that are not HU.
    """
    path = Path(path)
    volume = _read_image(path, ScanError)
    array = volume.array
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise ScanError(
            f"{path}: {bad} of {array.size} voxels are NaN or infinite; a scan needs a HU value in every voxel. "
            "Convert it again from DICOM, or replace them by -1024 (air)."
        )
    low, high = float(array.min()), float(array.max())
    if low < CT_RANGE_HU[0] or high > CT_RANGE_HU[1] or low > AIR_HU or high - low < SPREAD_HU:
        raise ScanError(
            f"{path}: values run from {low:g} to {high:g}, not a chest CT in HU (lung near -850, tissue near 0). "
            "If the file was normalised or windowed, convert it again from DICOM with the rescale slope and intercept."
        )
    return volume


def read_lesion(path: str | Path, like: Volume) -> Volume:
    """Read a lesion mask onto the grid of its scan.

    Args:
        path: a mask image in any format `read_scan` takes; every voxel above 0 is lesion.
        like: the scan. Where the grids differ the mask is resampled by physical space (linear, cut at one half).

    Returns:
        Volume with a bool array on exactly `like.geometry`.

    Raises:
        LesionError: the mask is unreadable, empty, outside the scan, or vanishes on the scan's grid.
    """
    path = Path(path)
    mask = _read_image(path, LesionError)
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


def _read_image(path: Path, error: type[UserError]) -> Volume:
    if not path.exists():
        raise error(f"{path}: no such file or folder; check the path (manifest paths are relative to the manifest).")
    name = path.name.lower()
    try:
        if path.is_dir():
            return _read_dicom_folder(path, error)
        if name.endswith((".nii", ".nii.gz")):
            return _read_nifti(path, error)
        if name.endswith(SUFFIXES):
            return _read_sitk(path, error)
    except UserError:
        raise
    except Exception as cause:  # the readers raise many kinds; to the user they are one
        reason = " ".join(str(cause).split())[-160:]
        raise error(
            f"{path}: cannot be read ({type(cause).__name__}: {reason}). The file may be damaged or cut short; "
            "copy or convert it again."
        ) from cause
    raise error(f"{path}: not an image format known here; use {' '.join(SUFFIXES)} or a folder with one DICOM series.")


def _read_nifti(path: Path, error: type[UserError]) -> Volume:
    image = nib.load(path)
    array = image.get_fdata(dtype=np.float32)
    if array.ndim > 3 and set(array.shape[3:]) == {1}:
        array = array.reshape(array.shape[:3])
    if array.ndim != 3:
        raise _not_3d(path, array.shape, error)
    step_mm = RAS_FROM_LPS @ image.affine[:3, :3]
    spacing_mm = np.linalg.norm(step_mm, axis=0)
    if not np.isfinite(image.affine).all() or (spacing_mm == 0).any():
        raise error(f"{path}: the header holds no usable position (affine {image.affine.tolist()}); convert it again.")
    direction = (step_mm / spacing_mm)[:, ::-1]
    geometry = Geometry(array.shape[::-1], spacing_mm[::-1], RAS_FROM_LPS @ image.affine[:3, 3], direction)
    return Volume(array.transpose(2, 1, 0), geometry)


def _read_sitk(path: Path, error: type[UserError]) -> Volume:
    image = sitk.ReadImage(str(path))
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        shape = (*image.GetSize(), image.GetNumberOfComponentsPerPixel())
        raise _not_3d(path, shape, error)
    return Volume(sitk.GetArrayFromImage(image).astype(np.float32), sitk_geometry(image))


def _read_dicom_folder(path: Path, error: type[UserError]) -> Volume:
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(path))
    if len(series) != 1:
        found = f"{len(series)} DICOM series" if series else "no DICOM series"
        raise error(f"{path}: holds {found}; a folder with exactly one is needed. Move each series to its own folder.")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path), series[0]))
    return _check_dicom_spacing(path, reader, error)


def _check_dicom_spacing(path: Path, reader: sitk.ImageSeriesReader, error: type[UserError]) -> Volume:
    """Read the series; slices must lie one spacing apart along the normal, or the volume would be bent."""
    header = sitk.ImageFileReader()
    positions_mm = []
    for name in reader.GetFileNames():
        header.SetFileName(name)
        header.ReadImageInformation()
        positions_mm.append(header.GetOrigin())
    gaps_mm = np.linalg.norm(np.diff(np.array(positions_mm), axis=0), axis=1)
    if len(gaps_mm) and gaps_mm.max() - gaps_mm.min() > max(0.1, 0.02 * float(np.median(gaps_mm))):
        widest = Path(reader.GetFileNames()[int(gaps_mm.argmax())]).name
        raise error(
            f"{path}: slice gaps run from {gaps_mm.min():.2f} to {gaps_mm.max():.2f} mm, even ones are needed; the "
            f"widest follows {widest}. A slice is missing or doubled: export the series again."
        )
    image = reader.Execute()
    return Volume(sitk.GetArrayFromImage(image).astype(np.float32), sitk_geometry(image))


def _not_3d(path: Path, shape: tuple[int, ...], error: type[UserError]) -> UserError:
    return error(f"{path}: the image is of shape {shape}, one 3-D volume is needed; save the single volume meant.")
