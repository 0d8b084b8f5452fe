"""NIfTI: geometry from the header, whose two matrices must agree; voxels with slope, intercept and checksum."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from genomic_vit.config import UserError
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.write import RAS_FROM_LPS

AGREE_MM = 0.1  # qform and sform may place a voxel this far apart (their float32 rounding is below 0.01 mm)
SQUARE_DEG = 0.05
UNIT_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


def nifti_geometry(path: Path, error: type[UserError]) -> Geometry:
    """Where the voxels `[z y x]` lie; nothing but the header is read.

    Raises:
        UserError (as `error`): no usable position, matrices that disagree, or not one 3-D volume.
    """
    image = nib.load(path)
    shape = image.shape
    if len(shape) < 3 or set(shape[3:]) - {1}:
        raise not_3d(path, shape, error)
    affine = _affine(path, image, error)
    step_mm = RAS_FROM_LPS @ affine[:3, :3]
    spacing_mm = np.linalg.norm(step_mm, axis=0)
    if not np.isfinite(affine).all() or (spacing_mm == 0).any():
        raise error(f"{path}: the header holds no usable position (affine {affine.tolist()}); convert it again.")
    direction = (step_mm / spacing_mm)[:, ::-1]
    lean_deg = float(np.degrees(np.arcsin(min(1.0, np.abs(direction.T @ direction - np.eye(3)).max()))))
    if lean_deg > SQUARE_DEG:
        raise error(
            f"{path}: its axes are {lean_deg:.1f} degrees off right angles (a gantry tilt, most often). Name the DICOM "
            "folder instead, whose tilt is resampled here, or convert it again with the tilt corrected."
        )
    return Geometry(shape[:3][::-1], spacing_mm[::-1], RAS_FROM_LPS @ affine[:3, 3], direction)


def nifti_array(path: Path, as_stored: bool = False) -> np.ndarray:
    """Voxels `[z y x]` by scl_slope and scl_inter, float32, or of the file's own type where it does not scale them."""
    if path.name.lower().endswith(".gz"):  # whole, so that gzip's checksum is verified; nibabel stops short of it
        content = _unzipped(path.read_bytes())
        image = type(nib.load(path)).from_bytes(content)
        stored = image.dataobj
        if as_stored and (stored.slope, stored.inter) == (1, 0):  # a view of what was unzipped: nibabel would copy it
            array = np.ndarray(stored.shape, stored.dtype, content, stored.offset, order="F")
            return array.reshape(array.shape[:3], order="F").transpose(2, 1, 0)
    else:
        image = nib.load(path)
    array = np.asanyarray(image.dataobj) if as_stored else image.get_fdata(dtype=np.float32, caching="unchanged")
    return array.reshape(array.shape[:3]).transpose(2, 1, 0)


def _unzipped(content: bytes) -> bytes:
    """A gzip file's content, checksum verified; its last four bytes tell how much to expect, which halves the time."""
    expected = int.from_bytes(content[-4:], "little")
    try:
        whole = zlib.decompress(content, wbits=31, bufsize=max(1, min(expected, 1100 * len(content))))
    except zlib.error:
        whole = b""
    return whole if whole and len(whole) == expected else gzip.decompress(content)  # several members, 4 GB, or damage


def not_3d(path: Path, shape: tuple[int, ...], error: type[UserError]) -> UserError:
    """The error for an image of other than one 3-D volume."""
    return error(f"{path}: the image is of shape {shape}, one 3-D volume is needed; save the single volume meant.")


def _affine(path: Path, image: nib.spatialimages.SpatialImage, error: type[UserError]) -> np.ndarray:
    """(4, 4) voxel x y z to RAS mm."""
    header = image.header
    unit_mm = UNIT_MM.get(header.get_xyzt_units()[0], 1.0) if hasattr(header, "get_xyzt_units") else 1.0
    scale = np.diag([unit_mm] * 3 + [1.0])
    if hasattr(header, "get_qform") and header["qform_code"] == 0 and header["sform_code"] == 0:
        raise error(
            f"{path}: its header states no position (qform_code and sform_code are 0), and programs guess differently "
            "which side is left. Convert it again from DICOM, or set both from its source: image.set_qform(affine, 1), "
            "image.set_sform(affine, 1) in nibabel."
        )
    if hasattr(header, "get_qform") and header["qform_code"] > 0 and header["sform_code"] > 0:
        _check_agreement(path, scale @ header.get_qform(), scale @ header.get_sform(), image.shape, error)
    return scale @ image.affine


def _check_agreement(
    path: Path, qform: np.ndarray, sform: np.ndarray, shape: tuple[int, ...], error: type[UserError]
) -> None:
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in shape[:3]], [1])).reshape(4, -1)
    apart_mm = float(np.abs((qform - sform) @ corners).max())
    if not apart_mm <= AGREE_MM:
        raise error(
            f"{path}: its header places the voxels twice, up to {apart_mm:.1f} mm apart: qform "
            f"{qform[:3].round(3).tolist()}, sform {sform[:3].round(3).tolist()} (RAS mm). Find out which is right "
            "(open the file over its source), then make both equal: image.set_qform(image.get_sform()), or "
            "image.set_sform(image.get_qform()), in nibabel, and save."
        )
