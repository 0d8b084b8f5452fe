"""The lesion of a phantom: a lobed body, solid or ground glass, and what grows from it and around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from genomic_vit.cohort.phantom_canvas import Box, Canvas, ball, covered, paint, tube
from genomic_vit.cohort.phantom_patient import Phenotype

REACH = 1.48  # no direction of any lesion's surface is farther than this, in radii of its sphere
PLEURA_MM = (3.0, 9.0)  # between REACH and the pleura


@dataclass(frozen=True, eq=False)
class Lesion:
    """Where a lesion lies and its surface.

    Args:
        centre_mm: LPS (3,).
        pleura_mm: nearest point of the pleura, LPS (3,).
        stretch: (3,) of an ellipsoid of volume 1; divides offsets before the surface is asked.
        lobes: unit vectors (lobe 3).
        heights: how far each lobe stands out, (lobe,), in radii.
        sharpness: of each lobe, (lobe,).
        scale_mm: makes the volume that of the sphere of `diameter_mm`.
        diameter_mm: of that sphere.
    """

    centre_mm: np.ndarray
    pleura_mm: np.ndarray
    stretch: np.ndarray
    lobes: np.ndarray
    heights: np.ndarray
    sharpness: np.ndarray
    scale_mm: float
    diameter_mm: float

    def radius_mm(self, unit: np.ndarray) -> np.ndarray:
        """Distance of the surface from the centre in directions (… 3), before the stretch."""
        lobes, heights, sharpness = (np.asarray(v, unit.dtype) for v in (self.lobes, self.heights, self.sharpness))
        bump = np.exp((unit @ lobes.T - 1) * sharpness)
        return (1 + bump @ heights) * unit.dtype.type(self.scale_mm)

    def surface_mm(self, unit: np.ndarray) -> np.ndarray:
        """A point on the surface (3,), LPS."""
        return self.centre_mm + unit * self.radius_mm(unit) * self.stretch


def place_lesion(canvas: Canvas, diameter_mm: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Centre and nearest pleura, LPS (3,) each, of a lesion wholly in the lung near z = 0, close to its border."""
    reach_mm = REACH * diameter_mm / 2
    rows = np.searchsorted(canvas.z_mm, (-reach_mm, 0.0, reach_mm)).clip(0, len(canvas.z_mm) - 1)
    inside = (canvas.lung_mm[rows] > 0).all(axis=0)
    distance, nearest = distance_transform_edt(inside, sampling=canvas.pixel_mm, return_indices=True)
    room_mm = distance - reach_mm
    lateral = np.abs(canvas.x_mm) > 45
    good = np.argwhere((room_mm > PLEURA_MM[0]) & (room_mm < PLEURA_MM[1]) & lateral)
    if not len(good):
        good = np.argwhere(distance == distance.max())
    row, column = good[rng.integers(len(good))]
    border = nearest[:, row, column]
    centre = np.array([canvas.x_mm[column], canvas.y_mm[row], rng.uniform(-1, 1)], dtype=float)
    return centre, np.array([canvas.x_mm[border[1]], canvas.y_mm[border[0]], centre[2]], dtype=float)


def shape_lesion(
    centre_mm: np.ndarray, pleura_mm: np.ndarray, diameter_mm: float, lobulation: float, rng: np.random.Generator
) -> Lesion:
    """A lesion's surface; lobes change its form but never its volume."""
    stretch = np.exp(rng.uniform(-0.11, 0.11, 3))
    stretch /= stretch.prod() ** (1 / 3)
    uneven, bulges = _random_units(6, rng), sphere_points(int(rng.integers(6, 10)), rng)
    bulges += rng.normal(0, 0.18, bulges.shape)
    bulges /= np.linalg.norm(bulges, axis=1, keepdims=True)
    heights = np.concatenate([rng.uniform(-0.08, 0.08, 6), rng.uniform(0.8, 1.1, len(bulges)) * 0.4 * lobulation])
    sharpness = np.concatenate([np.full(6, 4.0), np.full(len(bulges), 9.0)])
    lobes = np.concatenate([uneven, bulges])
    plain = Lesion(centre_mm, pleura_mm, stretch, lobes, heights, sharpness, 1.0, diameter_mm)
    volume = (plain.radius_mm(sphere_points(1500, rng)) ** 3).mean()
    return Lesion(
        centre_mm, pleura_mm, stretch, lobes, heights, sharpness, diameter_mm / 2 / volume ** (1 / 3), diameter_mm
    )


def paint_lesion(canvas: Canvas, lesion: Lesion, looks: Phenotype, rng: np.random.Generator) -> tuple[Box, np.ndarray]:
    """Paint the lesion and what belongs to it; returns box and coverage `[z y x]` of its body, the masked part."""
    body, glass, bronchi, spicules, tags = rng.spawn(5)
    if looks.spiculation:
        _paint_spicules(canvas, lesion, looks.spiculation, spicules)
    if looks.pleural_tag:
        _paint_tags(canvas, lesion, looks.pleural_tag, tags)
    margin = np.full(3, REACH * lesion.diameter_mm / 2 + 3)
    box = canvas.box(lesion.centre_mm - margin, lesion.centre_mm + margin)
    offset = np.stack(np.broadcast_arrays(*canvas.offsets(box, lesion.centre_mm)), axis=-1)
    offset /= lesion.stretch.astype(np.float32)
    distance_mm = np.linalg.norm(offset, axis=-1)
    radius_mm = lesion.radius_mm(offset / np.maximum(distance_mm, 1e-3)[..., None])
    hu = body.uniform(20, 60) + 8 * body.standard_normal(radius_mm.shape, dtype=np.float32)
    edge_mm = canvas.pixel_mm
    if looks.ground_glass:
        hu = _ground_glass(hu, radius_mm, distance_mm, looks.ground_glass, glass)
        edge_mm += 1.0
    coverage = covered(radius_mm - distance_mm, edge_mm)
    paint(canvas, box, coverage, hu)
    if looks.air_bronchogram:
        _paint_bronchi(canvas, lesion, looks.air_bronchogram, bronchi)
    return box, covered(radius_mm - distance_mm, canvas.pixel_mm)


