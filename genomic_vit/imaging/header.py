"""One DICOM file's header as frames: where each image lies, how its numbers become HU, where its pixels begin.

Only the tags named here are parsed. A patient's name, numbers and birth date are among them for one reason: words of
theirs are struck out of the free text that is shown to people. They go no further than this module.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from genomic_vit.imaging.elements import SYNTAX, plain_elements
from genomic_vit.imaging.frame import Frame, PixelFormat
from genomic_vit.imaging.values import Values

DESCRIBE = {  # facts of acquisition; nothing here tells who was scanned
    "SeriesDescription": "description",
    "SeriesNumber": "number",
    "Manufacturer": "manufacturer",
    "ManufacturerModelName": "model",
    "ConvolutionKernel": "kernel",
    "SliceThickness": "thickness_mm",
    "KVP": "kvp",
    "ContrastBolusAgent": "contrast",
    "ReconstructionDiameter": "diameter_mm",
    "GantryDetectorTilt": "tilt_deg",
    "PatientPosition": "patient_position",
}
FREE_TEXT = "description", "contrast"  # facts in which technicians write what they like
WHO = "PatientName", "PatientID", "AccessionNumber", "PatientBirthDate"
WORD = re.compile(r"\w{3,}")
SPLIT = {  # what may tell apart two stacks that share one SeriesInstanceUID
    "acquisition": ("FrameAcquisitionNumber", "AcquisitionNumber"),
    "temporal position": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "cardiac phase": ("NominalPercentageOfCardiacPhase",),
    "kernel": ("ConvolutionKernel",),
    "stack": ("StackID",),
}
# fmt: off
PLACE = (
    "FrameType", "FrameAcquisitionNumber", "TemporalPositionIndex", "StackID", "ImageType", "SOPClassUID",
    "SOPInstanceUID", "Modality", "StudyDate", "StudyInstanceUID", "SeriesInstanceUID", "AcquisitionNumber",
    "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID",
    "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase", "SamplesPerPixel", "NumberOfFrames", "Rows",
    "Columns", "PixelSpacing", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope",
)
# fmt: on
GROUPS = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
GROUP_TAGS = frozenset(tag_for_keyword(keyword) for keyword in GROUPS)
TAGS = [tag_for_keyword(keyword) for keyword in (*DESCRIBE, *WHO, *PLACE, *GROUPS)]
WANTED = frozenset(TAGS)
HEAD_BYTES, LONG_HEAD_BYTES = 8 << 10, 256 << 10  # nearly all headers end within the first, some within the second
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
PLAIN = (IMPLICIT, EXPLICIT, BIG)  # transfer syntaxes whose pixels lie in the file as they are


class HeaderError(ValueError):
    """A file begins as DICOM does, but its header cannot be used; the message says why, without the file's name."""


def read_header(path: Path) -> list[Frame]:
    """Frames of a DICOM file; an empty list where the file is no DICOM, or a DICOMDIR.

    Raises:
        HeaderError: it begins as DICOM does, and its header is cut short or garbled.
    """
    with path.open("rb") as file:
        start = file.read(HEAD_BYTES)
        marked = start[128:132] == b"DICM"
        if not marked and not (start[:2] in (b"\x02\x00", b"\x08\x00") and start[3:4] == b"\x00"):
            return []
        try:
            plain = plain_elements(start, WANTED, GROUP_TAGS) if marked else None
            if marked and plain is None and len(start) == HEAD_BYTES:
                file.seek(0)
                plain = plain_elements(file.read(LONG_HEAD_BYTES), WANTED, GROUP_TAGS)
            if plain is not None:
                syntax = plain.values[SYNTAX].decode("ascii", "replace").strip(" \0")
                return _frames(path, Values([plain.values], True), syntax, plain.pixels_at)
            file.seek(0)
            return _parsed(path, file)
        except HeaderError:
            if marked:
                raise
        except (MemoryError, RecursionError):
            raise HeaderError("its header is damaged (lengths that cannot be)") from None
        except Exception as cause:  # the parser raises many kinds on garbage; its words may quote the header
            if marked:
                raise HeaderError(f"its header is damaged or cut short ({type(cause).__name__})") from None
    return []


def _parsed(path: Path, file: BinaryIO) -> list[Frame]:
    """Frames of a file whose header pydicom must parse."""
    header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=TAGS)
    if str(header.file_meta.get("MediaStorageSOPClassUID", "")) == MEDIA_DIRECTORY:
        return []
    implicit, little = header.original_encoding
    syntax = str(header.file_meta.get("TransferSyntaxUID", "")) or (IMPLICIT if implicit else EXPLICIT)
    return _frames(path, Values([header], little), syntax, file.tell())


