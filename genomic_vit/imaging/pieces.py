"""Several lesions in one mask: its connected pieces."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from genomic_vit.imaging.drawn import bounds

SPECK_MM3 = math.pi / 6 * 3.0**3  # a ball of 3 mm, below which a nodule is not measured (LIDC-IDRI)


class Piece(NamedTuple):
    """One lesion: its own block (bool `[z y x]`), where that begins in the mask, and its size."""

    block: np.ndarray
    first: np.ndarray
    volume_mm3: float


def pieces(mask: np.ndarray, voxel_mm3: float) -> tuple[list[Piece], int]:
    """The lesions of a mask, largest first, and how many specks are left out.

    Voxels that touch by a face, an edge or a corner belong together. Pieces smaller than a ball of 3 mm (14 mm³) are
    specks, unless nothing larger is there.
    """
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True))
    sizes = np.bincount(labels.ravel())
    order = [int(label) for label in np.argsort(-sizes[1:], kind="stable") + 1]
    kept = [label for label in order if sizes[label] * voxel_mm3 >= SPECK_MM3] or order[:1]
    return [_piece(labels == label, float(sizes[label] * voxel_mm3)) for label in kept], len(order) - len(kept)


def _piece(mask: np.ndarray, volume_mm3: float) -> Piece:
    box = bounds(mask)
    return Piece(np.ascontiguousarray(mask[box]), np.array([side.start for side in box]), volume_mm3)
