"""The pixels of one DICOM frame as HU. Uncompressed ones are read in place; the others by pydicom's decoders."""

from __future__ import annotations

import warnings

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.pixels import pixel_array
from pydicom.uid import UID

from genomic_vit.imaging.errors import ScanError
from genomic_vit.imaging.frame import Frame
from genomic_vit.imaging.header import IMPLICIT

AIR_HU = -1024.0  # what padding becomes, and the least a CT number can be
BONE_HU = 3071.0
PIXEL_DATA = 0x7FE0, 0x0010
# fmt: off
PIXEL_KEYWORDS = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "PixelData",
)
# fmt: on
PIXEL_TAGS = [tag_for_keyword(keyword) for keyword in PIXEL_KEYWORDS]


def frame_hu(frame: Frame) -> np.ndarray:
    """HU of a frame, float32 (y x): stored values by slope and intercept, padding as air.

    Raises:
        ScanError: the pixels are cut short, or cannot be decoded.
    """
    try:
        stored = _plain(frame) if frame.pixels.start is not None else _encoded(frame)
    except OSError as cause:
        raise _unreadable(frame, f"it cannot be opened ({cause.strerror or type(cause).__name__})") from cause
    hu = stored * np.float32(frame.slope) + np.float32(frame.intercept)
    if frame.padding is not None:
        low, high = frame.padding
        hu_at = sorted(value * frame.slope + frame.intercept for value in (low, high))
        if hu_at[1] <= AIR_HU or hu_at[0] > BONE_HU:  # a padding value inside the body's range would punch holes
            hu[(stored >= low) & (stored <= high)] = AIR_HU
    return hu


def same_pixels(one: Frame, other: Frame) -> bool:
    """Whether two frames hold the same HU."""
    return one.shape == other.shape and np.array_equal(frame_hu(one), frame_hu(other))


def _plain(frame: Frame) -> np.ndarray:
    """Stored values of an uncompressed frame (y x)."""
    pixels = frame.pixels
    order = "<" if pixels.little else ">"
    kind = np.dtype(f"{order}{'i' if pixels.signed else 'u'}{pixels.allocated // 8}")
    count = frame.shape[0] * frame.shape[1]
    with frame.path.open("rb") as file:
        file.seek(pixels.start)
        head = file.read(12)
        found = tuple(int.from_bytes(head[i : i + 2], "little" if pixels.little else "big") for i in (0, 2))
        if found != PIXEL_DATA:
            raise _unreadable(frame, "it holds no pixel data")
        file.seek(pixels.start + (8 if pixels.syntax == IMPLICIT else 12) + frame.index * count * kind.itemsize)
        stored = np.fromfile(file, kind, count)
    if len(stored) < count:
        raise _unreadable(frame, f"it is cut short ({len(stored)} of {count} pixels)")
    return _used_bits(stored.reshape(frame.shape), frame).astype(np.float32)


def _used_bits(stored: np.ndarray, frame: Frame) -> np.ndarray:
    """Values without the bits that DICOM calls unused (old overlays lie there), sign extended."""
    pixels = frame.pixels
    above, unused = pixels.allocated - 1 - pixels.high, pixels.allocated - pixels.stored
    return (stored << above) >> unused if unused > 0 else stored


def _encoded(frame: Frame) -> np.ndarray:
    """Stored values of a compressed frame (y x)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(frame.path, force=True, specific_tags=PIXEL_TAGS)
            stored = pixel_array(data, raw=True, index=frame.index)
    except (MemoryError, FileNotFoundError, PermissionError):
        raise
    except Exception as cause:  # decoders raise many kinds; their words may quote the header
        raise _unreadable(
            frame, f"its pixels cannot be decoded ({_syntax_name(frame)}, {type(cause).__name__})"
        ) from None
    if stored.shape != frame.shape:
        raise _unreadable(frame, f"it decodes to {stored.shape} pixels, its header says {frame.shape}")
    return stored.astype(np.float32)


def _syntax_name(frame: Frame) -> str:
    return UID(frame.pixels.syntax).name


def _unreadable(frame: Frame, reason: str) -> ScanError:
    where = f", frame {frame.index}" if frame.count > 1 else ""
    return ScanError(f"{frame.path}{where}: {reason}. Copy or export the file again.")
