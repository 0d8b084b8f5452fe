"""Values of a DICOM header, from their raw bytes: quick, and strict about numbers."""

from __future__ import annotations

import math
import struct
from functools import cache, lru_cache

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

BINARY = {"US": "H", "US or SS": "H", "SS": "h", "UL": "I", "FL": "f", "FD": "d"}


class Values:
    """The value of a keyword in the first of several datasets that has one.

    Args:
        datasets: raw values by tag, or as pydicom reads them; their elements need not be converted yet.
        little: byte order of raw values.
    """

    def __init__(self, datasets: list[Dataset | dict[int, bytes]], little: bool) -> None:
        self.datasets, self.little = datasets, little

    def text(self, keyword: str) -> str:
        """As text, several values joined by a backslash; "" where there is none."""
        value = self._raw(keyword)
        if isinstance(value, bytes):
            kind = _kind(keyword)
            return _text(value) if kind is None or not value else str(self._unpacked(value, kind))
        return "\\".join(map(str, value)) if isinstance(value, list | tuple | MultiValue) else str(value)

    def numbers(self, keyword: str, count: int = 1) -> tuple[float, ...] | None:
        """Exactly `count` finite numbers, or None."""
        return _numbers(self.text(keyword), count)

    def short(self, keyword: str, otherwise: int = 0) -> int:
        """A whole number; `otherwise` where there is none."""
        number = self.numbers(keyword)
        return int(number[0]) if number else otherwise

    def stored(self, keyword: str, signed: bool) -> int | None:
        """A pixel value, whose sign the header states elsewhere."""
        value = self._raw(keyword)
        if isinstance(value, bytes):
            return self._unpacked(value, "h" if signed else "H") if value else None
        return int(value)

    def _raw(self, keyword: str) -> object:
        tag = _tag(keyword)
        for dataset in self.datasets:
            found = dataset.get(tag, b"") if isinstance(dataset, dict) else _value(dataset, tag)
            if found not in (None, b"", ""):
                return found
        return b""

    def _unpacked(self, value: bytes, kind: str) -> int | float:
        return struct.unpack_from(("<" if self.little else ">") + kind, value)[0]


def _value(dataset: Dataset, tag: int) -> object:
    element = dataset.get_item(tag)
    return b"" if element is None else element.value


@cache
def _tag(keyword: str) -> int:
    return tag_for_keyword(keyword)


@cache
def _kind(keyword: str) -> str | None:
    return BINARY.get(dictionary_VR(tag_for_keyword(keyword)))


@lru_cache(4096)
def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace").strip(" \0")


@lru_cache(4096)
def _numbers(text: str, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(part) for part in text.split("\\"))
    except ValueError:
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None
