"""The chest of a phantom: skin, fat, muscle, ribs, spine, mediastinum, heart, diaphragm and lungs, slice by slice.

Each slice is a picture `[y x]` in HU; what does not change along z is painted once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from genomic_vit.cohort.phantom_canvas import Canvas, covered

AIR, LUNG, FAT, SKIN, MUSCLE, BLOOD, LIVER, BONE, MARROW, CARTILAGE = -1000, -855, -100, 15, 50, 42, 58, 620, 190, 110
RIB_GAP_MM, RIB_DROP_MM, RIB_HALF_MM, RIB_DEPTH_MM = 25.0, 75.0, (5.5, 3.4), 5.5  # half height, half thickness


@dataclass(frozen=True)
class Chest:
    """One patient's anatomy, in mm from the chest's centre; nothing here knows the label.

    Args:
        body_mm: half width and half height of the body.
        fat_mm: subcutaneous fat.
        wall_mm: from the inner border of the fat to the pleura.
        taper: how much the chest widens per mm downwards.
        spine_mm: y of the centre of the vertebral bodies.
        heart_mm: x, y, z of the heart's centre.
        dome_mm: z of the diaphragm's top on the right.
        rib_phase: of the ribs, right and left.
        fissure_mm: y of the oblique fissures, right and left, at z = 0.
        texture_hu: standard deviation of the parenchyma's unevenness.
    """

    body_mm: tuple[float, float]
    fat_mm: float
    wall_mm: float
    taper: float
    spine_mm: float
    heart_mm: tuple[float, float, float]
    dome_mm: float
    rib_phase: tuple[float, float]
    fissure_mm: tuple[float, float]
    texture_hu: float


def draw_chest(rng: np.random.Generator) -> Chest:
    """A chest of ordinary proportions."""
    width, height = rng.uniform(132, 143), rng.uniform(91, 99)
    return Chest(
        body_mm=(width, height),
        fat_mm=rng.uniform(5, 12),
        wall_mm=rng.uniform(12, 15),
        taper=rng.uniform(0.02, 0.05),
        spine_mm=height * rng.uniform(0.46, 0.5),
        heart_mm=(rng.uniform(14, 22), rng.uniform(-30, -22), rng.uniform(-60, 10)),
        dome_mm=rng.uniform(-75, -24),
        rib_phase=tuple(rng.uniform(0, 1) + rng.uniform(-0.08, 0.08, 2)),
        fissure_mm=tuple(rng.uniform(-25, 40, 2)),
        texture_hu=rng.uniform(8, 16),
    )


def paint_chest(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> None:
    """Fill the canvas with the chest, HU and depth below the pleura."""
    x, y = canvas.x_mm[None, :], canvas.y_mm[:, None]
    body_mm = _depth(x, y, chest.body_mm, 2.3)
    wall_mm = chest.fat_mm + chest.wall_mm
    thorax_mm = _depth(x, y + 3, (chest.body_mm[0] - wall_mm, chest.body_mm[1] - wall_mm + 2), 2.15)
    still = _still_picture(x, y, body_mm, thorax_mm, chest, canvas.pixel_mm)
    hollow_mm = _hollow(x, y, chest)
    ribs = _Ribs.around(x, y, thorax_mm, chest, canvas.pixel_mm)
    parenchyma = LUNG + 0.25 * y
    texture = [_texture(still.shape, canvas.pixel_mm, chest.texture_hu, rng) for _ in range(2)]
    for row, z in enumerate(canvas.z_mm):
        picture, lung_mm = canvas.hu[row], canvas.lung_mm[row]
        picture[...] = still
        ribs.paint(picture, z)
        np.minimum(thorax_mm - chest.taper * z, hollow_mm, out=lung_mm)
        for outside_mm, hu in _soft_organs(x, y, float(z), chest):
            picture += (hu - picture) * covered(np.minimum(-outside_mm, thorax_mm), canvas.pixel_mm)
            np.minimum(lung_mm, outside_mm, out=lung_mm)
        air = parenchyma + np.cos(z / 9) * texture[0] + np.sin(z / 9) * texture[1]
        air += 170 * _fissures(x, y, float(z), chest)
        picture += (air - picture) * covered(lung_mm, canvas.pixel_mm)


def _depth(x: np.ndarray, y: np.ndarray, half_mm: tuple[float, float], power: float = 2.0) -> np.ndarray:
    """Depth in mm below a superellipse about 0, along the ray from its centre; negative outside."""
    level = (np.abs(x / half_mm[0]) ** power + np.abs(y / half_mm[1]) ** power) ** (1 / power)
    return np.sqrt(x * x + y * y) * (1 / np.maximum(level, 1e-3) - 1).astype(np.float32)


def _still_picture(
    x: np.ndarray, y: np.ndarray, body_mm: np.ndarray, thorax_mm: np.ndarray, chest: Chest, pixel_mm: float
) -> np.ndarray:
    """What is the same on every slice: table, body wall, spine, sternum, great vessels; `[y x]` HU."""
    picture = np.full(body_mm.shape, AIR, dtype=np.float32)
    back, spine = chest.body_mm[1], chest.spine_mm
    muscle_mm = body_mm - chest.fat_mm * (1 - 0.35 * np.clip(y / back, 0, 1) * (np.abs(x) < 60))
    layers = [
        (2 - np.abs(y - (back + 6) + 0.0006 * x * x), -350),  # the table
        (body_mm, SKIN), (body_mm - 2, FAT), (muscle_mm, MUSCLE), (thorax_mm + 2, FAT + 40), (thorax_mm - 1, 5),
        (_depth(x, y + chest.body_mm[1] - 21, (17, 5)), BONE), (_depth(x, y + chest.body_mm[1] - 21, (15, 3)), MARROW),
        (_depth(x - 20, y - spine + 10, (12, 12)), BLOOD), (_depth(x - 3, y - 19, (7, 5)), 30),  # aorta, oesophagus
        (_depth(x + 18, y + 14, (9, 9)), BLOOD), (_depth(x + 3, y + 28, (15, 14)), BLOOD),  # vena cava, ascending aorta
        (_depth(x - 12, y + 6, (14, 10)), BLOOD),  # pulmonary trunk
        (_depth(x, y - spine - 22, (30, 4)), BONE), (_depth(x, y - spine - 22, (28, 2.4)), MARROW),  # lamina
        (_depth(x, y - spine - 31, (3.5, 11)), BONE - 150),  # spinous process
        (_depth(x, y - spine, (18, 14)), BONE - 150), (_depth(x, y - spine, (16, 12)), MARROW),
        (_depth(x, y - spine - 18, (8, 7)), 35),  # canal
    ]  # fmt: skip
    for depth_mm, hu in layers:
        picture += (hu - picture) * covered(depth_mm, pixel_mm)
    return picture


def _hollow(x: np.ndarray, y: np.ndarray, chest: Chest) -> np.ndarray:
    """Distance in mm from the mediastinum and the spine, `[y x]`; negative in them."""
    half_mm = 9 + 21 * np.exp(-(((y + 8) / 34) ** 2)) + 17 / (1 + np.exp(-(y - chest.spine_mm + 12) / 5))
    aorta_mm = -_depth(x - 20, y - chest.spine_mm + 10, (14, 14))
    return np.minimum(np.abs(x) - half_mm, aorta_mm).astype(np.float32)


def _soft_organs(x: np.ndarray, y: np.ndarray, z: float, chest: Chest) -> list[tuple[np.ndarray, float]]:
    """Heart and diaphragm domes that reach this slice: distance outside them in mm `[y x]`, and their HU."""
    heart_x, heart_y, heart_z = chest.heart_mm
    organs = [
        (heart_x, heart_y, heart_z, (46.0, 36.0, 48.0), BLOOD),
        (-62.0, 6.0, chest.dome_mm - 50, (58.0, 62.0, 50.0), LIVER),
        (64.0, 8.0, chest.dome_mm - 62, (54.0, 60.0, 50.0), LIVER - 8),
    ]
    found = []
    for cx, cy, cz, (a, b, c), hu in organs:
        shrink = 1 - ((z - cz) / c) ** 2 if z > cz or hu == BLOOD else 1.0
        if shrink > 0.01:
            root = shrink**0.5
            found.append((-_depth(x - cx, y - cy, (a * root, b * root)), hu))
    return found


def _fissures(x: np.ndarray, y: np.ndarray, z: float, chest: Chest) -> np.ndarray:
    """Coverage `[y x]` of the oblique fissures, thin sheets that run forward as they go down."""
    right, left = chest.fissure_mm
    height = np.where(x < 0, right, left) + 0.9 * z + 0.003 * (np.abs(x) - 70) ** 2
    return np.clip(1.1 - np.abs(y - height), 0, 1)


def _texture(shape: tuple[int, int], pixel_mm: float, sd_hu: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth unevenness `[y x]` of the parenchyma, HU."""
    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 2.5 / pixel_mm)
    return field * (sd_hu / field.std())


