"""A DICOM tree of any depth and mixture as series: one pass over the headers, then stacks that are one volume each."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from genomic_vit.imaging.frame import Frame
from genomic_vit.imaging.header import SPLIT, HeaderError, read_header

SAME_DIRECTION = 1e-3  # direction cosines that differ by less belong to one stack
SAME_PIXEL_MM = 1e-4
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Series:
    """Images of one SeriesInstanceUID that may make one volume: equal in size, pixel spacing and direction.

    Args:
        frames: in the order found on disk.
        part: what tells it from the other stacks of the same SeriesInstanceUID; "" where it is the only one.
    """

    frames: tuple[Frame, ...]
    part: str = ""

    @property
    def first(self) -> Frame:
        return self.frames[0]

    @property
    def name(self) -> str:
        """For people: number, description, part."""
        number, description = self.first.facts["number"], self.first.facts["description"]
        words = [f"series {number}" if number else "a series without number"]
        words += [f"'{description}'"] if description else []
        return ", ".join([*words, self.part] if self.part else words)


@dataclass(frozen=True, eq=False)
class Tree:
    """What a folder holds.

    Args:
        series: in order of study, number and UID.
        damaged: (file, reason) of what begins as DICOM does and cannot be used.
        others: files that are no DICOM.
    """

    series: tuple[Series, ...]
    damaged: tuple[tuple[Path, str], ...]
    others: tuple[Path, ...]

    @property
    def is_one_image(self) -> bool:
        """Whether all there is is one CT slice."""
        return not self.damaged and [len(one.frames) for one in self.series] == [1] and self.series[0].first.count == 1


def find_series(root: str | Path) -> list[Series]:
    """Every series under a folder, or in a file, of any modality; headers only."""
    return list(read_tree(Path(root)).series)


def read_tree(root: Path) -> Tree:
    """Read every header under `root` (a folder of any depth, or one file)."""
    frames: list[Frame] = []
    damaged, others = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's words on bad values may quote them
        for path in _files(root):
            try:
                found = read_header(path)
            except HeaderError as problem:
                damaged.append((path, str(problem)))
                continue
            except OSError as problem:
                damaged.append((path, f"it cannot be opened ({problem.strerror})"))
                continue
            frames += found
            if not found:
                others.append(path)
    return Tree(tuple(group_series(frames)), tuple(damaged), tuple(others))


def _files(root: Path) -> Iterator[Path]:
    """Files under a folder in a fixed order, links followed, no folder twice."""
    if root.is_file():
        yield root
        return
    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(folder, name)).is_file())


def group_series(frames: list[Frame]) -> list[Series]:
    """Frames, wherever they were found, as series in order of study, number and UID."""
    by_uid: dict[tuple, list[Frame]] = {}
    for frame in frames:
        key = (frame.study_uid, frame.series_uid, frame.frame_uid, frame.modality)
        by_uid.setdefault(key, []).append(frame)
    series = []
    for group in by_uid.values():
        stacks = [part for alike in _alike(group) for part in _apart(alike)]
        for stack, part in stacks:
            series.append(Series(tuple(stack), part if len(stacks) > 1 else ""))
    return sorted(series, key=_place)


def _place(series: Series) -> tuple:
    number = series.first.facts["number"]
    whole = int(number) if number.lstrip("-").isdigit() else 1 << 31
    return series.first.study_date, series.first.study_uid, whole, series.first.series_uid, series.part


def _alike(frames: list[Frame]) -> list[list[Frame]]:
    """Frames of one size, pixel spacing, direction and kind together."""
    stacks: list[list[Frame]] = []
    for frame in frames:
        stack = next((stack for stack in stacks if _fits(frame, stack[0])), None)
        if stack is None:
            stacks.append([frame])
        else:
            stack.append(frame)
    return stacks


def _fits(frame: Frame, other: Frame) -> bool:
    if frame.shape != other.shape or is_localizer(frame) != is_localizer(other):
        return False
    return _close(frame.orientation, other.orientation, SAME_DIRECTION) and _close(
        frame.pixel_mm, other.pixel_mm, SAME_PIXEL_MM
    )


def _close(one: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= tolerance


def is_localizer(frame: Frame) -> bool:
    """Whether an image calls itself a scout."""
    return any(word in ("LOCALIZER", "SCOUT") for word in frame.image_type)


def _apart(frames: list[Frame], names: tuple[str, ...] = tuple(SPLIT)) -> list[tuple[list[Frame], str]]:
    """Stacks of frames that would lie through one another, by the first header value that separates them."""
    for place, name in enumerate(names):
        parts: dict[str, list[Frame]] = {}
        index = list(SPLIT).index(name)
        for frame in frames:
            parts.setdefault(frame.split[index], []).append(frame)
        if len(parts) > 1 and _overlap(list(parts.values())):
            return [
                (stack, ", ".join(filter(None, (f"{name} {value or 'unnamed'}", part))))
                for value, some in sorted(parts.items())
                for stack, part in _apart(some, names[place + 1 :])
            ]
    return [(frames, "")]


def _overlap(parts: list[list[Frame]]) -> bool:
    """Whether the stretches along the normal that the parts fill reach into one another."""
    frame = parts[0][0]
    if frame.orientation is None or any(f.position_mm is None for part in parts for f in part):
        return False
    normal = np.cross(frame.orientation[:3], frame.orientation[3:])
    ranges = sorted((float(place.min()), float(place.max())) for place in (_along(part, normal) for part in parts))
    return any(after[0] <= before[1] + 1e-3 for before, after in pairwise(ranges))


def _along(frames: list[Frame], normal: np.ndarray) -> np.ndarray:
    return np.array([frame.position_mm for frame in frames]) @ normal
