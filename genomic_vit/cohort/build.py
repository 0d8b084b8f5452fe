"""A manifest out of gathered cases and a clinical table."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genomic_vit.cohort.gather import Found, Gathered
from genomic_vit.cohort.labelled import check_table, find_key, rows_by_patient, rules_of
from genomic_vit.cohort.labels import Covariate, Target, TooFewError, check_learnable, pick, read_covariate, read_target
from genomic_vit.cohort.manifest import COLUMNS, ManifestError
from genomic_vit.cohort.table import LabelError, Table, read_table, write_rows
from genomic_vit.config import LabelsConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Targets and covariates, one row a row of the table or a case, and (target, reason) of the targets refused."""

    targets: tuple[Target, ...] = ()
    covariates: tuple[Covariate, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()


def read_labels(labels: LabelsConfig, asked: tuple[str, ...] = ()) -> tuple[Table, Labelled] | None:
    """Read a clinical table by its rules; None where there is none.

    A preset's target or covariate that the table lacks, and a target with too few cases, is left out and named; what
    was asked for by name, or ruled by the user, raises.

    Args:
        labels: the table, its rules.
        asked: targets asked for by name; empty takes all that have a rule.

    Raises:
        LabelError: the table or a rule cannot be used.
    """
    if labels.table is None:
        return None
    table = read_table(labels.table, labels.sheet)
    find_key(table, labels.key)
    target_rules, covariate_rules = rules_of(labels)
    check_table(labels, has_rules=bool(target_rules or covariate_rules))
    rules = pick(asked, target_rules, table.where) if asked else target_rules
    read, covariates, refused, lacking = [], [], [], []
    for name, rule in rules.items():
        try:
            target = read_target(table, name, rule)
            check_learnable(target, table.where, labels.min_cases)
            read.append(target)
        except LabelError as problem:
            if asked or (name in labels.targets and not isinstance(problem, TooFewError)):
                raise
            refused.append((name, str(problem)))
    for name, rule in covariate_rules.items():
        try:
            covariates.append(read_covariate(table, name, rule, allow_outcome_columns=labels.allow_outcome_columns))
        except LabelError:
            if name in labels.covariates:
                raise
            lacking.append(f"{name} ({rule.column})")
    if lacking:
        log.warning("%s: lacks these covariates of the preset: %s", table.where, ", ".join(lacking))
    return table, Labelled(tuple(read), tuple(covariates), tuple(refused))


def put_to_cases(table: Table, read: Labelled, cases: Sequence[Found], labels: LabelsConfig) -> Labelled:
    """What was read from a table, one row a case.

    Raises:
        LabelError: no patient is in the table, or one stands in rows that disagree.
    """
    targets, covariates = rules_of(labels)
    rules = targets | covariates
    used = [table.find(rules[one.name].column) for one in (*read.targets, *read.covariates)]
    rows = rows_by_patient(table, labels.key, [found.patient for found in cases], used)
    here = tuple(target.take(rows) for target in read.targets)
    for target in here:
        if min(target.counts()[:2]) < labels.min_cases:
            log.warning("of these cases few have a label to learn from: %s", target)
    return Labelled(here, tuple(covariate.take(rows) for covariate in read.covariates), read.refused)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise ManifestError where a file exists and is not to be replaced."""
    if path.exists() and not overwrite:
        raise ManifestError(f"{path}: exists; pass --overwrite, or another --out.")


def write_manifest(path: Path, gathered: Gathered, labelled: Labelled) -> Path | None:
    """Write the manifest whole, and beside it a CSV of what was left out, whose path is returned.

    Raises:
        ManifestError: there is no case to write.
    """
    if not gathered.cases:
        listed = "".join(f"\n  {patient}: {reason}" for patient, reason in (*gathered.excluded, *gathered.damaged)[:20])
        raise ManifestError(f"no case can be used, nothing is written:{listed}")
    folder = path.parent.resolve()
    header = [*COLUMNS, *(target.name for target in labelled.targets), *(c.name for c in labelled.covariates)]
    facts = [name for name in gathered.cases[0].facts if name not in header]
    columns = [
        *(["" if value != value else str(int(value)) for value in target.values] for target in labelled.targets),
        *(covariate.written() for covariate in labelled.covariates),
        *([found.facts[name] for found in gathered.cases] for name in facts),
    ]
    rows = []
    for place, found in enumerate(gathered.cases):
        lesion = _relative(found.lesion, folder) if isinstance(found.lesion, Path) else found.lesion or ""
        cells = [column[place] for column in columns]
        rows.append([found.case, found.patient, _relative(found.scan, folder), lesion, *cells])
    write_rows(path, [[*header, *facts], *rows])
    left_out = path.with_name(f"{path.stem}.excluded.csv")
    if gathered.excluded or gathered.damaged:
        damaged = [("", f"{file}: {reason}") for file, reason in gathered.damaged]
        write_rows(left_out, [["patient", "reason"], *gathered.excluded, *damaged])
        return left_out
    left_out.unlink(missing_ok=True)
    return None


def read_points(path: Path) -> dict[str, str]:
    """Points by patient, as "x,y,z": a CSV of a patient column and three coordinates.

    Raises:
        LabelError: a column is missing, or a cell is no number.
    """
    table = read_table(path)
    key = find_key(table, None)
    axes = [
        next((name for name in table.header if name.lower() in (f"coord{axis}", axis, f"{axis}_mm")), None)
        for axis in "xyz"
    ]
    if None in axes:
        raise LabelError(
            f"{path}: needs columns coordX, coordY, coordZ (or x, y, z); it has: {', '.join(table.header)}"
        )
    points = {}
    for row in table.rows:
        try:
            points[row[key]] = ",".join(f"{float(row[axis]):g}" for axis in axes)
        except ValueError as cause:
            raise LabelError(f"{path}: {row[key]}: {cause}; three numbers in mm are needed.") from cause
    return points


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder)).as_posix()
