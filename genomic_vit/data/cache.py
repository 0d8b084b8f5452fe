"""Prepared slabs on disk, under a key of content and settings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from pathlib import Path

import numpy as np

from genomic_vit.config import SlabConfig
from genomic_vit.data.slab import Slab, cut_slab
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.read import read_lesion, read_scan

FORMAT = 2  # raise it when cut_slab or the readers give other numbers than before
log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where prepared slabs and the phantom are kept: $GENOMIC_VIT_CACHE, or genomic_vit in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("GENOMIC_VIT_CACHE") or Path(base) / "genomic_vit")


def load_slab(scan: Path, lesion: Path, config: SlabConfig, cache: Path | None) -> Slab:
    """The slab of a lesion, from the cache where it holds a sound one made of the same content and settings.

    Args:
        scan: file or DICOM folder.
        lesion: mask file.
        config: how to cut.
        cache: folder of prepared slabs; None neither reads nor writes one.

    Raises:
        ScanError, LesionError: as `read_scan`, `read_lesion` and `cut_slab`.
    """
    entry = None
    if cache is not None and scan.exists() and lesion.exists():
        entry = cache / f"{slab_key(scan, lesion, config)}.npz"
        if entry.exists():
            try:
                return _read_entry(entry)
            except Exception as cause:  # whatever is wrong with it, it is made again
                log.warning("%s: damaged cache entry (%s), made again", entry, type(cause).__name__)
    volume = read_scan(scan)
    slab = cut_slab(volume, read_lesion(lesion, like=volume), config)
    if entry is not None:
        _write_entry(slab, entry)
    return slab


def slab_key(scan: Path, lesion: Path, config: SlabConfig) -> str:
    """Hash of every byte of both inputs and of the settings."""
    digest = hashlib.blake2b(digest_size=20)
    digest.update(json.dumps([FORMAT, dataclasses.asdict(config)], sort_keys=True).encode())
    for source in (scan, lesion):
        files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        for path in files:
            digest.update(f"|{path.name}|{path.stat().st_size}|".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _read_entry(entry: Path) -> Slab:
    with np.load(entry, allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}  # zip's checksums are verified as each is read
    geometry = Geometry(arrays["hu"].shape, arrays["spacing_mm"], arrays["origin_mm"], arrays["direction"])
    return Slab(arrays["hu"], arrays["lesion"], geometry, float(arrays["diameter_mm"]))


def _write_entry(slab: Slab, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    part = entry.with_name(f".{entry.stem}.{os.getpid()}.part.npz")
    geometry = slab.geometry
    try:
        np.savez(
            part,
            hu=slab.hu,
            lesion=slab.lesion,
            spacing_mm=geometry.spacing_mm,
            origin_mm=geometry.origin_mm,
            direction=geometry.direction,
            diameter_mm=slab.diameter_mm,
        )
        os.replace(part, entry)
    finally:
        part.unlink(missing_ok=True)
