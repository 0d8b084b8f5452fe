"""The door to lesions: whatever a manifest's lesion cell names, as voxels of its scan."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from genomic_vit.config import LesionConfig as LesionOptions
from genomic_vit.imaging.boxes import boxes_want, draw_boxes
from genomic_vit.imaging.drawn import Drawn, Measured, Placed, part_of, place, readable
from genomic_vit.imaging.errors import LesionError, ScanError
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.lesion_file import find_lesion_file
from genomic_vit.imaging.lungs import find_lungs
from genomic_vit.imaging.mask import mask_wants, read_mask
from genomic_vit.imaging.pieces import pieces
from genomic_vit.imaging.points import Place, draw_place, parse_place
from genomic_vit.imaging.rtstruct import read_rtstruct, rtstruct_wants
from genomic_vit.imaging.scan import Scan, Wanted, open_scan
from genomic_vit.imaging.seg import read_seg, seg_wants
from genomic_vit.imaging.stack import OnGap
from genomic_vit.imaging.volume import Volume

__all__ = ["Lesion", "LesionError", "LesionOptions", "open_scan_of", "read_lesion", "read_lesions", "want"]
DEFAULT = LesionOptions()
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Lesion:
    """One lesion, without a whole scan's worth of zeros.

    Args:
        name: "" where a source holds one, else "1", "2" …, largest first.
        mask: bool; a block of the scan's grid.
        first: index in the scan of the block's voxel [0, 0, 0].
        measured: how well its extent is known.
        share: of what the source draws that lies in the scan.
        notes: what a user should know of how it was read.
    """

    name: str
    mask: Volume
    first: tuple[int, int, int]
    measured: Measured
    share: float = 1.0
    notes: tuple[str, ...] = ()


def want(source: str | Path, options: LesionOptions = DEFAULT) -> Wanted:
    """What a lesion source asks of the scan it belongs to, from headers alone.

    Raises:
        LesionError: there is no such source, or it does not say which of its drawings is meant.
    """
    if options.field == "lung":
        return Wanted()
    here = parse_place(str(source), options.frame)
    if here is not None:
        return Wanted(points_mm=((here.low_mm + here.high_mm) / 2)[None])
    path, kind = find_lesion_file(source)
    with readable(path):
        if kind == "SEG":
            return seg_wants(path, options.roi)
        if kind == "RTSTRUCT":
            return rtstruct_wants(path, options.roi)
        return boxes_want(path) if kind == "boxes" else mask_wants(path)


def open_scan_of(
    source: str | Path, path: str | Path, options: LesionOptions = DEFAULT, on_gap: OnGap = "error"
) -> Scan:
    """Open the scan that a lesion source belongs to: `open_scan` with what the source asks of it.

    Args:
        source: as `read_lesions`.
        path: as `open_scan`.
        options: as `read_lesions`.
        on_gap: as `open_scan`.

    Raises:
        LesionError: as `want`; or the lesion lies outside every series, and where both lie.
        ScanError: as `open_scan`.
    """
    wanted = want(source, options)
    try:
        return open_scan(path, wanted=wanted, on_gap=on_gap)
    except ScanError:
        if wanted.points_mm is None:
            raise
        anywhere = open_scan(path, wanted=replace(wanted, points_mm=None), on_gap=on_gap)
        read_lesions(source, anywhere, options)  # the error that tells more, such as of a point in the other frame
        raise


def read_lesion(source: str | Path, like: Volume | Scan, options: LesionOptions = DEFAULT) -> Volume:
    """All that a source draws, on the grid of its scan; `read_lesions` tells several lesions apart.

    Args:
        source: mask image, DICOM SEG or RTSTRUCT, CSV of pixel boxes, or the text of a point `x,y,z` or of a box
            `box:x0,y0,z0,x1,y1,z1` in mm; anything with field="lung". docs/lesions.md says what each means.
        like: the scan.
        options: frame, roi and so on.

    Returns:
        Volume with a bool array on exactly `like.geometry`.

    Raises:
        LesionError: the source cannot be read, is empty, belongs to another scan, or vanishes on the scan's grid.
    """
    drawn, placed = _placed(source, like, options)
    _say(source, (*drawn.notes, *_outside(placed)))
    mask = np.zeros(like.geometry.shape, dtype=bool)
    mask[tuple(slice(a, a + n) for a, n in zip(placed.first, placed.block.shape, strict=True))] = placed.block
    return Volume(mask, like.geometry)


def read_lesions(source: str | Path, scan: Volume | Scan, options: LesionOptions = DEFAULT) -> tuple[Lesion, ...]:
    """The lesions of a source, largest first: the largest alone, or each (`options.lesions`).

    A point, a box in mm and the lungs are one lesion, whatever their pieces; of anything else the connected pieces
    are the lesions, specks left out.

    Args:
        source: as `read_lesion`.
        scan: the scan; its voxels are read for the lungs only.
        options: frame, roi, lesions and so on.

    Raises:
        LesionError: as `read_lesion`.
    """
    drawn, placed = _placed(source, scan, options)
    found, of_choice = _apart(drawn, placed, scan.geometry, options)
    notes = (*drawn.notes, *_outside(placed), *of_choice)
    _say(source, notes)
    names = [str(number) for number in range(1, len(found) + 1)] if len(found) > 1 else [""]
    lesions = []
    for name, (block, first) in zip(names, found, strict=True):
        border = _border(block, first, scan.geometry)
        for remark in border:  # true of most crops around a nodule: no warning
            log.info("%s: lesion %s%s", source, name and f"{name} ", remark)
        mask = Volume(block, part_of(scan.geometry, np.array(first), np.array(block.shape)))
        lesions.append(Lesion(name, mask, first, drawn.measured, placed.share, (*notes, *border)))
    return tuple(lesions)


def _apart(
    drawn: Drawn, placed: Placed, scan: Geometry, options: LesionOptions
) -> tuple[list[tuple[np.ndarray, tuple[int, int, int]]], tuple[str, ...]]:
    """Block and place of each lesion asked for, largest first, and what to say of the others."""
    if drawn.whole:
        return [(placed.block, placed.first)], ()
    apart, specks = pieces(placed.block, float(np.prod(scan.spacing_mm)))
    found = [(piece.block, tuple(int(n) for n in piece.first + placed.first)) for piece in apart]
    notes = (f"{specks} specks smaller than a ball of 3 mm left out",) if specks else ()
    if len(found) == 1 or options.lesions == "each":
        return found, notes
    others = ", ".join(f"{piece.volume_mm3 / 1000:.2f}" for piece in apart[1:4]) + (" …" if len(apart) > 4 else "")
    said = (
        f"the largest of {len(apart)} lesions taken ({apart[0].volume_mm3 / 1000:.2f} ml; left: {others} ml); "
        "--lesions each makes a case of each"
    )
    return found[:1], (said, *notes)


def _placed(source: str | Path, scan: Volume | Scan, options: LesionOptions) -> tuple[Drawn, Placed]:
    drawn = _draw(source, scan, options)
    return drawn, place(drawn, scan.geometry, str(source))


def _draw(source: str | Path, scan: Volume | Scan, options: LesionOptions) -> Drawn:
    if options.field == "lung":
        return find_lungs(scan)
    here: Place | None = parse_place(str(source), options.frame)
    if here is not None:
        return draw_place(here, scan.geometry, options.point_mm, options.frame, str(source))
    path, kind = find_lesion_file(source)
    identity = scan.identity if isinstance(scan, Scan) else None
    with readable(path):
        if kind == "SEG":
            return read_seg(path, scan.geometry, identity, options.roi)
        if kind == "RTSTRUCT":
            return read_rtstruct(path, scan.geometry, identity, options.roi)
        return draw_boxes(path, scan.geometry, identity) if kind == "boxes" else read_mask(path, options.roi)


def _outside(placed: Placed) -> tuple[str, ...]:
    if placed.share == 1.0:
        return ()
    return (f"{100 * (1 - placed.share):.1f} % of the lesion lies outside the scan and is left out",)


def _border(block: np.ndarray, first: tuple[int, int, int], scan: Geometry) -> tuple[str, ...]:
    ends = [("first", axis) for axis in range(3) if first[axis] == 0]
    ends += [("last", axis) for axis in range(3) if first[axis] + block.shape[axis] == scan.shape[axis]]
    if not ends:
        return ()
    sides = ", ".join(f"{end} {('slice', 'row', 'column')[axis]}" for end, axis in ends)
    return (f"touches the border of the scan ({sides}) and may be cut off there",)


def _say(source: str | Path, notes: tuple[str, ...]) -> None:
    for note in notes:
        log.warning("%s: %s", source or "lungs", note)
