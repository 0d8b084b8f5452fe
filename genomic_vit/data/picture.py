"""Nine slices with the lesion's outline, small and quick: for a page of many cases."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion, zoom

from genomic_vit.data.grid import GRID_SIDE, STACK_SLICES
from genomic_vit.data.slab import Slab

TILE_PX, GAP_PX = 132, 2
OUTLINE = (0, 255, 255)
QUALITY = 82  # of the JPEG


def nine_slices(slab: Slab, window_hu: tuple[float, float]) -> bytes:
    """JPEG of the nine slices through the lesion's middle, superior first, with its outline."""
    start = middle_stack(slab.lesion)
    side = GRID_SIDE * TILE_PX + (GRID_SIDE - 1) * GAP_PX
    canvas = np.zeros((side, side, 3), np.uint8)
    for place in range(STACK_SLICES):
        z = start + STACK_SLICES - 1 - place
        row, column = (at * (TILE_PX + GAP_PX) for at in divmod(place, GRID_SIDE))
        canvas[row : row + TILE_PX, column : column + TILE_PX] = _tile(slab.hu[z], slab.lesion[z], window_hu)
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, format="JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def middle_stack(lesion: np.ndarray) -> int:
    """First slice of the nine whose middle is nearest to the lesion's centre of area; lesion (z y x)."""
    area = lesion.sum(axis=(1, 2))
    centre = float((np.arange(len(area)) * area).sum() / area.sum())
    return int(np.clip(round(centre - STACK_SLICES // 2), 0, len(area) - STACK_SLICES))


def _tile(hu: np.ndarray, lesion: np.ndarray, window_hu: tuple[float, float]) -> np.ndarray:
    low, high = window_hu
    grey = zoom(hu, TILE_PX / hu.shape[0], order=1, grid_mode=True, mode="nearest")
    grey = np.clip((grey - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    inside = zoom(lesion.astype(np.float32), TILE_PX / lesion.shape[0], order=1, grid_mode=True, mode="nearest") > 0.5
    tile = np.repeat(grey[..., None], 3, axis=-1)
    tile[inside & ~binary_erosion(inside)] = OUTLINE
    return tile
