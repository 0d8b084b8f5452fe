"""Image files that are no DICOM: NIfTI by nibabel; NRRD, MHA and MHD by SimpleITK."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from genomic_vit.config import UserError
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.nifti import nifti_array, nifti_geometry, not_3d
from genomic_vit.imaging.volume import Volume
from genomic_vit.imaging.write import SUFFIXES


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image whose voxels are still on disk.

    Args:
        geometry: of its array.
        load: gives the voxels `[z y x]`, float32, or of the file's own type where True is given.
    """

    geometry: Geometry
    load: Callable[..., np.ndarray]


def is_image(path: Path) -> bool:
    """Whether a name ends like an image file known here."""
    return path.name.lower().endswith(SUFFIXES)


def open_image(path: Path, error: type[UserError]) -> ImageFile:
    """Open an image file by its header.

    Raises:
        UserError (as `error`): it is missing, of no known format, damaged, or not one 3-D volume of one value a voxel.
    """
    if not path.is_file():
        raise error(f"{path}: no such file; check the path (manifest paths are relative to the manifest).")
    if not is_image(path):
        raise error(f"{path}: not an image format known here; use {' '.join(SUFFIXES)} or a folder of DICOM files.")
    nifti = path.name.lower().endswith((".nii", ".nii.gz"))
    geometry = _guarded(path, error, lambda: nifti_geometry(path, error) if nifti else _sitk_geometry(path, error))
    read = nifti_array if nifti else _sitk_array
    return ImageFile(geometry, lambda as_stored=False: _guarded(path, error, lambda: read(path, as_stored)))


def read_image(path: Path, error: type[UserError]) -> Volume:
    """Read an image file whole, float32; errors as `open_image`."""
    image = open_image(path, error)
    return Volume(image.load(), image.geometry)


def _guarded(path: Path, error: type[UserError], read: Callable[[], object]):
    try:
        return read()
    except UserError:
        raise
    except Exception as cause:  # the readers raise many kinds; to the user they are one
        reason = " ".join(str(cause).split())[-160:]
        raise error(
            f"{path}: cannot be read ({type(cause).__name__}: {reason}). The file may be damaged or cut short; "
            "copy or convert it again."
        ) from cause


def _sitk_geometry(path: Path, error: type[UserError]) -> Geometry:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    if len(size) < 3 or set(size[3:]) - {1} or components != 1:
        raise not_3d(path, (*size, components), error)
    dimensions = len(size)
    direction = np.array(reader.GetDirection()).reshape(dimensions, dimensions)[:3, :3]
    return Geometry(
        size[:3][::-1], np.array(reader.GetSpacing())[2::-1], np.array(reader.GetOrigin())[:3], direction[:, ::-1]
    )


def _sitk_array(path: Path, as_stored: bool) -> np.ndarray:
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    array = array.reshape(array.shape[-3:])
    return array if as_stored else array.astype(np.float32)
