"""Volume to disk."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from genomic_vit.config import UserError
from genomic_vit.imaging.resample import to_sitk
from genomic_vit.imaging.volume import Volume

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0])
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")


def write_volume(volume: Volume, path: str | Path) -> Path:
    """Write a volume as NIfTI, NRRD, MHA or MHD, chosen by the suffix, with its full geometry.

    Written beside the target first and moved there whole, so that no half file is left behind (MHD, being two
    files, is written in place).

    Raises:
        UserError: the suffix is none of .nii .nii.gz .nrrd .mha .mhd.
    """
    path = Path(path)
    suffix = next((end for end in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(end)), None)
    if suffix is None:
        raise UserError(f"{path}: no known image suffix; use one of {' '.join(SUFFIXES)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path if suffix == ".mhd" else path.with_name(f".{os.getpid()}.part{suffix}")
    try:
        if suffix.startswith(".nii"):
            _write_nifti(volume, part)
        else:
            sitk.WriteImage(to_sitk(volume), str(part), useCompression=suffix != ".mhd")
        os.replace(part, path)
    finally:
        if part != path:
            part.unlink(missing_ok=True)
    return path


def _write_nifti(volume: Volume, path: Path) -> None:
    geometry = volume.geometry
    affine = np.eye(4)
    affine[:3, :3] = RAS_FROM_LPS @ geometry.step_mm[:, ::-1]
    affine[:3, 3] = RAS_FROM_LPS @ geometry.origin_mm
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    image = nib.Nifti1Image(array.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    nib.save(image, path)
