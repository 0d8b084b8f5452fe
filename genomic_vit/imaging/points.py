"""Lesions given in words: a point, or a box in millimetres."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from genomic_vit.imaging.drawn import Drawn, check_share, part_of
from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.volume import Volume

NUMBER = r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*"
POINT = re.compile(rf"{NUMBER}(?:,{NUMBER}){{2}}")
BOX = re.compile(rf"box:{NUMBER}(?:,{NUMBER}){{5}}", re.IGNORECASE)
LIKE_A_BOX = re.compile(r"\s*box\s*:", re.IGNORECASE)
LIKE_A_POINT = re.compile(r"[\s\d.,;+\-eE()\[\]]*\d[\s\d.,;+\-eE()\[\]]*")
SAMPLES = 32  # along each side of a box, to tell which share of it lies in the scan


class Place(NamedTuple):
    """A point (low equals high) or a box, LPS mm."""

    low_mm: np.ndarray
    high_mm: np.ndarray

    @property
    def is_point(self) -> bool:
        return bool((self.low_mm == self.high_mm).all())


def parse_place(text: str, frame: str) -> Place | None:
    """The point `x,y,z` or box `box:x0,y0,z0,x1,y1,z1` that a text states, turned to LPS; None if it states neither.

    Raises:
        LesionError: it begins like a point or a box but is none, or the box is flat.
    """
    text = text.strip()
    if POINT.fullmatch(text):
        point = _to_lps(np.array(text.split(","), dtype=np.float64), frame)
        return Place(point, point)
    if BOX.fullmatch(text):
        corners = _to_lps(np.array(text.split(":")[1].split(","), dtype=np.float64).reshape(2, 3), frame)
        low, high = corners.min(0), corners.max(0)
        if (high - low).min() <= 0:
            raise LesionError(f"{text}: the box is flat ({(high - low).tolist()} mm); give two opposite corners.")
        return Place(low, high)
    if LIKE_A_BOX.match(text):
        raise LesionError(f"{text}: a box is written box:x0,y0,z0,x1,y1,z1 (mm, six numbers, dots for decimals).")
    if LIKE_A_POINT.fullmatch(text):
        raise LesionError(f"{text}: a point is written x,y,z (mm, three numbers, dots for decimals).")
    return None


def draw_place(place: Place, scan: Geometry, point_mm: float, frame: str, where: str) -> Drawn:
    """A box, or a ball of diameter `point_mm` around a point, on the scan's voxels.

    Voxels whose centre lies within belong to it, and the voxel that holds the middle in any case.

    Raises:
        LesionError: the point, or more than half of the box, lies outside the scan.
    """
    return _ball(place.low_mm, scan, point_mm, frame, where) if place.is_point else _box(place, scan, where)


def _ball(point: np.ndarray, scan: Geometry, point_mm: float, frame: str, where: str) -> Drawn:
    if not _inside(point, scan):
        other = {"lps": "ras", "ras": "lps"}[frame]
        corners = scan.to_lps(np.array([[0, 0, 0], np.array(scan.shape) - 1]))
        turned = f" Taken as {other.upper()} it would lie inside: check --frame {other}."
        raise LesionError(
            f"{where}: the point {point.round(1).tolist()} (LPS mm, given as {frame.upper()}) lies outside the scan, "
            f"which runs from {corners.min(0).round(1).tolist()} to {corners.max(0).round(1).tolist()}."
            + (turned if _inside(_to_lps(point, "ras"), scan) else " Check the point, or give the scan it belongs to.")
        )
    middle, reach = scan.to_index(point), point_mm / 2 / scan.spacing_mm
    last = np.array(scan.shape) - 1
    low, high = (edge.astype(int).clip(0, last) for edge in (np.floor(middle - reach), np.ceil(middle + reach)))
    part = part_of(scan, low, high - low + 1)
    mask = np.linalg.norm(part.positions_mm() - point, axis=-1) <= point_mm / 2 + 1e-6
    return Drawn(Volume(_with(mask, middle - low), part), "point", whole=True)


def _box(place: Place, scan: Geometry, where: str) -> Drawn:
    steps = (np.arange(SAMPLES) + 0.5) / SAMPLES
    sample = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    sample_mm = place.low_mm + sample * (place.high_mm - place.low_mm)
    share = float(_inside(sample_mm, scan).mean())
    check_share(share, lambda: sample_mm, scan, where)
    corners = np.stack(np.meshgrid(*zip(place.low_mm, place.high_mm, strict=True)), axis=-1).reshape(8, 3)
    index = scan.to_index(corners)
    low = np.floor(index.min(0)).astype(int).clip(0, np.array(scan.shape) - 1)
    high = np.ceil(index.max(0)).astype(int).clip(0, np.array(scan.shape) - 1)
    part = part_of(scan, low, high - low + 1)
    mask = np.ones(part.shape, dtype=bool)
    for axis in range(3):
        mm = part.origin_mm[axis] + sum(
            part.step_mm[axis, k] * np.arange(part.shape[k]).reshape([-1 if k == j else 1 for j in range(3)])
            for k in range(3)
        )
        mask &= (mm >= place.low_mm[axis] - 1e-6) & (mm <= place.high_mm[axis] + 1e-6)
    middle = scan.to_index((place.low_mm + place.high_mm) / 2)
    return Drawn(Volume(_with(mask, middle - low), part), "box", share=share, whole=True)


def _with(mask: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The mask, its voxel nearest to `index` set too."""
    mask[tuple(index.round().astype(int).clip(0, np.array(mask.shape) - 1))] = True
    return mask


def _inside(points_mm: np.ndarray, scan: Geometry) -> np.ndarray:
    index = scan.to_index(points_mm)
    return ((index > -0.5) & (index < np.array(scan.shape) - 0.5)).all(axis=-1)


def _to_lps(points_mm: np.ndarray, frame: str) -> np.ndarray:
    return points_mm * np.array([-1.0, -1.0, 1.0]) if frame == "ras" else points_mm
