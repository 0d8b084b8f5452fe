"""What a benchmark holds out, fold by fold, and whether every part of every fold can be learnt from and judged."""

from __future__ import annotations

import numpy as np

from genomic_vit.cohort.folds import SplitError, assign_folds, hold_out
from genomic_vit.cohort.manifest import Cohort
from genomic_vit.cohort.sites import assign_sites
from genomic_vit.config import UserError
from genomic_vit.evaluation.metrics import by_patient
from genomic_vit.evaluation.plan import BenchmarkConfig


class FoldError(UserError):
    """The cohort cannot be held out as asked; the message says which part lacks what, and what to change."""


def plan_folds(config: BenchmarkConfig, cohort: Cohort) -> tuple[np.ndarray, tuple[str, ...]]:
    """Fold of each case, (case), and what each fold holds out, in words.

    Raises:
        FoldError: fewer patients than folds.
        ManifestError: sites that cannot be held out.
    """
    if config.site:
        folds, sites = assign_sites(cohort, config.site)
        return folds, tuple(f"{config.site} {site}" for site in sites)
    try:
        folds = assign_folds(cohort, config.folds, config.run.seed)
    except SplitError as problem:
        most = max(2, len(set(cohort.patients)))
        raise FoldError(f"{problem.found}; use --folds {most} or fewer, or add patients.") from problem
    return folds, tuple(f"fold {fold}" for fold in range(config.folds))


def check_parts(config: BenchmarkConfig, cohort: Cohort, folds: np.ndarray, names: tuple[str, ...]) -> None:
    """See that both classes are in each part of each fold and seed, as arms are compared: by patient or by case.

    Raises:
        FoldError: a part has one class only for a target.
    """
    _check_counted(config, cohort, "in all")
    for seed in config.seeds:
        for fold, name in enumerate(names):
            where = f"{name} held out, seed {seed}"
            try:
                split = hold_out(cohort, folds, fold, config.run.split.validation, seed)
            except SplitError as problem:
                raise FoldError(f"{where}: {problem.found}. {_repair(config, problem.part)}.") from problem
            for part in ("test", "validation"):
                _check_counted(config, cohort.take(getattr(split, part)), where, part)


def _check_counted(config: BenchmarkConfig, cohort: Cohort, where: str, part: str = "") -> None:
    """Raise FoldError unless each target has both classes in a cohort: one row of each in a part, two in all.

    A patient is positive where any case is, so that cases of both classes may be of positive patients alone.
    """
    least = 1 if part else 2
    counted, by_case = ", positive where any of their cases is", "; or compare by case (--unit case)"
    if config.unit == "case":
        counted = by_case = ""
    for column, target in enumerate(cohort.targets):
        known = ~np.isnan(cohort.labels[:, column])
        label, patients = cohort.labels[known, column], cohort.patients[known]
        if config.unit == "patient":
            _, label, patients = by_patient(label, label, patients)
        positive, negative = (len(set(patients[label == kind].tolist())) for kind in (1, 0))
        if min(positive, negative) < least:
            raise FoldError(
                f"target {target!r}, {where}: {f'the {part} part has ' if part else ''}{positive} positive and "
                f"{negative} negative patients{counted}; at least {least} of each are needed. "
                f"{_repair(config, part)}{by_case}."
            )


def _repair(config: BenchmarkConfig, part: str) -> str:
    """What helps where a part of a split lacks a class."""
    if part == "validation":
        return (
            "Take other seeds of the inner split (--seeds), a larger share for it (--run.split.validation, now "
            f"{config.run.split.validation:g}), or add patients"
        )
    if part and config.site:
        return f"Merge sites in the column of {config.site!r}, or leave site out to compare by folds"
    if part:
        return "Take fewer folds (--folds), another seed of the folds (--run.seed), or add patients"
    return "Choose another target, or add patients"
