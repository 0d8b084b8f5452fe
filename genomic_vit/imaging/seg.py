"""DICOM SEG: the frames of one segment, each placed by its own position, never by its index."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genomic_vit.imaging.chosen import Entry, References, check_belongs, choose
from genomic_vit.imaging.drawn import Drawn
from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.planes import Planes, on_grid, reaches
from genomic_vit.imaging.scan import SeriesIdentity, Wanted

if TYPE_CHECKING:
    from pydicom import Dataset

HALF = 0.5  # of a FRACTIONAL segment's maximum, occupancy or probability alike: from here on a pixel is lesion
SAME_PLANE_MM = 0.02
# Transfer syntaxes that store plain pixels, and how many bytes of tag and length stand before these
PLAIN = {"1.2.840.10008.1.2": 8, "1.2.840.10008.1.2.1": 12, "1.2.840.10008.1.2.2": 12}
LABELMAP = 0  # the segment number of a frame whose pixels hold segment numbers


class Frames(NamedTuple):
    """Where the frames of a SEG lie (f frames).

    corners_mm (f 3) LPS of pixel [0, 0]; axes (3 3), columns normal, y, x; segments (f,); stated_mm: spacing as stated.
    """

    corners_mm: np.ndarray
    axes: np.ndarray
    pixel_mm: np.ndarray
    segments: np.ndarray
    shape: tuple[int, int]
    stated_mm: float | None
    thickness_mm: float | None


def seg_wants(path: Path, roi: str | None) -> Wanted:
    """What a SEG asks of its scan: series, frame of reference, and the planes of the chosen segment to be covered."""
    seg = _open(path)
    said, frames = _references(seg), _frames(seg, path)
    chosen, _ = choose(_entries(seg, frames), roi, "segment", str(path))
    rows, columns = frames.shape
    middle = frames.axes[:, 1] * frames.pixel_mm[0] * (rows - 1) / 2
    middle = middle + frames.axes[:, 2] * frames.pixel_mm[1] * (columns - 1) / 2
    points_mm = frames.corners_mm[_frames_of(frames, chosen)] + middle
    return Wanted(next(iter(said.series_uids), None), said.frame_uid, said.sop_uids, points_mm)


def read_seg(path: Path, scan: Geometry, identity: SeriesIdentity | None, roi: str | None) -> Drawn:
    """One segment of a SEG (or those a pattern takes): BINARY, FRACTIONAL cut at one half, or LABELMAP.

    Args:
        path: the file.
        scan: grid of the scan; a voxel of it is lesion when its centre lies in a lesion pixel of the frame there.
        identity: of the scan, or None.
        roi: number, name or pattern of the segment; None takes the only one.

    Raises:
        LesionError: not readable, drawn on another scan, empty, vanishing, or not one segment to choose.
    """
    seg, where = _open(path), str(path)
    said, frames = _references(seg), _frames(seg, path)
    notes = check_belongs(said, identity, where)
    chosen, of_choice = choose(_entries(seg, frames), roi, "segment", where)
    kept, masks = _pixels(path, seg, _frames_of(frames, chosen), {entry.number for entry in chosen})
    named = " and ".join(map(str, chosen))
    if not len(kept):
        raise LesionError(f"{where}: segment {named} is empty (no pixel set); draw the lesion, or name another.")
    spacing_mm = _spacing_mm(frames, scan, identity is None or said.name(identity))
    mask = on_grid(_stack(frames, kept, masks, spacing_mm), scan)
    if mask is None:
        raise LesionError(
            f"{where}: segment {named} vanishes between the voxels of the scan (its frames lie {spacing_mm:.2f} mm "
            f"apart, the scan's slices {scan.spacing_mm[0]:.2f} mm); draw it on the scan itself."
        )
    if seg.SegmentationType == "FRACTIONAL":
        kind = str(seg.get("SegmentationFractionalType", "")).lower() or "fraction"
        of_choice = (*of_choice, f"FRACTIONAL: pixels with a {kind} of at least {HALF} taken")
    return Drawn(mask, "outline", (*notes, *of_choice))


def _open(path: Path) -> Dataset:
    """All but the pixels, which are known to be there in full (a decoder of single frames would not notice)."""
    from pydicom import dcmread

    with path.open("rb") as file:
        seg = dcmread(file, stop_before_pixels=True)
        begin = file.tell()
        left = file.seek(0, os.SEEK_END) - begin
    needed = -(-int(seg.NumberOfFrames) * seg.Rows * seg.Columns * seg.BitsAllocated // 8)
    held = left - PLAIN.get(seg.file_meta.TransferSyntaxUID, left - needed)
    if held < needed:
        raise LesionError(
            f"{path}: is damaged or cut short ({held} of {needed} bytes of pixels); copy or export it again."
        )
    return seg


def _references(seg: Dataset) -> References:
    series = tuple(str(item.SeriesInstanceUID) for item in seg.get("ReferencedSeriesSequence", ()))
    sops = {
        str(instance.ReferencedSOPInstanceUID)
        for item in seg.get("ReferencedSeriesSequence", ())
        for instance in item.get("ReferencedInstanceSequence", ())
    }
    for frame in seg.PerFrameFunctionalGroupsSequence:
        for derived in frame.get("DerivationImageSequence", ()):
            sops |= {str(image.ReferencedSOPInstanceUID) for image in derived.get("SourceImageSequence", ())}
    return References(series, frozenset(sops), str(seg.get("FrameOfReferenceUID", "")) or None)


def _frames(seg: Dataset, path: Path) -> Frames:
    shared = seg.SharedFunctionalGroupsSequence[0] if seg.get("SharedFunctionalGroupsSequence") else None
    corners_mm, turned, pixels_mm, segments = [], [], [], []
    for frame in seg.PerFrameFunctionalGroupsSequence:
        place = _group("PlanePositionSequence", frame, shared)
        orientation = _group("PlaneOrientationSequence", frame, shared)
        measures = _group("PixelMeasuresSequence", frame, shared)
        if place is None or orientation is None or measures is None:
            raise LesionError(
                f"{path}: frame {len(corners_mm) + 1} has no position, orientation or pixel spacing in patient space; "
                "a SEG of a CT is needed. Export it again with its plane positions."
            )
        identified = _group("SegmentIdentificationSequence", frame, shared)
        corners_mm.append(place.ImagePositionPatient)
        turned.append(orientation.ImageOrientationPatient)
        pixels_mm.append(measures.PixelSpacing)
        segments.append(LABELMAP if identified is None else int(identified.ReferencedSegmentNumber))
    turned, pixels_mm = np.array(turned, dtype=np.float64), np.array(pixels_mm, dtype=np.float64)
    if np.ptp(turned, axis=0).max() > 1e-3 or np.ptp(pixels_mm, axis=0).max() > 1e-3:
        raise LesionError(f"{path}: frames differ in direction or pixel spacing; store each direction in its own SEG.")
    x, y = turned[0, :3], turned[0, 3:]
    stated, thickness = (measures.get(name) for name in ("SpacingBetweenSlices", "SliceThickness"))
    return Frames(
        np.array(corners_mm, dtype=np.float64),
        np.stack([np.cross(x, y), y, x], axis=1),
        pixels_mm[0],
        np.array(segments),
        (int(seg.Rows), int(seg.Columns)),
        float(stated) if stated else None,
        float(thickness) if thickness else None,
    )


def _group(name: str, frame: Dataset, shared: Dataset | None) -> Dataset | None:
    for item in (frame, shared):
        if item is not None and item.get(name):
            return item[name].value[0]
    return None


def _entries(seg: Dataset, frames: Frames) -> list[Entry]:
    """Segments that have a frame."""
    drawn = set(frames.segments.tolist())
    entries = [Entry(int(item.SegmentNumber), str(item.get("SegmentLabel", ""))) for item in seg.SegmentSequence]
    return [entry for entry in entries if entry.number > 0 and not drawn.isdisjoint((entry.number, LABELMAP))]


def _frames_of(frames: Frames, chosen: list[Entry]) -> np.ndarray:
    """Indices of the frames that draw any of the chosen segments."""
    return np.flatnonzero(np.isin(frames.segments, [LABELMAP, *(entry.number for entry in chosen)]))


def _pixels(path: Path, seg: Dataset, of_segment: np.ndarray, numbers: set[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Which of some frames are not empty, and their masks, bool `[y x]`."""
    kept, masks = [], []
    for frame, values in zip(of_segment, _stored(path, seg, of_segment), strict=True):
        if seg.SegmentationType == "FRACTIONAL":
            mask = values >= HALF * float(seg.MaximumFractionalValue)
        elif seg.SegmentationType == "LABELMAP":
            mask = np.isin(values, list(numbers))
        else:
            mask = values > 0
        if mask.any():
            kept.append(frame)
            masks.append(mask)
    return np.array(kept, dtype=int), masks


