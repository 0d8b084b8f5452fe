"""Zip and tar files unpacked into a temporary folder that goes with its last user."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from genomic_vit.imaging.errors import ScanError

MOST_FILES = 100_000
MOST_BYTES = 16 << 30  # far beyond any scan; an archive that grows beyond it is broken or hostile
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
BLOCK = 1 << 20
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, RuntimeError, NotImplementedError, OSError)


class Unpacked:
    """A temporary folder that is removed when this object is, and at the latest when the program ends."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="genomic_vit-"))
        self.remove = weakref.finalize(self, shutil.rmtree, self.folder, True)


def is_archive(path: Path) -> bool:
    """Whether a file is named like a zip or tar, or begins as a zip."""
    if path.name.lower().endswith(ENDINGS):
        return True
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def unpack(path: Path) -> Unpacked:
    """Unpack plain files; links and devices are left out.

    Raises:
        ScanError: damaged, encrypted, too large, or with a member that would land outside the folder.
    """
    unpacked, written = Unpacked(), 0
    try:
        for count, (name, size, source) in enumerate(_members(path), 1):
            target = unpacked.folder / _inside(path, name)
            if count > MOST_FILES or written + size > MOST_BYTES:
                raise ScanError(
                    f"{path}: holds more than {MOST_FILES} files or {MOST_BYTES >> 30} GB; unpack it yourself."
                )
            if size > shutil.disk_usage(unpacked.folder).free:
                raise ScanError(f"{path}: no room to unpack {name} ({size >> 20} MB) in {unpacked.folder.parent}.")
            target.parent.mkdir(parents=True, exist_ok=True)
            written += _copy(path, source, target, MOST_BYTES - written)
    except ScanError:
        unpacked.remove()
        raise
    except DAMAGE as cause:
        unpacked.remove()
        reason = " ".join(str(cause).split())[-160:]
        raise ScanError(
            f"{path}: cannot be unpacked ({type(cause).__name__}: {reason}). It may be damaged, cut short or "
            "encrypted; copy it again, or unpack it yourself."
        ) from cause
    except BaseException:
        unpacked.remove()
        raise
    return unpacked


def _members(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """(name, declared size, content) of every plain file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                mode = member.external_attr >> 16
                if not member.is_dir() and (mode & 0o170000) in (0, 0o100000):
                    with archive.open(member) as source:
                        yield member.filename, member.file_size, source
        return
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile():
                yield member.name, member.size, archive.extractfile(member)


def _inside(path: Path, name: str) -> Path:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]:
        raise ScanError(f"{path}: its member {name!r} would be written outside the folder it is unpacked to; refused.")
    return Path(*parts)


def _copy(path: Path, source: IO[bytes], target: Path, most: int) -> int:
    """Copy one member; bytes are counted as they come, whatever the archive declares."""
    written = 0
    with target.open("wb") as file:
        while block := source.read(BLOCK):
            written += len(block)
            if written > most:
                raise ScanError(f"{path}: unpacks to more than {MOST_BYTES >> 30} GB; unpack it yourself.")
            file.write(block)
    return written
