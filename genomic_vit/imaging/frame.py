"""One image of a DICOM series, as its header describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class PixelFormat:
    """How a file stores its pixels.

    Args:
        syntax: transfer syntax UID.
        start: byte at which the pixel data element begins; None where only a DICOM library can find it.
        allocated, stored, high: bits a pixel, as DICOM names them.
        signed: whether stored values are two's complement.
        samples: values a pixel; 3 is colour.
        little: byte order.
    """

    syntax: str
    start: int | None
    allocated: int
    stored: int
    high: int
    signed: bool
    samples: int
    little: bool


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a series: a file, or one frame of a multi-frame file. What a header lacks is None or "".

    Args:
        path: its file.
        index: which frame of the file, from 0.
        count: frames in the file.
        position_mm: LPS of the first pixel's centre.
        orientation: LPS direction along a row (to higher columns), then along a column (to higher rows).
        pixel_mm: distance between rows, between columns.
        slope, intercept: stored value to HU.
        padding: lowest and highest stored value that mean "no data here".
        split: what tells stacks of one series apart (acquisition, temporal position, cardiac phase, kernel).
        facts: of acquisition, for people.
        damage: why its pixels cannot be read, "" where they can.
    """

    path: Path
    index: int
    count: int
    study_uid: str
    series_uid: str
    frame_uid: str
    sop_uid: str
    sop_class: str
    modality: str
    study_date: str
    image_type: tuple[str, ...]
    shape: tuple[int, int]
    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_mm: tuple[float, ...] | None
    slope: float | None
    intercept: float | None
    padding: tuple[int, int] | None
    split: tuple[str, ...]
    pixels: PixelFormat
    facts: Mapping[str, str] = field(repr=False)
    damage: str = ""