def paint_emphysema(canvas: Canvas, lesion: Lesion, strength: float, rng: np.random.Generator) -> None:
    """Dark holes in the lung around a lesion; the vessels must be painted later."""
    for unit in _random_units(int(30 + 60 * strength), rng):
        radius_mm = rng.uniform(1.8, 3.2 + 2.2 * strength)
        centre_mm = lesion.centre_mm + unit * (lesion.diameter_mm / 2 + rng.uniform(0, 20))
        box, coverage = ball(canvas, centre_mm, radius_mm)
        coverage *= np.clip(canvas.lung_mm[box] - 1.0, 0, 1)
        paint(canvas, box, coverage, -1000.0, np.minimum)


def _ground_glass(
    solid_hu: np.ndarray, radius_mm: np.ndarray, distance_mm: np.ndarray, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """HU `[z y x]` of a body of ground glass around a smaller solid core."""
    patchy = gaussian_filter(rng.standard_normal(radius_mm.shape, dtype=np.float32), (3, 1.3, 1.3))
    veil = rng.uniform(-580, -380) + patchy * (45 / patchy.std())
    core = covered((0.8 - 0.45 * strength) * radius_mm + patchy * (0.6 / patchy.std()) - distance_mm, 2.0)
    return veil + (solid_hu - veil) * core


def _paint_spicules(canvas: Canvas, lesion: Lesion, strength: float, rng: np.random.Generator) -> None:
    """Thin rays that taper into the lung."""
    for unit in sphere_points(int(22 + 22 * strength), rng) + rng.normal(0, 0.15, 3):
        unit = unit / np.linalg.norm(unit)
        root, length_mm = lesion.surface_mm(unit), rng.uniform(4, 6 + 5 * strength)
        bend = unit + rng.normal(0, 0.15, 3)
        base_mm = rng.uniform(1.0, 1.2 + 0.4 * strength)
        box, coverage = tube(canvas, root - 2 * unit, root + length_mm * bend, (base_mm, 0.35))
        paint(canvas, box, coverage * (canvas.lung_mm[box] > 0), 10.0, np.maximum)


def _paint_tags(canvas: Canvas, lesion: Lesion, strength: float, rng: np.random.Generator) -> None:
    """Bands from the lesion to the pleura, which they draw in to a small tent."""
    for _ in range(1 + int(strength > 0.7)):
        end_mm = lesion.pleura_mm + rng.normal(0, 1.5, 3)
        start_mm = lesion.centre_mm + rng.normal(0, 1.5, 3)
        waist_mm = end_mm + 0.35 * (start_mm - end_mm)
        tent_mm = 2.5 + 1.5 * strength
        for near_mm, far_mm, radii_mm in ((start_mm, end_mm, (1.3, 1.1)), (waist_mm, end_mm, (0.9, tent_mm))):
            box, coverage = tube(canvas, near_mm, far_mm, radii_mm)
            paint(canvas, box, coverage, 25.0, np.maximum)


def _paint_bronchi(canvas: Canvas, lesion: Lesion, strength: float, rng: np.random.Generator) -> None:
    """Air-filled tubes that enter on the side of the hilum, fork, and run through the body."""
    inward = -np.array([lesion.centre_mm[0], 0.3 * lesion.centre_mm[1], 0.0])
    inward /= np.linalg.norm(inward)
    radius_mm = float(np.clip(0.065 * lesion.diameter_mm, 0.95, 1.4)) * (0.75 + 0.35 * strength)
    for _ in range(2 + int(strength > 0.75)):
        course = inward + rng.normal(0, 0.35, 3) * (1, 1, 0.5)
        mouth = lesion.surface_mm(course / np.linalg.norm(course))
        fork = lesion.centre_mm + rng.normal(0, 0.1, 3) * lesion.diameter_mm
        _paint_air(canvas, mouth, fork, (radius_mm, 0.95 * radius_mm))
        for turn in rng.normal(0, 0.6, (2, 3)) * (1, 1, 0.6) - course:
            _paint_air(canvas, fork, fork + turn * 0.3 * lesion.diameter_mm, (0.95 * radius_mm, 0.6 * radius_mm))


def _paint_air(canvas: Canvas, start_mm: np.ndarray, end_mm: np.ndarray, radii_mm: tuple[float, float]) -> None:
    box, coverage = tube(canvas, start_mm, end_mm, radii_mm)
    paint(canvas, box, coverage, -880.0, np.minimum)


def sphere_points(count: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors (count 3) spread evenly, turned at random (a Fibonacci lattice)."""
    z = 1 - (2 * np.arange(count) + 1) / count
    angle = np.arange(count) * np.pi * (3 - 5**0.5)
    flat = np.sqrt(1 - z * z)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), z], axis=1) @ turn.T


def _random_units(count: int, rng: np.random.Generator) -> np.ndarray:
    units = rng.standard_normal((count, 3))
    return units / np.linalg.norm(units, axis=1, keepdims=True)
