"""Mask images: 0 and 1, 0 and 255, or a label map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from genomic_vit.imaging.chosen import Entry, choose
from genomic_vit.imaging.drawn import Drawn, bounds, part_of
from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.files import open_image
from genomic_vit.imaging.scan import Wanted
from genomic_vit.imaging.volume import Volume

MOST_LABELS = 255


def mask_wants(path: Path) -> Wanted:
    """The scan should cover the middle of the mask's grid; no voxel is read for that."""
    grid = open_image(path, LesionError).geometry
    quarters = np.stack(np.meshgrid(*[np.array([0.25, 0.5, 0.75])] * 3), axis=-1).reshape(-1, 3)
    return Wanted(points_mm=grid.to_lps(quarters * (np.array(grid.shape) - 1)))


def read_mask(path: Path, roi: str | None) -> Drawn:
    """A mask on its own grid: every voxel above 0, or those of the label that `roi` names.

    Raises:
        LesionError: the mask is unreadable or empty, or has no such label.
    """
    image = open_image(path, LesionError)
    values = image.load(True)  # as stored: a whole mask as float32 would take four times the memory
    above = values if values.dtype.kind in "bu" else values > 0
    if not above.any():
        raise LesionError(f"{path}: the mask is empty (no voxel above 0); draw the lesion, or name another file.")
    box = bounds(above)
    first = np.array([side.start for side in box])
    array = values[box]
    lesion, notes = _lesion(array, path, roi)
    return Drawn(Volume(lesion, part_of(image.geometry, first, array.shape)), "outline", notes)


def _lesion(array: np.ndarray, path: Path, roi: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    above = array > 0
    values = np.unique(array[above])
    if len(values) > MOST_LABELS or (values != values.round()).any():
        if roi is not None and roi.strip().isdecimal():
            raise LesionError(
                f"{path}: holds fractions ({values.min():g} to {values.max():g}), not labels, so --roi {roi} means "
                "nothing in it. Leave --roi, or save it as a label map."
            )
        return above, (f"holds fractions ({values.min():g} to {values.max():g}): every voxel above 0 taken",)
    entries = [Entry(int(value), name) for value, name in _names(path, values.astype(int).tolist()).items()]
    named = any(entry.name for entry in entries)
    if roi is None or (len(entries) == 1 and not named and not roi.strip().isdecimal()):
        listed = ", ".join(map(str, entries))
        return above, (f"labels {listed} taken together; --roi takes one",) if len(entries) > 1 else ()
    chosen, notes = choose(entries, roi, "label", str(path))
    return np.isin(array, [entry.number for entry in chosen]), notes


def _names(path: Path, values: list[int]) -> dict[int, str]:
    """Names of label values as 3D Slicer writes them into a .seg.nrrd; elsewhere they have none."""
    names = dict.fromkeys(values, "")
    if path.name.lower().endswith(".nrrd"):
        header = sitk.ImageFileReader()
        header.SetFileName(str(path))
        header.ReadImageInformation()
        for key in header.GetMetaDataKeys():
            segment = key.removesuffix("_LabelValue")
            if segment != key and header.HasMetaDataKey(f"{segment}_Name"):
                value = int(header.GetMetaData(key))
                if value in names:
                    names[value] = header.GetMetaData(f"{segment}_Name")
    return names
