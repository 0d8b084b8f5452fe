"""An array of voxels that knows where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

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
        geometry = self.geometry
        wanted = geometry.direction[[2, 1, 0]]  # rows: how far each axis runs to superior, posterior, left
        order = max(
            permutations(range(3)), key=lambda axes: sum(abs(wanted[row, axis]) for row, axis in enumerate(axes))
        )
        flip = [wanted[row, axis] < 0 for row, axis in enumerate(order)]
        start = np.zeros(3)
        for row, axis in enumerate(order):
            start[axis] = geometry.shape[axis] - 1 if flip[row] else 0
        sign = np.where(flip, -1.0, 1.0)
        array = np.flip(self.array.transpose(order), [row for row in range(3) if flip[row]])
        return Volume(
            array,
            Geometry(
                array.shape,
                geometry.spacing_mm[list(order)],
                geometry.to_lps(start),
                geometry.direction[:, list(order)] * sign,
            ),
        )
