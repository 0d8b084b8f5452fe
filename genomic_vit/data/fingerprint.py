"""Whether two scans are one, by their pixels: under two names, in DICOM or NIfTI, in two reconstructions."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.spatial.distance import pdist, squareform

from genomic_vit.imaging.scan import Scan

SLICES = (0.3, 0.5, 0.7)  # of the scan's height
SIDE = 16  # of the thumbnail
NEAR_HU = 8.0  # RMS between thumbnails: 2.2 between kernels B40f and B70f of a scan, 63 and more between LIDC crops
NEAR_MM = 2.0  # largest difference of their extents


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What is kept of a scan to know it again.

    Args:
        exact: hash of three of its slices, the same however they are stored.
        thumbnail: (slice SIDE SIDE) of mean HU, fewer where the scan is smaller.
        size_mm: extent of the canonical scan z, y, x.
    """

    exact: str
    thumbnail: np.ndarray
    size_mm: np.ndarray


def fingerprint(scan: Scan) -> Fingerprint:
    """Read three slices of a scan.

    Raises:
        ScanError: they cannot be read.
    """
    planes = _planes(scan)
    digest = hashlib.blake2b(digest_size=16)
    for plane in planes:
        digest.update(str(plane.shape).encode())
        digest.update(np.rint(plane).astype("<i2").tobytes())
    canonical = scan.geometry.canonical()
    return Fingerprint(
        digest.hexdigest(), np.stack([_pooled(plane) for plane in planes]), canonical.spacing_mm * canonical.shape
    )


def _planes(scan: Scan) -> list[np.ndarray]:
    """Axial slices (y x) of the canonical scan at SLICES of its height, counted from its feet."""
    along = scan.geometry.direction[:, 0]
    if scan.identity is None or np.abs(along).argmax() != 2:  # a file, read whole anyway; or another axis of the body
        array = scan.read().canonical().array
        return [array[round(share * (len(array) - 1))] for share in SLICES]
    depth = scan.geometry.shape[0]
    heights = [round(share * (depth - 1)) for share in SLICES]
    stored = [height if along[2] > 0 else depth - 1 - height for height in heights]
    return [scan.read(k, k).canonical().array[0] for k in stored]


def find_twins(prints: dict[str, Fingerprint]) -> list[tuple[str, str, bool]]:
    """Pairs of names whose scans are one: (name, name, whether every pixel compared is equal).

    Args:
        prints: by name.
    """
    names = list(prints)
    twins = []
    for one, other in _same_pairs([prints[name].exact for name in names]):
        twins.append((names[one], names[other], True))
    by_shape: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name in names:
        by_shape[prints[name].thumbnail.shape].append(name)
    for alike in by_shape.values():
        pixels = np.stack([prints[name].thumbnail.ravel() for name in alike])
        size_mm = np.stack([prints[name].size_mm for name in alike])
        near = squareform(pdist(pixels)) / np.sqrt(pixels.shape[1]) < NEAR_HU
        near &= squareform(pdist(size_mm, "chebyshev")) < NEAR_MM
        for one, other in np.argwhere(np.triu(near, 1)):
            if prints[alike[one]].exact != prints[alike[other]].exact:
                twins.append((alike[one], alike[other], False))
    return twins


def _same_pairs(values: list[str]) -> list[tuple[int, int]]:
    """Pairs of places that hold the same value."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, value in enumerate(values):
        places[value].append(place)
    return [pair for same in places.values() for pair in combinations(same, 2)]


def _pooled(plane: np.ndarray) -> np.ndarray:
    """Mean HU in SIDE × SIDE fields of a plane (y x)."""
    rows, columns = (np.unique(np.linspace(0, size, SIDE + 1).astype(int)) for size in plane.shape)
    sums = np.add.reduceat(np.add.reduceat(plane, rows[:-1], axis=0), columns[:-1], axis=1)
    return sums / np.outer(np.diff(rows), np.diff(columns))
