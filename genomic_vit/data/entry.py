"""One prepared slab as one .npy file: written whole or not at all, checked once, then mapped into memory."""

from __future__ import annotations

import errno
import functools
import json
import mmap
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

from genomic_vit.config import UserError
from genomic_vit.data.slab import Slab
from genomic_vit.imaging.drawn import Measured
from genomic_vit.imaging.geometry import Geometry

MAPS = 8192  # Linux allows 65,530 a process; a cohort may have more slabs than that


def open_files() -> int | None:
    """How many files this process may have open at once (ulimit -n); None where there is no such limit."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def map_count(files: int | None) -> int:
    """How many slabs to keep mapped where `files` may be open: each map holds one, and half are left to all else."""
    return MAPS if files is None else max(1, min(MAPS, files // 2))


class CacheError(UserError):
    """The cache folder cannot be written, or what was in it cannot be read any more."""


class DamagedEntry(ValueError):
    """An entry is not what was written."""


@dataclass(frozen=True, eq=False)
class PreparedSlab:
    """A slab on disk: light to hold and to send between processes; its pixels are mapped when asked for.

    Args:
        path: the entry.
        geometry: where the slab's pixels lie.
        diameter_mm, measured: as `Slab` holds them.
        name: of the lesion among those of its source, "" where it is the only one.
        siblings: how many lesions the source gave.
        used: what was read of the scan, as `identity.used_files` tells it.
        notes: what a user should know of how scan and lesion were read.
    """

    path: Path
    geometry: Geometry
    diameter_mm: float
    measured: Measured
    name: str = ""
    siblings: int = 1
    used: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def checksum(self) -> str:
        """Of all that the entry holds, pixels and where they lie, as hexadecimal CRC-32."""
        with self.path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            return file.read()[::-1].hex()

    @property
    def hu(self) -> np.ndarray:
        """float32 `[z y x]`, read-only, paged in from disk as it is touched."""
        return _map(self.path)["hu"]

    @property
    def lesion(self) -> np.ndarray:
        """bool, same shape, read-only."""
        return _map(self.path)["lesion"]


def write_entry(
    slab: Slab,
    path: Path,
    name: str = "",
    siblings: int = 1,
    used: tuple[tuple[int, str], ...] = (),
    notes: tuple[str, ...] = (),
) -> PreparedSlab:
    """Write a slab beside its place and move it there whole; returns it as prepared, with what `PreparedSlab` holds.

    Raises:
        CacheError: the folder cannot be written.
    """
    geometry = slab.geometry
    told = json.dumps([slab.measured, name, siblings, used, notes]).encode()
    kind = [
        ("spacing_mm", "<f8", 3), ("origin_mm", "<f8", 3), ("direction", "<f8", (3, 3)), ("diameter_mm", "<f8"),
        ("hu", "<f4", geometry.shape), ("lesion", "?", geometry.shape), ("told", f"S{len(told)}"), ("checksum", "<u4"),
    ]  # fmt: skip
    record = np.zeros(1, kind)
    for field in ("spacing_mm", "origin_mm", "direction"):
        record[field] = getattr(geometry, field)
    record["diameter_mm"], record["hu"], record["lesion"], record["told"] = slab.diameter_mm, slab.hu, slab.lesion, told
    part = path.with_name(f".{path.stem}.{uuid4().hex}.part.npy")  # containers share process ids
    try:
        with part.open("wb") as file:
            np.save(file, record)
        with part.open("r+b") as file:
            content = file.read()
            file.seek(len(content) - 4)
            file.write(zlib.crc32(content[:-4]).to_bytes(4, "little"))
        os.replace(part, path)
    except OSError as problem:
        raise CacheError(
            f"{path.parent}: the prepared slab cannot be written ({problem.strerror}); make room, or name a folder "
            "that can be written with --cache or GENOMIC_VIT_CACHE."
        ) from problem
    finally:
        part.unlink(missing_ok=True)
    return PreparedSlab(path, geometry, slab.diameter_mm, slab.measured, name, siblings, used, notes)


def read_entry(path: Path) -> PreparedSlab:
    """What an entry holds, after its size and checksum have proved right.

    Raises:
        DamagedEntry: they have not.
        FileNotFoundError: there is no such entry.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < 128:
            raise DamagedEntry(f"{path}: cut short")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as seen:
            checksum = int.from_bytes(seen[-4:], "little")
            with seen[:-4] as body:
                if zlib.crc32(body) != checksum:
                    raise DamagedEntry(f"{path}: checksum differs")
    record = np.load(path, mmap_mode="r", allow_pickle=False)[0]
    measured, name, siblings, used, notes = json.loads(record["told"])
    shape = record["hu"].shape
    geometry = Geometry(shape, record["spacing_mm"], record["origin_mm"], record["direction"])
    diameter_mm = float(record["diameter_mm"])
    used = tuple((place, digest) for place, digest in used)
    return PreparedSlab(path, geometry, diameter_mm, measured, name, siblings, used, tuple(notes))


@functools.lru_cache(maxsize=map_count(open_files()))
def _map(path: Path) -> dict[str, np.ndarray]:
    """Mapped hu and lesion of an entry, as plain read-only arrays."""
    try:
        record = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as problem:
        if isinstance(problem, OSError) and problem.errno in (errno.EMFILE, errno.ENFILE):
            raise CacheError(
                f"{path}: a prepared slab cannot be opened ({problem.strerror}; a process may have {open_files()} "
                "open). Allow more, as ulimit -n 4096 does, and give the same command again, train's with --resume."
            ) from problem
        raise CacheError(
            f"{path}: a prepared slab went away while it was in use ({problem}); leave the cache folder alone while a "
            "run goes on, and give the same command again, train's with --resume."
        ) from problem
    return {field: np.asarray(record[field])[0] for field in ("hu", "lesion")}


def forget_maps() -> None:
    """Map entries anew when next touched: some may have been made again under the same name."""
    _map.cache_clear()
