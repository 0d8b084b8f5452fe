"""A cohort's slabs, in parallel, with every bad case named at once."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from joblib import Parallel, delayed

from genomic_vit.cohort.manifest import Case, Cohort
from genomic_vit.config import SlabConfig, UserError
from genomic_vit.data.cache import load_slab
from genomic_vit.data.slab import Slab

log = logging.getLogger(__name__)


class PrepareError(UserError):
    """Some cases cannot be used; the message lists them all."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """What preparing a cohort gave.

    Args:
        cohort: the usable cases.
        slabs: one for each of them.
        excluded: (case, reason) of the others.
    """

    cohort: Cohort
    slabs: list[Slab]
    excluded: tuple[tuple[str, str], ...]

    def write_excluded(self, path: Path) -> None:
        """A CSV of case and reason, written only where a case was left out."""
        if self.excluded:
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("case", "reason"), *self.excluded])


def prepare(
    cohort: Cohort,
    config: SlabConfig,
    *,
    cache: Path | None,
    skip_bad: bool = False,
    jobs: int = -1,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Cut every case's slab.

    Args:
        cohort: who.
        config: how to cut.
        cache: folder of prepared slabs, or None.
        skip_bad: leave bad cases out instead of stopping.
        jobs: processes, -1 for all cores.
        progress: called with (done, total).

    Raises:
        PrepareError: cases are bad and skip_bad is off, or none is left.
    """
    work = (delayed(_prepare_case)(case, config, cache) for case in cohort.cases)
    results: list[Slab | str] = []
    for result in Parallel(n_jobs=jobs, return_as="generator")(work):
        results.append(result)
        if progress:
            progress(len(results), len(cohort.cases))
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
    good = [index for index, result in enumerate(results) if isinstance(result, Slab)]
    return Prepared(cohort.take(good), [results[index] for index in good], tuple(reasons))


def _prepare_case(case: Case, config: SlabConfig, cache: Path | None) -> Slab | str:
    try:
        return load_slab(case.scan, case.lesion, config, cache)
    except UserError as problem:
        return str(problem)
