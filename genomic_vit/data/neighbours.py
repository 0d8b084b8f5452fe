"""Which vectors of many lie near each other, without comparing all with all.

Coordinates along a few orthonormal directions are a projection P, and no projection makes a distance longer:
|P a - P b| <= |a - b|. A search of the same radius among the projections (a k-d tree, in the order of n log n)
therefore loses no pair, whatever the directions. What it found is sieved by the distance along more directions, then by
the distance itself. Directions along which the vectors differ most leave the fewest to compare.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree

SEARCHED, SIEVED = 12, 64  # directions of the tree and of the sieve
SAMPLE = 2000  # vectors that the directions are found from
ASKED = 64  # vectors whose neighbours are held at once
BLOCK = 4096  # vectors that are held once more, in float64
SLACK = 1e-9  # of the radius and of the largest coordinate, for rounding


def neighbours(vectors: np.ndarray, radius: float) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For each vector that has any: its place, the places of all others within the radius, and their distances.

    Memory grows with the number of vectors, time as n log n and with the number of pairs found.

    Args:
        vectors: (n d).
        radius: largest Euclidean distance of neighbours.
    """
    if len(vectors) < 2:
        return
    directions = _directions(vectors)
    projected = np.concatenate([part @ directions for part in _blocks(vectors)])
    tree = cKDTree(searched := projected[:, -SEARCHED:])
    reach = radius * (1 + SLACK) + SLACK * float(np.abs(projected).max())
    for start in range(0, len(vectors), ASKED):
        for row, near in enumerate(tree.query_ball_point(searched[start : start + ASKED], reach), start):
            if len(near) == 1:
                continue  # itself
            places = np.sort(np.asarray(near))
            places = places[(places != row) & (_distances(projected, row, places) <= reach)]
            apart = _distances(vectors, row, places)
            if (within := apart <= radius).any():
                yield row, places[within], apart[within]


def _directions(vectors: np.ndarray) -> np.ndarray:
    """Orthonormal directions of largest spread, (d direction), of vectors spread evenly over all."""
    some = vectors[:: -(-len(vectors) // SAMPLE)].astype(np.float64)
    some -= some.mean(axis=0)
    _, directions = np.linalg.eigh(some.T @ some)
    return directions[:, -SIEVED:]


def _distances(vectors: np.ndarray, row: int, places: np.ndarray) -> np.ndarray:
    one = vectors[row].astype(np.float64)
    parts = [np.linalg.norm(vectors[part] - one, axis=1) for part in _blocks(places)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _blocks(array: np.ndarray) -> list[np.ndarray]:
    return [array[start : start + BLOCK] for start in range(0, len(array), BLOCK)]
