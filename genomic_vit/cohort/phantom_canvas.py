"""What the phantom is painted on: fine slices in the chest's own frame, and the tubes and balls painted there.

Points are LPS millimetres (x y z) from the chest's centre at the lesion's height.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Box = tuple[slice, slice, slice]
FOV_MM = (220.0, 300.0)  # y x
FINE_MM = 0.8  # largest distance of the fine slices that are averaged to one scan slice; at least two are


@dataclass(frozen=True, eq=False)
class Canvas:
    """Fine slices, painted in place.

    Args:
        hu: float32 `[z y x]`.
        lung_mm: float32 `[z y x]`, depth below the pleura; negative outside the lungs.
        z_mm, y_mm, x_mm: positions of voxel centres along each axis, float32.
        fine: fine slices in one scan slice.
    """

    hu: np.ndarray
    lung_mm: np.ndarray
    z_mm: np.ndarray
    y_mm: np.ndarray
    x_mm: np.ndarray
    fine: int

    def __post_init__(self) -> None:
        shape = (len(self.z_mm), len(self.y_mm), len(self.x_mm))
        if not self.hu.shape == self.lung_mm.shape == shape or shape[0] % self.fine:
            raise ValueError(
                f"Canvas: hu {self.hu.shape}, lung_mm {self.lung_mm.shape}, axes {shape}, fine {self.fine}"
            )

    @property
    def pixel_mm(self) -> float:
        return float(self.x_mm[1] - self.x_mm[0])

    def box(self, low_mm: np.ndarray, high_mm: np.ndarray) -> Box:
        """The voxels between two corners (x y z), as slices of the array; empty where they lie outside."""
        axes = zip((self.z_mm, self.y_mm, self.x_mm), low_mm[::-1], high_mm[::-1], strict=True)
        return tuple(slice(*np.searchsorted(axis, (low, high)).tolist()) for axis, low, high in axes)

    def offsets(self, box: Box, centre_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y, z distance of the box's voxels from a point, to broadcast as `[z y x]`."""
        x, y, z = np.asarray(centre_mm, dtype=np.float32)
        return (
            (self.x_mm[box[2]] - x)[None, None, :],
            (self.y_mm[box[1]] - y)[None, :, None],
            (self.z_mm[box[0]] - z)[:, None, None],
        )


def blank_canvas(pixel_mm: float, slice_mm: float, cover_mm: float, start_mm: float) -> Canvas:
    """An unpainted canvas whose first scan slice begins at `start_mm` on z; x and y are centred on the chest."""
    fine = max(2, int(np.ceil(slice_mm / FINE_MM)))
    z_mm = start_mm + (np.arange(round(cover_mm / slice_mm) * fine) + 0.5) * (slice_mm / fine)
    y_mm, x_mm = ((np.arange(n) - (n - 1) / 2) * pixel_mm for n in (round(side / pixel_mm) for side in FOV_MM))
    shape = (len(z_mm), len(y_mm), len(x_mm))
    axes = (axis.astype(np.float32) for axis in (z_mm, y_mm, x_mm))
    return Canvas(np.empty(shape, np.float32), np.empty(shape, np.float32), *axes, fine=fine)


def covered(depth_mm: np.ndarray, edge_mm: float) -> np.ndarray:
    """Share of a voxel, [0, 1], inside a surface that lies `depth_mm` beyond its centre; the edge is `edge_mm` wide."""
    share = depth_mm * (1 / edge_mm)
    share += 0.5
    return np.clip(share, 0.0, 1.0, out=share)


def tube(
    canvas: Canvas, start_mm: np.ndarray, end_mm: np.ndarray, radii_mm: tuple[float, float]
) -> tuple[Box, np.ndarray]:
    """Box and coverage `[z y x]` of a tube with round ends whose radius runs from radii_mm[0] to radii_mm[1]."""
    start_mm, end_mm = np.asarray(start_mm, float), np.asarray(end_mm, float)
    margin = max(radii_mm) + canvas.pixel_mm
    box = canvas.box(np.minimum(start_mm, end_mm) - margin, np.maximum(start_mm, end_mm) + margin)
    x, y, z = canvas.offsets(box, start_mm)
    run = end_mm - start_mm
    along = run / max(float(run @ run), 1e-6)
    t = np.clip(x * along[0].astype(np.float32) + y * np.float32(along[1]) + z * np.float32(along[2]), 0.0, 1.0)
    dx, dy, dz = (axis - t * np.float32(step) for axis, step in zip((x, y, z), run, strict=True))
    radius = t * np.float32(radii_mm[1] - radii_mm[0])
    radius += np.float32(radii_mm[0])
    return box, covered(radius - np.sqrt(dx * dx + dy * dy + dz * dz), canvas.pixel_mm)


def ball(canvas: Canvas, centre_mm: np.ndarray, radius_mm: float) -> tuple[Box, np.ndarray]:
    """Box and coverage `[z y x]` of a ball."""
    margin = radius_mm + canvas.pixel_mm
    box = canvas.box(centre_mm - margin, centre_mm + margin)
    x, y, z = canvas.offsets(box, centre_mm)
    return box, covered(np.float32(radius_mm) - np.sqrt(x * x + y * y + z * z), canvas.pixel_mm)


def paint(
    canvas: Canvas,
    box: Box,
    coverage: np.ndarray,
    hu: float | np.ndarray,
    keep: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> None:
    """Mix `hu` into a box by coverage. keep=np.maximum only brightens, np.minimum only darkens."""
    view = canvas.hu[box]
    mixed = view + (np.float32(hu) - view) * coverage if np.isscalar(hu) else view + (hu - view) * coverage
    view[...] = mixed if keep is None else keep(view, mixed)
