"""RTSTRUCT: the closed contours of one ROI, filled on their own planes and placed by physical position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genomic_vit.imaging.chosen import Entry, References, check_belongs, choose
from genomic_vit.imaging.drawn import Drawn
from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.planes import Planes, on_grid, reaches
from genomic_vit.imaging.polygon import fill_even_odd
from genomic_vit.imaging.scan import SeriesIdentity, Wanted

if TYPE_CHECKING:
    from pydicom import Dataset

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
CONTOUR_DATA = 0x30060050
FLAT = 0.1  # of the slice spacing by which a contour may leave its plane
SAME_PLANE_MM = 0.1
BRIDGED = 2.05  # contour spacings: one skipped plane between two that overlap is filled from both
FINER = 4  # pixels of planes askew of the scan, to its smallest spacing
WIDEST_MM = 2000.0
WIDEST_SPACING_MM = 10.0  # contours of one lesion farther apart than this are two lesions


def rtstruct_wants(path: Path, roi: str | None) -> Wanted:
    """What an RTSTRUCT asks of its scan: series, frame of reference, and the middle of every contour to be covered."""
    file = _open(path)
    chosen, _ = choose(_entries(file), roi, "ROI", str(path))
    said = _references(file, chosen)
    contours, _ = _contours(file, chosen, path)
    points_mm = np.array([contour.mean(axis=0) for contour in contours]) if contours else None
    return Wanted(next(iter(said.series_uids), None), said.frame_uid, said.sop_uids, points_mm)


def read_rtstruct(path: Path, scan: Geometry, identity: SeriesIdentity | None, roi: str | None) -> Drawn:
    """One ROI of an RTSTRUCT (or those a pattern takes).

    Contours on one plane are filled by the even–odd rule, so an inner one is a hole. A plane of contours stands for
    half the contour spacing on each side; a single skipped plane between two whose contours overlap is filled from
    them, wider gaps stay empty.

    Args:
        path: the file.
        scan: grid of the scan; a voxel of it is lesion when its centre is.
        identity: of the scan, or None.
        roi: number, name or pattern of the ROI; None takes the only one.

    Raises:
        LesionError: not readable, drawn on another scan, without closed contours, or not one ROI to choose.
    """
    file, where = _open(path), str(path)
    chosen, of_choice = choose(_entries(file), roi, "ROI", where)
    of_scan = check_belongs(_references(file, chosen), identity, where)
    contours, ignored = _contours(file, chosen, path)
    named = " and ".join(map(str, chosen))
    if not contours:
        found = ", ".join(f"{count} {kind}" for kind, count in ignored.items()) or "no contour"
        raise LesionError(f"{where}: ROI {named} has no closed contour (found: {found}); draw its outline.")
    notes = [f"{count} {kind} ignored" for kind, count in ignored.items()]
    planes, of_planes = _planes(contours, scan, where)
    try:
        mask = on_grid(planes, scan) if planes.masks.any() else None
    except ValueError as cause:
        raise LesionError(f"{where}: ROI {named}: {cause}; no lesion is that large. Check its units (mm).") from cause
    if mask is None:
        raise LesionError(
            f"{where}: ROI {named} vanishes between the voxels of the scan ({len(contours)} contours, slices "
            f"{scan.spacing_mm[0]:.2f} mm apart); draw it on the scan itself."
        )
    return Drawn(mask, "outline", (*of_scan, *of_choice, *notes, *of_planes))


def _open(path: Path) -> Dataset:
    from pydicom import dcmread

    return dcmread(path)


def _entries(file: Dataset) -> list[Entry]:
    """ROIs that have a contour."""
    drawn = {int(roi.ReferencedROINumber) for roi in file.get("ROIContourSequence", ()) if roi.get("ContourSequence")}
    entries = [Entry(int(roi.ROINumber), str(roi.get("ROIName", ""))) for roi in file.StructureSetROISequence]
    return [entry for entry in entries if entry.number in drawn]


def _references(file: Dataset, chosen: list[Entry]) -> References:
    frames, series, sops = [], [], set()
    for frame in file.get("ReferencedFrameOfReferenceSequence", ()):
        frames.append(str(frame.get("FrameOfReferenceUID", "")))
        for study in frame.get("RTReferencedStudySequence", ()):
            for item in study.get("RTReferencedSeriesSequence", ()):
                series.append(str(item.SeriesInstanceUID))
                sops |= {str(image.ReferencedSOPInstanceUID) for image in item.get("ContourImageSequence", ())}
    numbers = {entry.number for entry in chosen}
    of_roi = [
        str(roi.get("ReferencedFrameOfReferenceUID", ""))
        for roi in file.StructureSetROISequence
        if int(roi.ROINumber) in numbers
    ]
    return References(tuple(series), frozenset(sops), next(filter(None, [*of_roi, *frames]), None))


def _contours(file: Dataset, chosen: list[Entry], path: Path) -> tuple[list[np.ndarray], Counter[str]]:
    """Closed contours of the chosen ROIs, each (point 3) in LPS mm, and how many of which kind are ignored."""
    numbers = {entry.number for entry in chosen}
    contours, ignored = [], Counter()
    for roi in file.ROIContourSequence:
        if int(roi.ReferencedROINumber) not in numbers:
            continue
        for place, item in enumerate(roi.ContourSequence, start=1):
            points_mm = _points_mm(item, f"{path}: contour {place} of ROI {roi.ReferencedROINumber}")
            kind = str(item.ContourGeometricType)
            if kind not in CLOSED:
                ignored[f"contours of type {kind}"] += 1
                continue
            if len(points_mm) < 3:
                ignored["closed contours of fewer than three points"] += 1
            else:
                contours.append(points_mm)
    return contours, ignored


def _points_mm(item: Dataset, where: str) -> np.ndarray:
    raw = item.get_item(CONTOUR_DATA) if CONTOUR_DATA in item else None
    value = b"" if raw is None else raw.value
    try:  # straight from the bytes: as pydicom's decimals a large ROI takes seconds
        numbers = value.split(b"\\") if isinstance(value, bytes) else list(value or ())
        points_mm = np.array([float(number) for number in numbers]).reshape(-1, 3)
        if not np.isfinite(points_mm).all():
            raise ValueError("not finite")
        if len(points_mm) != int(item.get("NumberOfContourPoints") or len(points_mm)) or not len(points_mm):
            raise ValueError(f"{len(points_mm)} points where {item.get('NumberOfContourPoints')} are announced")
    except (TypeError, ValueError) as cause:
        raise LesionError(
            f"{where} does not hold x\\y\\z triples in mm ({' '.join(str(cause).split())[-80:]}); export it again."
        ) from cause
    return points_mm


def _planes(contours: list[np.ndarray], scan: Geometry, where: str) -> tuple[Planes, tuple[str, ...]]:
    """The contours filled on their planes, and what to say of these planes."""
    axes, pixel_mm, notes = _axes(contours, scan, where)
    local = [contour @ axes for contour in contours]  # along normal, y, x of the planes
    distance = np.array([points[:, 0].mean() for points in local])
    order = np.argsort(distance, kind="stable")
    plane = np.concatenate([[0], (np.diff(distance[order]) > SAME_PLANE_MM).cumsum()]).astype(int)
    places_mm = np.array([distance[order][plane == k].mean() for k in range(plane[-1] + 1)])
    everything = np.concatenate(local)[:, 1:]
    if np.ptp(everything, axis=0).max() > WIDEST_MM:
        raise LesionError(f"{where}: contours span {np.ptp(everything, axis=0).max():.0f} mm; check their units (mm).")
    # pixel centres fall on the scan's own where the planes are its slices
    origin = scan.origin_mm @ axes[:, 1:]
    corner = origin + (np.floor((everything.min(0) - origin) / pixel_mm) - 1) * pixel_mm
    shape = tuple(int(n) for n in np.ceil((everything.max(0) - corner) / pixel_mm) + 2)
    masks = np.zeros((len(places_mm), *shape), dtype=bool)
    for k in range(len(places_mm)):
        outlines = [(local[i][:, 1:] - corner) / pixel_mm for i in order[plane == k]]
        masks[k] = fill_even_odd(outlines, shape)
    gaps_mm = np.diff(places_mm)
    overlap = np.array([bool((masks[k] & masks[k + 1]).any()) for k in range(len(gaps_mm))], dtype=bool)
    usual_mm = np.sort(gaps_mm[overlap & (gaps_mm <= max(WIDEST_SPACING_MM, 1.05 * scan.spacing_mm[0]))])
    spacing_mm = float(usual_mm[(len(usual_mm) - 1) // 2]) if len(usual_mm) else float(scan.spacing_mm[0])
    corners_mm = places_mm[:, None] * axes[:, 0] + corner @ axes[:, 1:].T
    bridged = overlap & (gaps_mm > 1.05 * spacing_mm) & (gaps_mm <= BRIDGED * spacing_mm)
    planes = Planes(masks, corners_mm, axes, pixel_mm, reaches(places_mm, spacing_mm, bridged))
    return planes, (*notes, *_say_spacing(gaps_mm, spacing_mm, bridged, scan))


def _axes(contours: list[np.ndarray], scan: Geometry, where: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Columns normal, y, x of the contours' planes; pixel spacing to fill them at; what to say of them."""
    allowed_mm = FLAT * scan.spacing_mm[0]
    if all(np.ptp(contour @ scan.direction[:, 0]) <= allowed_mm for contour in contours):
        return scan.direction, scan.spacing_mm[1:], ()
    normals = np.array([_normal(contour) for contour in contours])
    normal = normals[np.linalg.norm(normals, axis=1).argmax()]
    normal = normal / np.linalg.norm(normal)
    uneven_mm = max(float(np.ptp(contour @ normal)) for contour in contours)
    if uneven_mm > max(0.5, allowed_mm):
        raise LesionError(
            f"{where}: contours leave their common plane by up to {uneven_mm:.1f} mm; flat, parallel contours are "
            "needed. Export the ROI as planar contours, or as a mask."
        )
    x = scan.direction[:, np.abs(scan.direction.T @ normal).argmin()]
    x = x - (x @ normal) * normal
    x = x / np.linalg.norm(x)
    pixel_mm = np.full(2, scan.spacing_mm.min() / FINER)
    degrees = np.rad2deg(np.arccos(min(1.0, abs(float(normal @ scan.direction[:, 0])))))
    note = f"contours lie on planes {degrees:.1f} degrees askew of the scan's slices, filled there"
    return np.stack([normal, np.cross(normal, x), x], axis=1), pixel_mm, (note,)


def _normal(contour: np.ndarray) -> np.ndarray:
    """Normal of a contour, as long as its area (Newell)."""
    centred = contour - contour.mean(axis=0)
    return np.cross(centred, np.roll(centred, -1, axis=0)).sum(axis=0) / 2


def _say_spacing(gaps_mm: np.ndarray, spacing_mm: float, bridged: np.ndarray, scan: Geometry) -> Iterable[str]:
    slice_mm = scan.spacing_mm[0]
    if len(gaps_mm) and abs(spacing_mm - slice_mm) > 0.05 * slice_mm:
        yield f"contours {spacing_mm:.2f} mm apart on slices {slice_mm:.2f} mm apart: a slice takes the nearest"
    skipped = int((bridged & (gaps_mm > 1.5 * spacing_mm)).sum())
    if skipped:
        yield f"{skipped} skipped contour planes filled from their neighbours"
    wide = gaps_mm[(gaps_mm > 1.5 * spacing_mm) & ~bridged]
    if len(wide):
        yield f"{len(wide)} wider gaps between contours (up to {wide.max():.1f} mm) left empty"