@dataclass(frozen=True, eq=False)
class _Ribs:
    """The pixels ribs can reach, (pixel,): flat index, drop along the rib in mm, square of the
    radial part of the section, phase, and how far the rib is cartilage there, [0, 1]."""

    index: np.ndarray
    drop_mm: np.ndarray
    radial: np.ndarray
    phase: np.ndarray
    cartilage: np.ndarray

    @classmethod
    def around(cls, x: np.ndarray, y: np.ndarray, thorax_mm: np.ndarray, chest: Chest, pixel_mm: float) -> _Ribs:
        radial = (thorax_mm + RIB_DEPTH_MM) / RIB_HALF_MM[1]
        angle = np.arctan2(np.abs(x), y) / np.pi  # 0 at the spine, 1 at the sternum
        index = np.flatnonzero((np.abs(radial) < 1.4) & (angle > 0.1) & (angle < 0.93))
        phase = np.broadcast_to(np.where(x < 0, *chest.rib_phase), radial.shape)
        front = np.clip((angle - 0.72) * 30, 0, 1)
        drop_mm, section = RIB_DROP_MM * angle.flat[index], radial.flat[index] ** 2
        return cls(index, drop_mm, section, phase.flat[index], front.flat[index])

    def paint(self, picture: np.ndarray, z: float) -> None:
        """Paint the ribs' sections at height z into a slice, in place."""
        turn = (z + self.drop_mm) / RIB_GAP_MM + self.phase
        level = np.sqrt(self.radial + ((turn - np.round(turn)) * (RIB_GAP_MM / RIB_HALF_MM[0])) ** 2)
        shell = np.clip((level - 0.45) * 3, 0, 1)
        bone = MARROW + (BONE - MARROW) * shell
        bone += (CARTILAGE - bone) * self.cartilage
        flat = picture.reshape(-1)
        old = flat[self.index]
        flat[self.index] = old + (bone - old) * np.clip((1 - level) * 3 + 0.5, 0, 1)
