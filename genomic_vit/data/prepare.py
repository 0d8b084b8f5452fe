"""A cohort's slabs, prepared in parallel, with every bad case named at once."""

from __future__ import annotations

import csv
import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genomic_vit.cohort.manifest import Case, Cohort
from genomic_vit.config import UserError
from genomic_vit.data.cache import load_slabs, open_cache
from genomic_vit.data.case import Reading
from genomic_vit.data.entry import CacheError, PreparedSlab, forget_maps
from genomic_vit.data.slab import Slab
from genomic_vit.data.workers import Engine, Lost, run_each

NUMBER = re.compile(r"\d+(\.\d+)?")
log = logging.getLogger(__name__)


class PrepareError(UserError):
    """Some cases cannot be used; the message lists them all."""


class Cases(NamedTuple):
    """Some cases of a cohort, as training takes them.

    Args:
        slabs: one a case.
        labels: (case t), NaN where missing.
        names: one a case, for messages.
    """

    slabs: Sequence[Slab | PreparedSlab]
    labels: np.ndarray
    names: Sequence[str]


@dataclass(frozen=True, eq=False)
class Prepared:
    """What preparing a cohort gave.

    Args:
        cohort: the usable cases; one manifest row may have become several (CASE#1 …), all of its patient.
        slabs: one for each of them, on disk.
        excluded: (case, reason) of the others.
    """

    cohort: Cohort
    slabs: list[PreparedSlab]
    excluded: tuple[tuple[str, str], ...]

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(case, note) on how scans and lesions were read."""
        return [
            (case.case, note) for case, slab in zip(self.cohort.cases, self.slabs, strict=True) for note in slab.notes
        ]

    def some(self, index: np.ndarray) -> Cases:
        """The cases at `index`, to learn from or to be judged by."""
        cohort = self.cohort
        return Cases([self.slabs[i] for i in index], cohort.labels[index], [cohort.cases[i].case for i in index])

    def write_excluded(self, folder: Path) -> None:
        """excluded.csv of case and reason and notes.csv of case and note, each only where there is one."""
        for name, kind, rows in (("excluded.csv", "reason", self.excluded), ("notes.csv", "note", self.notes)):
            if rows:
                with (folder / name).open("w", newline="", encoding="utf-8") as file:
                    csv.writer(file).writerows([("case", kind), *rows])

    def notes_alike(self) -> list[tuple[int, str, str]]:
        """(cases, the first of them, its note) of notes alike but for their numbers, the most frequent first."""
        alike: dict[str, list[tuple[str, str]]] = {}
        for case, note in self.notes:
            alike.setdefault(NUMBER.sub("0", note), []).append((case, note))
        told = [(len({case for case, _ in group}), *group[0]) for group in alike.values()]
        return sorted(told, key=lambda group: -group[0])

    def say_notes(self) -> None:
        """Log the notes, those alike but for their numbers as one."""
        for cases, first, note in self.notes_alike():
            log.warning("%d of %d cases, such as %s: %s", cases, len(self.slabs), first, note)


def prepare(
    cohort: Cohort,
    reading: Reading,
    *,
    cache: Path,
    skip_bad: bool = False,
    jobs: int = -1,
    engine: Engine = "loky",
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Cut every case's slab; what the cache holds is not cut again, so a stopped preparation goes on where it was.

    Args:
        cohort: who.
        reading: how to read and cut.
        cache: folder of prepared slabs.
        skip_bad: leave bad cases out instead of stopping.
        jobs: processes, -1 for all cores.
        engine: what runs them, as `run_each` takes it.
        progress: called with (done, total).

    Raises:
        PrepareError: cases are bad and skip_bad is off, or none is left.
        CacheError: the cache cannot be written.
        EngineError: the engine cannot be had.
    """
    work = partial(_prepare_case, reading=reading, cache=open_cache(cache))
    results: list[tuple[PreparedSlab, ...] | str] = [""] * len(cohort.cases)
    done = run_each(work, cohort.cases, engine=engine, jobs=jobs, folder=cache)
    for count, (index, result) in enumerate(done, start=1):
        if isinstance(result, CacheError):
            raise result
        results[index] = result.reason if isinstance(result, Lost) else result
        if progress:
            progress(count, len(cohort.cases))
    forget_maps()
    reasons = [
        (case.case, result) for case, result in zip(cohort.cases, results, strict=True) if isinstance(result, str)
    ]
    if reasons and (not skip_bad or len(reasons) == len(results)):
        listed = "\n".join(f"  {case}: {reason}" for case, reason in reasons)
        raise PrepareError(
            f"{len(reasons)} of {len(results)} cases cannot be used; mend them, "
            f"or leave them out with --skip-bad:\n{listed}"
        )
    for case, reason in reasons:
        log.warning("left out: case %s: %s", case, reason)
    good = [index for index, result in enumerate(results) if not isinstance(result, str)]
    prepared = _one_case_a_lesion(cohort.take(good), [results[index] for index in good], tuple(reasons))
    prepared.say_notes()
    return prepared


def _one_case_a_lesion(
    cohort: Cohort, slabs: list[tuple[PreparedSlab, ...]], excluded: tuple[tuple[str, str], ...]
) -> Prepared:
    rows = np.repeat(np.arange(len(slabs)), [len(group) for group in slabs])
    flat = [slab for group in slabs for slab in group]
    cases = tuple(
        replace(cohort.cases[row], case=f"{cohort.cases[row].case}#{slab.name}") if slab.name else cohort.cases[row]
        for row, slab in zip(rows, flat, strict=True)
    )
    doubled = [name for name, count in Counter(case.case for case in cases).items() if count > 1]
    if doubled:
        raise PrepareError(
            f"case {doubled[0]!r} stands in the manifest and is also the name of one lesion of a case with several; "
            "give that row another case name."
        )
    return Prepared(replace(cohort.take(rows), cases=cases), flat, excluded)


def _prepare_case(case: Case, reading: Reading, cache: Path) -> tuple[PreparedSlab, ...] | str | CacheError:
    try:
        return load_slabs(case.scan, case.lesion, reading, cache)
    except CacheError as problem:
        return problem  # nobody's case is at fault: the whole preparation stops
    except UserError as problem:
        return str(problem)
    except MemoryError:
        return f"{case.scan}: memory did not suffice to read it; prepare with fewer --jobs, or on a larger machine"
    except Exception as problem:  # one odd file never takes the cohort down
        return f"{case.scan}: {type(problem).__name__}: {' '.join(str(problem).split())}"
