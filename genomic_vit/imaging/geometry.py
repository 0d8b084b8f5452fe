"""Where voxels lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of an array `[z y x]` in patient space, LPS millimetres, float64.

    Args:
        shape: voxels along array axes z, y, x.
        spacing_mm: distance of neighbouring voxel centres along z, y, x.
        origin_mm: LPS position of the centre of voxel [0, 0, 0].
        direction: (3, 3); column k is the LPS unit vector along array axis k. Orthogonal.
    """

    shape: tuple[int, int, int]
    spacing_mm: np.ndarray
    origin_mm: np.ndarray
    direction: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        for name, wanted in (("spacing_mm", (3,)), ("origin_mm", (3,)), ("direction", (3, 3))):
            value = np.array(getattr(self, name), dtype=np.float64)
            if value.shape != wanted or not np.isfinite(value).all():
                raise ValueError(f"Geometry: {name} is {value.tolist()}; needed are finite numbers of shape {wanted}")
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"Geometry: shape is {self.shape}; needed are three sizes of at least 1 (z y x)")
        if (self.spacing_mm <= 0).any():
            raise ValueError(f"Geometry: spacing is {self.spacing_mm.tolist()} mm (z y x); it must be positive")
        error = np.abs(self.direction.T @ self.direction - np.eye(3)).max()
        if error > 1e-3:
            raise ValueError(
                f"Geometry: axes are not at right angles (off by {error:.4f}): {self.direction.round(4).tolist()}; "
                "a sheared grid (gantry tilt) must be resampled first"
            )

    @property
    def step_mm(self) -> np.ndarray:
        """(3, 3); column k is the LPS step from one voxel to the next along array axis k."""
        return self.direction * self.spacing_mm

    def to_lps(self, index_zyx: np.ndarray) -> np.ndarray:
        """LPS millimetres (…, 3) of array indices (…, 3), which may lie between voxels or outside."""
        return np.asarray(index_zyx, dtype=np.float64) @ self.step_mm.T + self.origin_mm

    def to_index(self, point_mm: np.ndarray) -> np.ndarray:
        """Array indices z, y, x (…, 3), not rounded, of LPS millimetres (…, 3)."""
        return (np.asarray(point_mm, dtype=np.float64) - self.origin_mm) @ np.linalg.inv(self.step_mm).T

    def positions_mm(self) -> np.ndarray:
        """LPS position of every voxel centre, (z y x 3)."""
        return self.to_lps(np.stack(np.meshgrid(*map(np.arange, self.shape), indexing="ij"), axis=-1))

    def canonical_axes(self) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Which array axes run most nearly along z (superior), y (posterior), x (left), and which must be reversed."""
        wanted = self.direction[[2, 1, 0]]  # rows: how far each axis runs to superior, posterior, left
        order = max(
            permutations(range(3)), key=lambda axes: sum(abs(wanted[row, axis]) for row, axis in enumerate(axes))
        )
        return order, tuple(bool(wanted[row, axis] < 0) for row, axis in enumerate(order))

    def canonical(self) -> Geometry:
        """The same voxels with axes swapped and flipped so that z runs to superior, y to posterior, x to left."""
        order, flip = self.canonical_axes()
        axes = list(order)
        start = np.zeros(3)
        start[axes] = [self.shape[axis] - 1 if flip[row] else 0 for row, axis in enumerate(axes)]
        return Geometry(
            tuple(self.shape[axis] for axis in axes),
            self.spacing_mm[axes],
            self.to_lps(start),
            self.direction[:, axes] * np.where(flip, -1.0, 1.0),
        )

    def same_as(self, other: Geometry, tolerance_mm: float = 1e-2) -> bool:
        """Whether the corners of both grids lie within `tolerance_mm` of one another and the shapes are equal."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, size - 1) for size in self.shape])).reshape(3, -1).T
        return bool(np.abs(self.to_lps(corners) - other.to_lps(corners)).max() <= tolerance_mm)