def _frames(path: Path, top: Values, syntax: str, offset: int) -> list[Frame]:
    if not top.text("SOPClassUID") or not top.text("SeriesInstanceUID"):
        raise HeaderError("its header ends before it says what it is (no SOPClassUID or SeriesInstanceUID)")
    pixels = _pixel_format(top, syntax, offset)
    shape, count = (top.short("Rows"), top.short("Columns")), int((top.numbers("NumberOfFrames") or (1,))[0])
    damage = _missing_bytes(pixels, shape, count, path.stat().st_size)
    (header,) = top.datasets
    if isinstance(header, dict) or GROUPS[1] not in header or top.text("Modality") != "CT":
        return [_frame(path, 0, count, shape, top, pixels, damage)]
    shared, each = (header.get(name) or [] for name in GROUPS)
    if len(each) != count:
        raise HeaderError(f"it declares {count} frames and describes {len(each)}")
    common = _macros(shared[0]) if len(shared) else []
    return [
        _frame(path, index, count, shape, Values([*_macros(each[index]), *common, header], top.little), pixels, damage)
        for index in range(count)
    ]


def _macros(groups: Dataset) -> list[Dataset]:
    """The first item of every functional group."""
    return [element.value[0] for element in groups if element.VR == "SQ" and len(element.value)]


def _frame(
    path: Path,
    index: int,
    count: int,
    shape: tuple[int, int],
    values: Values,
    pixels: PixelFormat,
    damage: str,
) -> Frame:
    slope, intercept = values.numbers("RescaleSlope", 1), values.numbers("RescaleIntercept", 1)
    limits = (values.stored(name, pixels.signed) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    padding = [limit for limit in limits if limit is not None]
    facts = {name: values.text(keyword) for keyword, name in DESCRIBE.items()}
    facts |= {name: _without_names(facts[name], values) for name in FREE_TEXT if facts[name]}
    return Frame(
        path=path,
        index=index,
        count=count,
        study_uid=values.text("StudyInstanceUID"),
        series_uid=values.text("SeriesInstanceUID"),
        frame_uid=values.text("FrameOfReferenceUID"),
        sop_uid=values.text("SOPInstanceUID"),
        sop_class=values.text("SOPClassUID"),
        modality=values.text("Modality"),
        study_date=values.text("StudyDate"),
        image_type=tuple((values.text("FrameType") or values.text("ImageType")).upper().split("\\")),
        shape=shape,
        position_mm=values.numbers("ImagePositionPatient", 3),
        orientation=values.numbers("ImageOrientationPatient", 6),
        pixel_mm=values.numbers("PixelSpacing", 2),
        slope=slope[0] if slope else None,
        intercept=intercept[0] if intercept else None,
        padding=(min(padding), max(padding)) if padding else None,
        split=tuple(next((text for name in names if (text := values.text(name))), "") for names in SPLIT.values()),
        pixels=pixels,
        facts=MappingProxyType(facts),
        damage=damage,
    )


def _without_names(text: str, values: Values) -> str:
    """Free text without the words, three letters or digits long and more, that tell who was scanned."""
    who = {word.casefold() for keyword in WHO for word in WORD.findall(values.text(keyword))}
    return WORD.sub(lambda word: "***" if word[0].casefold() in who else word[0], text)


def _pixel_format(values: Values, syntax: str, offset: int) -> PixelFormat:
    stored = values.short("BitsStored", 16)
    plain = syntax in PLAIN
    return PixelFormat(
        syntax=syntax,
        start=offset if plain else None,
        allocated=values.short("BitsAllocated"),
        stored=stored,
        high=values.short("HighBit", stored - 1),
        signed=values.short("PixelRepresentation") == 1,
        samples=values.short("SamplesPerPixel", 1),
        little=values.little,
    )


def _missing_bytes(pixels: PixelFormat, shape: tuple[int, int], count: int, size: int) -> str:
    """What is wrong where a file is too short for its uncompressed pixels, else ""."""
    if pixels.start is None or not all(shape):
        return ""
    head = 8 if pixels.syntax == IMPLICIT else 12
    needed = pixels.start + head + shape[0] * shape[1] * count * pixels.samples * pixels.allocated // 8
    return f"it is cut short ({size} bytes, {needed} needed)" if size < needed else ""
