"""Files that are there whole or not at all, whenever the process or the machine stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to; what was written there takes the place of `path` at the end.

    It is on disk before it is renamed: a file system may keep a rename longer than the bytes it promises. Where
    writing fails, `path` stays as it was and nothing is left beside it; a killed process may leave the hidden part.

    Raises:
        OSError: as writing does.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Text with a newline after it, in UTF-8."""
    with written_whole(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def _sync_folder(folder: Path) -> None:
    """Make a rename last; not every system lets a folder be opened, and then it lasts without."""
    if os.name == "posix":
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)
