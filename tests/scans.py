"""Small volumes whose right answers are known."""

import numpy as np

from genomic_vit import Geometry, Volume

AXES = np.eye(3)[:, ::-1]  # array axes z y x along superior, posterior, left


def turned(about_x_deg: float, about_z_deg: float) -> np.ndarray:
    """Directions of a patient lying askew."""
    x, z = np.deg2rad([about_x_deg, about_z_deg])
    around_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    around_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return around_z @ around_x @ AXES


def grid_of(direction=AXES, spacing_mm=(2.5, 0.7, 0.7), shape=(24, 100, 96)) -> Geometry:
    return Geometry(shape, np.array(spacing_mm), np.array([-120.0, 80.0, -300.0]), direction)


def ball(geometry: Geometry, radius_mm: float = 9.0, place=(0.5, 0.45, 0.55)) -> Volume:
    """A round lesion at a share of each array axis."""
    centre = geometry.to_lps((np.array(geometry.shape) - 1) * np.array(place))
    return Volume(np.linalg.norm(geometry.positions_mm() - centre, axis=-1) <= radius_mm, geometry)


def chest(geometry: Geometry) -> Volume:
    """Lung with smooth structure and a dense lesion, HU, a function of position alone."""
    x, y, z = np.moveaxis(geometry.positions_mm(), -1, 0)
    hu = -750 + 120 * np.sin(x / 7) * np.cos(y / 9) + 80 * np.sin(z / 8)
    return Volume(np.where(ball(geometry).array, 30.0, hu).astype(np.float32), geometry)


def stored(volume: Volume, order=(0, 1, 2), flips=(False, False, False)) -> Volume:
    """The same voxels at the same places, with array axes in another order and some of them reversed."""
    geometry = volume.geometry
    array = volume.array.transpose(order)
    direction = geometry.direction[:, list(order)]
    spacing_mm = geometry.spacing_mm[list(order)]
    first = np.where(flips, np.array(array.shape) - 1, 0)
    origin_mm = geometry.origin_mm + (direction * spacing_mm) @ first
    sign = np.where(flips, -1.0, 1.0)
    array = np.flip(array, [axis for axis in range(3) if flips[axis]])
    return Volume(np.ascontiguousarray(array), Geometry(array.shape, spacing_mm, origin_mm, direction * sign))
