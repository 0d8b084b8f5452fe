"""What makes two inputs the same: hashes of content, without reading every byte of a DICOM series.

A file (image, archive, lesion) counts by all its bytes. A folder of DICOM files counts by the name, the size and the
first bytes of every file, which hold the header; and, once it is known which slices a slab was cut from, by all bytes
of those (`used_files`). So a pixel changed in place is noticed wherever it can reach the slab, although the size and
the SOPInstanceUID stay as they were, and a series need not be read whole to find that it is still the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

HEAD_BYTES = 16 << 10  # a CT image's header is 2 to 8 KiB long


def content_key(scan: Path, lesion: str | Path, settings: object) -> str:
    """Hash of a scan's identity, a lesion's content and the settings (anything JSON can hold).

    Args:
        scan: file or DICOM folder.
        lesion: file, folder, or text that is no path (a point, a box, nothing).
        settings: of reading and cutting.
    """
    digest = hashlib.blake2b(digest_size=20)
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for path in files_of(scan):
        digest.update(f"|{os.path.relpath(path, scan)}|{path.stat().st_size}|".encode(errors="surrogateescape"))
        _update(digest, path, HEAD_BYTES if scan.is_dir() else None)
    place = Path(lesion)
    for path in files_of(place) if str(lesion) and place.exists() else ():
        digest.update(f"|{path.stat().st_size}|".encode())
        _update(digest, path)
    if not str(lesion) or not place.exists():
        digest.update(f"|{lesion}|".encode())
    return digest.hexdigest()


def used_files(scan: Path, used: Iterable[Path]) -> tuple[tuple[int, str], ...]:
    """(place among the scan's files, hash of all bytes) of each file that slices were read from.

    Places, not names: the names a hospital gives its files may hold a patient's. A scan that is one file is hashed
    whole by `content_key` already and gives ().
    """
    if not scan.is_dir():
        return ()
    place = {path: number for number, path in enumerate(files_of(scan))}
    return tuple((place[path], _digest(path)) for path in sorted(set(used)))


def still_same(scan: Path, used: tuple[tuple[int, str], ...]) -> bool:
    """Whether the files that slices were read from are what they were."""
    if not used:
        return True
    files = files_of(scan)
    return all(number < len(files) and _digest(files[number]) == told for number, told in used)


def files_of(path: Path) -> list[Path]:
    """A file with its data file where it has one beside it (MHD), or all files under a folder, in a fixed order."""
    if not path.is_dir():
        return [path, *_raw_beside(path)]
    found, seen = [], set()
    for folder, folders, names in os.walk(path, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        found += [file for name in sorted(names) if (file := Path(folder, name)).is_file()]
    return found


def _raw_beside(path: Path) -> list[Path]:
    if path.suffix.lower() != ".mhd":
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    named = [line.split("=", 1)[1].strip() for line in lines if line.split("=", 1)[0].strip() == "ElementDataFile"]
    return [raw for name in named if (raw := path.parent / name).is_file()]


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    _update(digest, path)
    return digest.hexdigest()


def _update(digest: hashlib.blake2b, path: Path, limit: int | None = None) -> None:
    with path.open("rb", buffering=0) as file:
        if limit is not None:
            digest.update(file.read(limit))
            return
        while block := file.read(1 << 20):
            digest.update(block)