def _stored(path: Path, seg: Dataset, of_segment: np.ndarray) -> Iterator[np.ndarray]:
    """Stored values of some frames, decoded one at a time."""
    from pydicom import dcmread
    from pydicom.pixels import iter_pixels

    if seg.BitsAllocated == 1 and seg.Rows * seg.Columns % 8:  # frames begin within a byte: single ones are misread
        yield from dcmread(path).pixel_array.reshape(-1, seg.Rows, seg.Columns)[of_segment]
    else:
        yield from iter_pixels(path, indices=[int(frame) for frame in of_segment])


def _spacing_mm(frames: Frames, scan: Geometry, of_this_scan: bool) -> float:
    """Distance of neighbouring planes; empty frames are left out of a SEG, so their gaps alone do not tell.

    Frames drawn on the scan's own slices have the scan's spacing. Others have the stated one or, where frames lie
    nearer than that, the least gap between any two.
    """
    stated = frames.stated_mm
    if of_this_scan and (stated is None or abs(stated - scan.spacing_mm[0]) < 0.01 * stated):
        index = scan.to_index(frames.corners_mm)
        parallel = abs(frames.axes[:, 0] @ scan.direction[:, 0]) > 0.999
        if parallel and np.abs(index[:, 0] - index[:, 0].round()).max() < 0.1:
            return float(scan.spacing_mm[0])
    gaps_mm = np.diff(np.unique(frames.corners_mm @ frames.axes[:, 0]))
    gaps_mm = gaps_mm[gaps_mm > SAME_PLANE_MM]
    known = [float(gaps_mm.min())] if len(gaps_mm) else []
    known += [stated] if stated else []
    return min(known) if known else frames.thickness_mm or float(scan.spacing_mm[0])


def _stack(frames: Frames, kept: np.ndarray, masks: list[np.ndarray], spacing_mm: float) -> Planes:
    """The chosen frames as planes, those at one place merged."""
    distance = frames.corners_mm[kept] @ frames.axes[:, 0]
    order = np.argsort(distance, kind="stable")
    plane = np.concatenate([[0], (np.diff(distance[order]) > SAME_PLANE_MM).cumsum()]).astype(int)
    first = order[np.unique(plane, return_index=True)[1]]
    merged = np.zeros((plane[-1] + 1, *frames.shape), dtype=bool)
    for at, frame in zip(plane, order, strict=True):
        merged[at] |= masks[frame]
    return Planes(
        merged, frames.corners_mm[kept][first], frames.axes, frames.pixel_mm, reaches(distance[first], spacing_mm)
    )
