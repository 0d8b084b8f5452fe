"""Whether two scans are one, by their pixels: under two names, in DICOM or NIfTI, in two reconstructions."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from genomic_vit.data.neighbours import neighbours
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
        thumbnail: (slice SIDE SIDE) of mean HU in float32, fewer where the scan is smaller.
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
    thumbnail = np.stack([_pooled(plane) for plane in planes]).astype(np.float32)
    return Fingerprint(digest.hexdigest(), thumbnail, canonical.spacing_mm * canonical.shape)


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


class Twins(NamedTuple):
    """What is one with some scans whose fingerprints are equal to the last bit; places in the order given.

    Args:
        members: the scans spoken of.
        exact: those of equal pixels, members among them.
        near: those that only look like it: another reconstruction, format or copy.
    """

    members: list[int]
    exact: list[int]
    near: list[int]


def find_twins(prints: Sequence[Fingerprint]) -> Iterator[Twins]:
    """Scans that have twins, those of equal fingerprints together, so that a thousand copies of one are one answer.

    Two scans are one where the three slices compared are equal, or where their thumbnails differ by less than NEAR_HU
    (root mean square) and their extents by less than NEAR_MM.
    """
    distinct = list(_places([_digest(one) for one in prints]).values())
    exact = _places([one.exact for one in prints])
    near = _near([prints[members[0]] for members in distinct])
    for number, members in enumerate(distinct):
        same = exact[prints[members[0]].exact]
        alike = sorted(place for other in near.get(number, ()) for place in distinct[other])
        if len(same) > 1 or alike:
            yield Twins(members, same, alike)


def _near(prints: list[Fingerprint]) -> dict[int, np.ndarray]:
    """Places of the scans that look like each, where there are any; those of equal pixels are not said again."""
    found: dict[int, np.ndarray] = {}
    for shape, some in _places([one.thumbnail.shape for one in prints]).items():
        pixels = np.stack([prints[place].thumbnail.ravel() for place in some])
        size_mm = np.stack([prints[place].size_mm for place in some])
        here = np.array(some)
        for one, others, apart in neighbours(pixels, NEAR_HU * np.sqrt(np.prod(shape))):
            near = apart / np.sqrt(np.prod(shape)) < NEAR_HU
            near &= np.abs(size_mm[others] - size_mm[one]).max(axis=1) < NEAR_MM
            near &= [prints[some[other]].exact != prints[some[one]].exact for other in others]
            if near.any():
                found[some[one]] = here[others[near]]
    return found


def _digest(one: Fingerprint) -> bytes:
    told = f"{one.exact} {one.thumbnail.shape}".encode() + one.thumbnail.tobytes() + one.size_mm.tobytes()
    return hashlib.blake2b(told, digest_size=16).digest()


def _places(values: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """Where each value stands."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, value in enumerate(values):
        places[value].append(place)
    return dict(places)


def _pooled(plane: np.ndarray) -> np.ndarray:
    """Mean HU in SIDE × SIDE fields of a plane (y x)."""
    rows, columns = (np.unique(np.linspace(0, size, SIDE + 1).astype(int)) for size in plane.shape)
    sums = np.add.reduceat(np.add.reduceat(plane, rows[:-1], axis=0), columns[:-1], axis=1)
    return sums / np.outer(np.diff(rows), np.diff(columns))
