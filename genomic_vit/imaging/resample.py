"""Values of one grid at the voxels of another, by patient space (SimpleITK)."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.volume import Volume


def to_sitk(volume: Volume) -> sitk.Image:
    """The volume as a SimpleITK image (x y z order, LPS)."""
    array = volume.array
    if array.dtype == bool:
        array = array.astype(np.uint8)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    geometry = volume.geometry
    image.SetSpacing(geometry.spacing_mm[::-1].tolist())
    image.SetOrigin(geometry.origin_mm.tolist())
    image.SetDirection(geometry.direction[:, ::-1].flatten().tolist())
    return image


def sitk_geometry(image: sitk.Image) -> Geometry:
    """Geometry of a 3-D SimpleITK image."""
    direction = np.array(image.GetDirection()).reshape(3, 3)[:, ::-1]
    return Geometry(image.GetSize()[::-1], np.array(image.GetSpacing())[::-1], np.array(image.GetOrigin()), direction)


def resample(volume: Volume, onto: Geometry, *, nearest: bool = False, outside: float | None = None) -> np.ndarray:
    """Values of `volume` at the voxel centres of `onto`, float32 of shape `onto.shape`.

    Args:
        volume: what to read.
        onto: the grid to read it at.
        nearest: nearest voxel instead of linear interpolation.
        outside: value beyond the volume; None repeats its nearest edge voxel.
    """
    image = to_sitk(Volume(volume.array.astype(np.float32), volume.geometry))
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(onto.shape[::-1])
    resampler.SetOutputSpacing(onto.spacing_mm[::-1].tolist())
    resampler.SetOutputOrigin(onto.origin_mm.tolist())
    resampler.SetOutputDirection(onto.direction[:, ::-1].flatten().tolist())
    resampler.SetInterpolator(sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear)
    resampler.SetUseNearestNeighborExtrapolator(outside is None)
    resampler.SetDefaultPixelValue(0.0 if outside is None else outside)
    resampler.SetOutputPixelType(sitk.sitkFloat32)
    return sitk.GetArrayFromImage(resampler.Execute(image))
