"""Prepared slabs on disk, under a key of content and settings."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from genomic_vit.data.case import Reading, cut_case
from genomic_vit.data.entry import CacheError, DamagedEntry, PreparedSlab, read_entry, write_entry
from genomic_vit.data.identity import content_key, still_same, used_files
from genomic_vit.data.stale import sweep
from genomic_vit.imaging.lesion_file import find_lesion_file
from genomic_vit.imaging.scan import open_scan

FORMAT = 4  # raise it when the cut or the readers give other numbers than before
log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where prepared slabs and the phantom are kept: $GENOMIC_VIT_CACHE, or genomic_vit in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("GENOMIC_VIT_CACHE") or Path(base) / "genomic_vit")


def open_cache(folder: Path) -> Path:
    """Make a cache folder where there is none, and see that it can be written; clear what killed processes left.

    Raises:
        CacheError: it cannot.
    """
    probe = folder / f".probe.{uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.mkdir()  # a folder: a full disk often takes empty files still
        probe.rmdir()
    except OSError as problem:
        raise CacheError(
            f"{folder}: prepared slabs cannot be kept here ({problem.strerror}); make room, or name a folder that can "
            "be written with --cache or GENOMIC_VIT_CACHE."
        ) from problem
    sweep(folder, ".*.part.npy", ".phantom-*.part")
    return folder


def load_slabs(scan: Path, lesion: str | Path, reading: Reading, cache: Path) -> tuple[PreparedSlab, ...]:
    """The slabs of a lesion source (one, or one for each of its lesions), cut unless the cache holds them.

    Args:
        scan: whatever `open_scan` takes.
        lesion: whatever `read_lesions` takes.
        reading: settings.
        cache: folder of prepared slabs, as `open_cache` made it.

    Raises:
        ScanError, LesionError: as `open_scan`, `read_lesions` and `cut_planned`.
        CacheError: the folder cannot be written.
    """
    if not scan.exists():
        open_scan(scan)  # says so
    key = slab_key(scan, lesion, reading)
    held = _held(cache, key, scan)
    if held:
        return held
    with _heard() as said:
        cut = cut_case(scan, lesion, reading)
    notes = tuple(dict.fromkeys(text.removeprefix(f"{lesion}: ").removeprefix(f"{scan}: ") for text in said))
    used = used_files(scan, cut.files)
    entries = [
        write_entry(
            cut.slabs[number], _entry(cache, key, number + 1), cut.lesions[number].name, len(cut.slabs), used, notes
        )
        for number in reversed(range(len(cut.slabs)))  # where the first is, all are
    ]
    return tuple(reversed(entries))


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What the readers say, kept for the entry instead of being said once by whichever process happens to read."""
    said: list[str] = []
    readers, handler = logging.getLogger("genomic_vit.imaging"), logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    readers.addHandler(handler)
    before, readers.propagate = readers.propagate, False
    try:
        yield said
    finally:
        readers.removeHandler(handler)
        readers.propagate = before


def slab_key(scan: Path, lesion: str | Path, reading: Reading) -> str:
    """What an entry is filed under; `identity.content_key` says what counts.

    Raises:
        LesionError: the lesion is a folder that does not hold exactly one.
    """
    if reading.lesion.field == "lung":
        lesion = ""
    elif str(lesion) and Path(lesion).is_dir():
        lesion = find_lesion_file(lesion)[0]
    return content_key(scan, lesion, [FORMAT, dataclasses.asdict(reading)])


def _entry(cache: Path, key: str, number: int) -> Path:
    return cache / f"{key}-{number}.npy"


def _held(cache: Path, key: str, scan: Path) -> tuple[PreparedSlab, ...]:
    """Sound entries of a key, made of the same content; none where one is lacking."""
    try:
        first = read_entry(_entry(cache, key, 1))
        if not still_same(scan, first.used):
            log.warning("%s: the scan's pixels have changed since its slab was prepared; made again", scan)
            return ()
        return (first, *(read_entry(_entry(cache, key, number)) for number in range(2, first.siblings + 1)))
    except FileNotFoundError:
        return ()
    except Exception as cause:  # whatever is wrong with it, it is made again
        reason = cause if isinstance(cause, DamagedEntry) else type(cause).__name__
        log.warning("%s: damaged cache entry (%s), made again", _entry(cache, key, 1), reason)
        return ()
