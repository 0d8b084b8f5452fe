"""What is kept of each scan of a cohort to know it again under another name: its fingerprint and its DICOM studies.

A slab changes with the outline it is cut around; the scan does not. Three slices of it are read, once: the record lies
in the cache beside the slabs. A DICOM study is kept as a hash of its UID.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np

from genomic_vit.cohort.manifest import Case
from genomic_vit.config import UserError
from genomic_vit.data.cache import open_cache
from genomic_vit.data.case import Reading
from genomic_vit.data.fingerprint import Fingerprint, fingerprint
from genomic_vit.data.identity import content_key
from genomic_vit.data.workers import Engine, Lost, run_each
from genomic_vit.imaging.archive import is_archive, unpack
from genomic_vit.imaging.dicom import find_series
from genomic_vit.imaging.files import is_image
from genomic_vit.imaging.lesion import open_scan_of
from genomic_vit.imaging.scan import Scan, open_scan

FORMAT = 1  # raise it when fingerprints of the same scan become others


@dataclass(frozen=True, eq=False)
class ScanRecord:
    """What is known of a scan.

    Args:
        studies: hashes of the StudyInstanceUIDs of all series beside it; () where it is no DICOM.
        prints: its fingerprint; None where its slices cannot be read.
        reason: why they cannot.
    """

    studies: tuple[str, ...] = ()
    prints: Fingerprint | None = None
    reason: str = ""


def scan_records(
    cases: Sequence[Case],
    reading: Reading,
    cache: Path,
    *,
    jobs: int = -1,
    engine: Engine = "loky",
    progress: Callable[[int, int], None] | None = None,
) -> list[ScanRecord]:
    """The record of each case's scan; scans of several cases are read once, and what the cache holds not at all.

    Args:
        cases: who.
        reading: how scans are opened: the lesion may decide between the series of a folder.
        cache: folder of prepared slabs.
        jobs, engine, progress: as `prepare` takes them.

    Raises:
        CacheError, EngineError: as `prepare`.
    """
    asked = [(case.scan, "" if is_image(case.scan) else case.lesion) for case in cases]
    distinct = list(dict.fromkeys(asked))
    records: dict[tuple[Path, Path | str], ScanRecord] = {}
    work = partial(_record, reading=reading, cache=open_cache(cache))
    for count, (index, record) in enumerate(run_each(work, distinct, engine=engine, jobs=jobs, folder=cache), 1):
        records[distinct[index]] = ScanRecord(reason=record.reason) if isinstance(record, Lost) else record
        if progress:
            progress(count, len(distinct))
    return [records[scan] for scan in asked]


def _record(asked: tuple[Path, Path | str], reading: Reading, cache: Path) -> ScanRecord:
    scan, lesion = asked
    try:
        settings = ["scan record", FORMAT, reading.on_gap, dataclasses.asdict(reading.lesion)]
        place = cache / f"{content_key(scan, lesion, settings)}.json"
        held = _held(place)
        if held is None:
            held = _read(scan, lesion, reading)
            if not held.reason:
                _keep(held, place)
        return held
    except Exception as problem:  # a scan that cannot be compared stops nobody; it is counted and said
        return ScanRecord(reason=f"{type(problem).__name__}: {' '.join(str(problem).split())}")


def _read(scan: Path, lesion: Path | str, reading: Reading) -> ScanRecord:
    """Open a scan as preparing does; an archive is unpacked once for both its headers and its slices."""
    if is_image(scan):
        record = _printed((), lambda: open_scan(scan))
        return dataclasses.replace(record, reason=record.reason.removeprefix(f"{scan}: "))
    unpacked = unpack(scan) if scan.is_file() and is_archive(scan) else None
    place = unpacked.folder if unpacked else scan
    record = _printed(hashed_studies(place), lambda: open_scan_of(lesion, place, reading.lesion, reading.on_gap))
    return dataclasses.replace(record, reason=record.reason.removeprefix(f"{place}: ").replace(str(place), str(scan)))


def hashed_studies(place: Path) -> tuple[str, ...]:
    """Hashes of the StudyInstanceUIDs of every DICOM series in a folder or file."""
    uids = sorted({series.first.study_uid for series in find_series(place)} - {""})
    return tuple(hashlib.blake2b(uid.encode(), digest_size=16).hexdigest() for uid in uids)


def _printed(studies: tuple[str, ...], opened: Callable[[], Scan]) -> ScanRecord:
    try:
        return ScanRecord(studies, fingerprint(opened()))
    except UserError as problem:
        return ScanRecord(studies, None, " ".join(str(problem).split()))


def _keep(record: ScanRecord, place: Path) -> None:
    prints = record.prints
    told = {
        "studies": record.studies,
        "exact": prints.exact,
        "shape": prints.thumbnail.shape,
        "thumbnail": base64.b64encode(prints.thumbnail.astype("<f4").tobytes()).decode(),
        "size_mm": prints.size_mm.tolist(),
    }
    part = place.with_name(f".{place.stem}.{uuid4().hex}.part.npy")  # named as what `open_cache` sweeps
    try:
        part.write_text(json.dumps(told), encoding="utf-8")
        os.replace(part, place)
    except OSError:
        part.unlink(missing_ok=True)  # it is only read again next time


def _held(place: Path) -> ScanRecord | None:
    """A record of the cache; None where it is missing or damaged."""
    try:
        told = json.loads(place.read_text(encoding="utf-8"))
        thumbnail = np.frombuffer(base64.b64decode(told["thumbnail"]), "<f4").reshape(told["shape"])
        return ScanRecord(tuple(told["studies"]), Fingerprint(told["exact"], thumbnail, np.array(told["size_mm"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None
