"""The whole lungs as the region looked at, where no lesion is drawn: a plain segmentation that knows when it failed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from einops import reduce

from genomic_vit.imaging.drawn import Drawn, bounds
from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.resample import to_sitk
from genomic_vit.imaging.scan import Scan
from genomic_vit.imaging.volume import Volume

COARSE_MM = 2.5  # the lungs are found on voxels of about this size, averaged: a whole scan then takes a few MB
AIR_HU = -400.0
CLOSING_MM = 8.0  # vessels, and tumours up to twice as thick, are closed over
SECOND = 0.1  # of the larger lung, below which a second piece is no lung
CHUNK = 16  # slices read at a time
CHEST_MM = 180.0  # a field narrower than this holds no chest
LITRES = (0.4, 12.0)
MEAN_HU = (-960.0, -450.0)
EACH_SIDE = 0.1  # of the volume that must lie on either side of the body's middle


class LungFacts(NamedTuple):
    """What the plausibility of found lungs is judged by."""

    litres: float
    right_share: float
    width_mm: float
    mean_hu: float

    def __str__(self) -> str:
        return (
            f"{self.litres:.2f} l, {self.right_share:.0%} on the right side and {1 - self.right_share:.0%} on the "
            f"left, {self.width_mm:.0f} mm wide, mean {self.mean_hu:.0f} HU"
        )


def find_lungs(scan: Volume | Scan) -> Drawn:
    """Both lungs with their vessels and airways, found on voxels of about 2.5 mm.

    Voxels below -400 HU that are not joined to the air at the sides of the scan; of these the largest piece and, where
    that lies on one side only, the next on the other; closed with a ball of 8 mm radius, holes within slices filled.
    A tumour on the pleura that is thicker than 16 mm stays outside.

    Args:
        scan: HU; of a DICOM scan a few slices are held at a time.

    Raises:
        LesionError: what was found cannot be two lungs; the message gives volume, sides, width and mean HU.
    """
    coarse = _coarse(scan).canonical()
    where = str(getattr(scan, "path", "the scan"))
    field_mm = np.array(coarse.geometry.shape[1:]) * coarse.geometry.spacing_mm[1:]
    if field_mm.min() < CHEST_MM:
        raise LesionError(
            f"{where}: covers {field_mm[1]:.0f} × {field_mm[0]:.0f} mm in the plane, a chest needs at least "
            f"{CHEST_MM:.0f} mm: this looks like a crop. --field lung takes whole chests; give the lesion instead."
        )
    body = coarse.array > AIR_HU
    lungs = _close(_lungs(~body, coarse.geometry, _middle(body)), coarse.geometry)
    facts = _facts(lungs, coarse, _middle(body))
    wrong = _implausible(facts)
    if wrong:
        raise LesionError(
            f"{where}: no two plausible lungs found ({facts}): {wrong}. Give the lesion instead of --field lung, or "
            "leave the case out."
        )
    return Drawn(Volume(lungs, coarse.geometry), "lung", (f"lungs found: {facts}",), share=1.0, whole=True)


def _coarse(scan: Volume | Scan) -> Volume:
    """The scan's mean HU on voxels of about COARSE_MM, read a few slices at a time where it is DICOM."""
    grid = scan.geometry
    fine = np.maximum(1, np.round(COARSE_MM / grid.spacing_mm)).astype(int)
    if isinstance(scan, Scan) and scan.identity is not None:
        step = int(fine[0] * -(-CHUNK // fine[0]))
        chunks = (scan.read(z, min(z + step, grid.shape[0]) - 1).array for z in range(0, grid.shape[0], step))
    else:
        chunks = iter([scan.read().array if isinstance(scan, Scan) else scan.array])
    array = np.concatenate([_block_mean(chunk, fine) for chunk in chunks])
    geometry = Geometry(array.shape, grid.spacing_mm * fine, grid.to_lps((fine - 1) / 2), grid.direction)
    return Volume(array, geometry)


def _block_mean(array: np.ndarray, fine: np.ndarray) -> np.ndarray:
    lacking = [(0, int(-size % n)) for size, n in zip(array.shape, fine, strict=True)]
    padded = np.pad(array, lacking, mode="edge") if np.any(lacking) else array
    z, y, x = (int(n) for n in fine)
    return reduce(padded.astype(np.float32, copy=False), "(z a) (y b) (x c) -> z y x", "mean", a=z, b=y, c=x)


def _middle(body: np.ndarray) -> float:
    """Column of the body's middle, half of its voxels on either side."""
    counts = body.sum(axis=(0, 1)).cumsum()
    return float(np.searchsorted(counts, counts[-1] / 2))


def _lungs(air: np.ndarray, geometry: Geometry, middle: float) -> np.ndarray:
    """The piece or two pieces of enclosed air that are lungs (bool), before closing."""
    labels = _label(air, geometry)
    sides = np.concatenate(
        [labels[:, side].ravel() for side in (0, -1)] + [labels[:, :, side].ravel() for side in (0, -1)]
    )
    enclosed = air & ~np.isin(labels, np.unique(sides[sides > 0]))
    labels = _label(enclosed, geometry)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if sizes.max() == 0:
        return np.zeros_like(air)
    order = np.argsort(-sizes)
    lungs = labels == order[0]
    right = lungs[:, :, : int(middle)].sum() / lungs.sum()
    if min(right, 1 - right) >= EACH_SIDE:
        return lungs
    for label in order[1:]:
        if sizes[label] < SECOND * sizes[order[0]]:
            break
        other = labels == label
        on_right = other[:, :, : int(middle)].sum() / other.sum() > 0.5
        if on_right != (right > 0.5):
            return lungs | other
    return lungs


def _label(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ConnectedComponent(to_sitk(Volume(mask, geometry)), False))


def _close(lungs: np.ndarray, geometry: Geometry) -> np.ndarray:
    if not lungs.any():
        return lungs
    radius = np.round(CLOSING_MM / geometry.spacing_mm).astype(int).tolist()
    box = bounds(lungs)
    part = sitk.GetImageFromArray(lungs[box].astype(np.uint8))
    closed = sitk.BinaryMorphologicalClosing(part, radius[::-1], sitk.sitkBall, 1.0, True)
    filled = np.stack([sitk.GetArrayFromImage(sitk.BinaryFillhole(closed[:, :, z])) for z in range(part.GetSize()[2])])
    result = np.zeros_like(lungs)
    result[box] = filled > 0
    return result


def _facts(lungs: np.ndarray, coarse: Volume, middle: float) -> LungFacts:
    count = int(lungs.sum())
    if count == 0:
        return LungFacts(0.0, 0.0, 0.0, 0.0)
    columns = np.flatnonzero(lungs.any(axis=(0, 1)))
    return LungFacts(
        count * float(np.prod(coarse.geometry.spacing_mm)) / 1e6,
        float(lungs[:, :, : int(middle)].sum() / count),
        float((columns[-1] - columns[0] + 1) * coarse.geometry.spacing_mm[2]),
        float(coarse.array[lungs].mean()),
    )


def _implausible(facts: LungFacts) -> str:
    low, high = LITRES
    if facts.litres < low or facts.litres > high:
        return f"two lungs hold {low:g} to {high:g} l"
    if min(facts.right_share, 1 - facts.right_share) < EACH_SIDE:
        return f"each side must hold at least {EACH_SIDE:.0%}"
    if facts.mean_hu < MEAN_HU[0] or facts.mean_hu > MEAN_HU[1]:
        return f"lungs have a mean of {MEAN_HU[0]:.0f} to {MEAN_HU[1]:.0f} HU"
    return ""
