"""What every run begins with: the config's cohort, prepared."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from genomic_vit.cohort.labelled import read_cohort
from genomic_vit.cohort.manifest import check_classes
from genomic_vit.cohort.phantom import MANIFEST, make_phantom
from genomic_vit.config import PhantomConfig, RunConfig, UserError
from genomic_vit.data.cache import open_cache
from genomic_vit.data.case import Reading
from genomic_vit.data.entry import CacheError
from genomic_vit.data.prepare import Prepared, prepare
from genomic_vit.data.scan_record import ScanRecord, scan_records
from genomic_vit.data.workers import Engine

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
log = logging.getLogger(__name__)


def prepare_cohort(
    config: RunConfig,
    cache: Path,
    *,
    skip_bad: bool = False,
    jobs: int = -1,
    engine: Engine = "loky",
    bar: Bar | None = None,
) -> Prepared:
    """The labelled cases of the config's manifest with their slabs; the phantom cohort is made where none is given.

    Raises:
        UserError: the manifest or its cases cannot be used; of it CacheError: the cache folder cannot be written.
    """
    open_cache(cache)
    data = Path(config.data) if config.data else phantom_manifest(config.phantom, cache, jobs, bar)
    needs_lesion = config.lesion.field == "lesion"
    cohort = read_cohort(
        data, config.targets, config.labels, config.positive, config.negative, needs_lesion=needs_lesion
    )
    labelled = ~np.isnan(cohort.labels).all(axis=1)
    if not labelled.all():
        log.warning("%s: %d of %d cases have no label and are left out", data, (~labelled).sum(), len(labelled))
    check_classes(cohort, str(data), minimum=2)
    with _bar(bar, "preparing slabs") as progress:
        return prepare(
            cohort.take(labelled),
            Reading.of(config),
            cache=cache / "slabs",
            skip_bad=skip_bad,
            jobs=jobs,
            engine=engine,
            progress=progress,
        )


def record_scans(
    config: RunConfig,
    prepared: Prepared,
    cache: Path,
    *,
    jobs: int = -1,
    engine: Engine = "loky",
    bar: Bar | None = None,
) -> list[ScanRecord]:
    """What tells the scans of a prepared cohort apart, one a case, for the leakage guard."""
    with _bar(bar, "comparing scans") as progress:
        return scan_records(
            prepared.cohort.cases, Reading.of(config), cache / "slabs", jobs=jobs, engine=engine, progress=progress
        )


def phantom_manifest(phantom: PhantomConfig, cache: Path, jobs: int = -1, bar: Bar | None = None) -> Path:
    """Manifest of the embedded phantom cohort, made in the cache folder the first time.

    Raises:
        CacheError: it cannot be written there.
    """
    folder = cache / f"phantom-{phantom.patients}-{phantom.seed}-{phantom.signal:g}"
    manifest = folder / MANIFEST
    if manifest.is_file():
        return manifest
    try:
        with _bar(bar, "making the phantom cohort") as progress:
            return make_phantom(folder, phantom.patients, phantom.seed, phantom.signal, progress=progress, jobs=jobs)
    except (OSError, UserError) as problem:
        if manifest.is_file():
            return manifest  # another command made the same cohort, and was quicker
        if isinstance(problem, UserError):
            raise
        raise CacheError(
            f"{cache}: the phantom cohort cannot be written here ({problem.strerror or problem}); make room, or name "
            "a folder that can be written with --cache or GENOMIC_VIT_CACHE."
        ) from problem


def read_as(config: RunConfig, reading: Mapping[str, object]) -> RunConfig:
    """A run's config with other settings of reading: on_gap, and fields of LesionConfig."""
    lesion = {name: value for name, value in reading.items() if name != "on_gap"}
    scan = {name: value for name, value in reading.items() if name == "on_gap"}
    return replace(config, lesion=replace(config.lesion, **lesion), scan=replace(config.scan, **scan))


def _bar(bar: Bar | None, label: str) -> AbstractContextManager:
    return bar(label) if bar else nullcontext()
