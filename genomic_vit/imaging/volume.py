"""An array of voxels that knows where it lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genomic_vit.imaging.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels `[z y x]` with their geometry: HU for a scan, 0 and 1 for a lesion, any number for a heat map."""

    array: np.ndarray
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise ValueError(f"Volume: array {self.array.shape} does not fit geometry {self.geometry.shape} (z y x)")

    def canonical(self) -> Volume:
        """The same voxels with array axes turned so that z runs most nearly to superior, y to posterior, x to left.

        Only axes are swapped and flipped; nothing is interpolated, and every voxel keeps its position.
        """
        order, flip = self.geometry.canonical_axes()
        array = np.flip(self.array.transpose(order), [row for row in range(3) if flip[row]])
        return Volume(array, self.geometry.canonical())
