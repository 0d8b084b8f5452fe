"""A series laid out as a volume, or the reason why it makes none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genomic_vit.imaging.dicom import Series
from genomic_vit.imaging.frame import Frame
from genomic_vit.imaging.pixels import same_pixels
from genomic_vit.imaging.stack import SAME_PLACE_MM, OnGap, Stack, make_lattice, straighten


@dataclass(frozen=True, eq=False)
class Candidate:
    """A series that makes a volume.

    Args:
        series: it.
        frames: its frames, sorted along the normal.
        stack: its volume.
        tilt_deg: by how much the slices step aside, as the angle of a gantry tilt.
    """

    series: Series
    frames: tuple[Frame, ...]
    stack: Stack
    tilt_deg: float


class Unfit(ValueError):
    """Why a series is not the scan."""


def needed(frame: Frame) -> dict[str, object]:
    """What no slice can do without, by its DICOM name; None where the header lacks it."""
    return {
        "ImagePositionPatient": frame.position_mm,
        "ImageOrientationPatient": frame.orientation,
        "PixelSpacing": frame.pixel_mm,
        "RescaleSlope": frame.slope,
        "RescaleIntercept": frame.intercept,
        "BitsAllocated": frame.pixels.allocated or None,
        "Rows and Columns": frame.shape,
    }


def make_candidate(series: Series, on_gap: OnGap) -> Candidate:
    """The volume of a series.

    Raises:
        Unfit, StackError: files are damaged, or the slices make no volume.
    """
    sound = [frame for frame in series.frames if not frame.damage]
    hurt = [frame for frame in series.frames if frame.damage]
    if hurt and (on_gap == "error" or not sound):
        raise Unfit(
            f"{len(hurt)} of its {len(series.frames)} files cannot be used: {hurt[0].path.name}: {hurt[0].damage}"
        )
    lacking = [frame for frame in sound if None in needed(frame).values()]
    if lacking:
        names = ", ".join(name for name, value in needed(lacking[0]).items() if value is None)
        raise Unfit(f"{lacking[0].path.name} lacks {names}")
    frames = _without_copies(sound)
    first = frames[0]
    position_mm = np.array([frame.position_mm for frame in frames])
    lattice, order = make_lattice(position_mm, np.array(first.orientation), first.pixel_mm, first.shape)
    frames = [frames[k] for k in order]
    stack = straighten(lattice, on_gap, [_label(frame) for frame in frames])
    tilt_deg = float(np.degrees(np.arctan2(np.ptp(lattice.aside_mm, axis=0).max(), lattice.along_mm[-1])))
    return Candidate(series, tuple(frames), stack, tilt_deg if stack.shift_px is not None else 0.0)


def _label(frame: Frame) -> str:
    return frame.path.name if frame.count == 1 else f"frame {frame.index + 1} of {frame.path.name}"


def _without_copies(frames: list[Frame]) -> list[Frame]:
    """Frames without those whose place and pixels another has already: the same image, filed twice."""
    kept: dict[tuple[float, ...], list[Frame]] = {}
    for frame in frames:
        alike = kept.setdefault(tuple(round(x / SAME_PLACE_MM) for x in frame.position_mm), [])
        if not any(same_pixels(frame, other) for other in alike):
            alike.append(frame)
    return [frame for alike in kept.values() for frame in alike]
