"""Lesions given as boxes in the pixels of DICOM images, in a CSV."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genomic_vit.imaging.drawn import Drawn, check_share, part_of
from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.scan import SeriesIdentity, Wanted
from genomic_vit.imaging.volume import Volume

COLUMNS = ("sop_instance_uid", "xmin", "ymin", "xmax", "ymax")


class PixelBox(NamedTuple):
    """Rows ymin to ymax and columns xmin to xmax of one image, counted from 0, both ends included."""

    sop_uid: str
    xmin: int
    ymin: int
    xmax: int
    ymax: int


def boxes_want(path: Path) -> Wanted:
    """The scan must be one of those the boxes name images of."""
    return Wanted(sop_uids=frozenset(box.sop_uid for box in read_boxes(path)))


def draw_boxes(path: Path, scan: Geometry, identity: SeriesIdentity | None) -> Drawn:
    """The boxes whose image is a slice of the scan, as a mask; boxes of other series are left, and counted.

    Raises:
        LesionError: the table cannot be read, or none of its boxes lies on a slice of the scan.
    """
    boxes = read_boxes(path)
    if identity is None:
        raise LesionError(
            f"{path}: names DICOM images by SOP instance UID, the scan is no DICOM series. Give the DICOM scan, or the "
            "box in mm (box:x0,y0,z0,x1,y1,z1)."
        )
    slices = {uid: z for z, uid in enumerate(identity.sop_uids) if uid}
    here = [box for box in boxes if box.sop_uid in slices]
    if not here:
        resampled = " (its slices were resampled and are no images of their own)" if not slices else ""
        raise LesionError(
            f"{path}: none of its {len(boxes)} boxes lies on an image of the chosen series {identity.series_uid}"
            f"{resampled}; the first is on image {boxes[0].sop_uid}. Give the series they were drawn on."
        )
    low = np.array([min(slices[box.sop_uid] for box in here), min(b.ymin for b in here), min(b.xmin for b in here)])
    high = np.array([max(slices[box.sop_uid] for box in here), max(b.ymax for b in here), max(b.xmax for b in here)])
    inside_low, inside_high = np.maximum(low, 0), np.minimum(high, np.array(scan.shape) - 1)
    part = part_of(scan, inside_low, np.maximum(inside_high - inside_low + 1, 1))
    mask, area = np.zeros(part.shape, dtype=bool), 0
    for box in here:
        rows = slice(max(0, box.ymin - inside_low[1]), max(0, box.ymax + 1 - inside_low[1]))
        columns = slice(max(0, box.xmin - inside_low[2]), max(0, box.xmax + 1 - inside_low[2]))
        mask[slices[box.sop_uid] - inside_low[0], rows, columns] = True
        area += (box.ymax - box.ymin + 1) * (box.xmax - box.xmin + 1)
    drawn = sum(_inside_area(box, scan) for box in here)
    check_share(drawn / area, lambda: scan.to_lps(np.stack([low, high])), scan, str(path))
    return Drawn(Volume(mask, part), "box", _notes(here, boxes, slices), drawn / area)


def read_boxes(path: Path) -> list[PixelBox]:
    """The rows of a table with the columns sop_instance_uid, xmin, ymin, xmax, ymax and any others.

    Raises:
        LesionError: the file or a column is missing, or a number cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            header = [name.strip().lower() for name in reader.fieldnames or []]
            reader.fieldnames = header
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as cause:
        raise LesionError(f"{path}: is not a CSV in UTF-8 ({cause}); save it as 'CSV UTF-8'.") from cause
    missing = [name for name in COLUMNS if name not in header]
    if missing or not rows:
        raise LesionError(
            f"{path}: {'lacks the columns ' + ', '.join(missing) if missing else 'holds no box'} "
            f"(found: {', '.join(header) or 'nothing'}); a table of boxes has the columns {', '.join(COLUMNS)}, "
            "separated by commas, one row a box."
        )
    return [_box(path, number, row) for number, row in enumerate(rows, start=2)]


def _box(path: Path, number: int, row: dict[str, str]) -> PixelBox:
    try:
        sides = [round(float(row[name])) for name in COLUMNS[1:]]
        box = PixelBox(row["sop_instance_uid"].strip(), *sides)
        if box.xmin > box.xmax or box.ymin > box.ymax or not box.sop_uid:
            raise ValueError
    except (ValueError, OverflowError):
        found = ", ".join(f"{name}={row[name]!r}" for name in COLUMNS)
        raise LesionError(
            f"{path}: row {number} is no box ({found}); needed are a UID and min not above max."
        ) from None
    return box


def _inside_area(box: PixelBox, scan: Geometry) -> int:
    rows = min(box.ymax, scan.shape[1] - 1) - max(box.ymin, 0) + 1
    columns = min(box.xmax, scan.shape[2] - 1) - max(box.xmin, 0) + 1
    return max(0, rows) * max(0, columns)


def _notes(here: list[PixelBox], boxes: list[PixelBox], slices: dict[str, int]) -> tuple[str, ...]:
    used = sorted({slices[box.sop_uid] for box in here})
    notes = [f"{len(boxes) - len(here)} boxes of other series left"] if len(here) < len(boxes) else []
    unboxed = used[-1] - used[0] + 1 - len(used)
    if unboxed:
        notes.append(f"{unboxed} slices between them have no box and stay empty")
    return tuple(notes)
