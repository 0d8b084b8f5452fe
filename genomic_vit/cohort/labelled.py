"""A clinical table put to the patients of a cohort."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from genomic_vit.cohort.labels import Covariate, Target, pick, read_covariate, read_target
from genomic_vit.cohort.manifest import Cohort, ManifestError, check_classes, read_manifest
from genomic_vit.cohort.presets import PRESETS, Preset
from genomic_vit.cohort.table import LabelError, Table, read_table
from genomic_vit.config import CovariateRule, LabelsConfig, TargetRule, plain_text

KEYS = (
    "Case ID",
    "Patient ID",
    "PatientID",
    "TCIA Patient ID",
    "Patient",
    "Case",
    "Subject ID",
    "Subject",
)  # tried in this order
log = logging.getLogger(__name__)


def read_cohort(
    path: str | Path,
    targets: tuple[str, ...],
    labels: LabelsConfig,
    positive: str | None = None,
    negative: str | None = None,
    *,
    needs_lesion: bool = True,
    to_learn: bool = True,
) -> Cohort:
    """Read a manifest, with targets and covariates by the rules of `labels` where it has some.

    Args:
        path: the manifest.
        targets: names; those without a rule are columns of the manifest, as `read_manifest` takes them.
        labels: the rules, and the table they are for.
        positive, negative, needs_lesion: as `read_manifest` takes them.
        to_learn: whether targets by rule need `labels.min_cases` patients of each kind.

    Raises:
        ManifestError, LabelError: manifest or table cannot be used as asked, or a target has too few cases.
    """
    target_rules, covariate_rules = rules_of(labels)
    check_table(labels, has_rules=bool(target_rules or covariate_rules))
    ruled = {plain_text(name) for name in target_rules}
    plain = tuple(name for name in targets if plain_text(name) not in ruled)
    try:
        cohort = read_manifest(path, plain, positive, negative, needs_lesion=needs_lesion)
    except ManifestError as problem:
        if "no target column" not in str(problem) or not target_rules:
            raise
        raise ManifestError(f"{problem} The labels section has: {', '.join(target_rules)}.") from None
    if len(plain) == len(targets) and not covariate_rules:
        return cohort
    table = read_table(labels.table or path, labels.sheet)
    picked = pick(tuple(name for name in targets if name not in plain), target_rules, table.where)
    read, covariates = read_rules(table, picked, covariate_rules, allow_outcome_columns=labels.allow_outcome_columns)
    rows: list[int | None] = list(range(len(cohort.cases)))
    if labels.table:
        used = [table.find(rule.column) for rule in (*picked.values(), *covariate_rules.values())]
        rows = rows_by_patient(table, labels.key, cohort.patients.tolist(), used)
    here = {target.name: target.take(rows) for target in read}
    columns = [here[name].values if name in here else cohort.labels[:, plain.index(name)] for name in targets]
    whole = Cohort(cohort.cases, targets, np.stack(columns, axis=1) if columns else cohort.labels,
                   tuple(covariate.take(rows) for covariate in covariates))  # fmt: skip
    for line in (*here.values(), *whole.covariates):
        log.info("%s: %s", table.where, line)
    ruled_columns = [column for column, name in enumerate(targets) if name in here]
    by_rule = Cohort(cohort.cases, tuple(here), whole.labels[:, ruled_columns])
    if to_learn:
        check_classes(by_rule, table.where, minimum=labels.min_cases)
    return whole


def check_table(labels: LabelsConfig, *, has_rules: bool) -> None:
    """Raise LabelError where settings of a table are given without it, or a table without rules."""
    of_table = [name for name in ("sheet", "key", "preset") if getattr(labels, name) is not None]
    if labels.table is None and of_table:
        raise LabelError(f"labels.{of_table[0]} belongs to a clinical table; name it as labels.table")
    if labels.table is not None and not has_rules:
        raise LabelError(
            f"labels.table is {labels.table!r} but nothing is read from it; give labels.targets, labels.covariates or "
            "labels.preset"
        )


def rules_of(labels: LabelsConfig) -> tuple[dict[str, TargetRule], dict[str, CovariateRule]]:
    """Rules of targets and of covariates: the preset's, and over them those given."""
    known = PRESETS[labels.preset] if labels.preset else Preset("")
    return known.targets | labels.targets, known.covariates | labels.covariates


def read_rules(
    table: Table, targets: dict[str, TargetRule], covariates: dict[str, CovariateRule], *, allow_outcome_columns: bool
) -> tuple[list[Target], list[Covariate]]:
    """All targets and covariates of a table, by its rows.

    Raises:
        LabelError: as `read_target` and `read_covariate`.
    """
    return (
        [read_target(table, name, rule) for name, rule in targets.items()],
        [
            read_covariate(table, name, rule, allow_outcome_columns=allow_outcome_columns)
            for name, rule in covariates.items()
        ],
    )


def find_key(table: Table, key: str | None) -> str:
    """The column that names the patient: `key`, or the first of KEYS that the table has.

    Raises:
        LabelError: there is none.
    """
    if key is not None:
        return table.find(key)
    plain = {plain_text(name): name for name in reversed(table.header)}
    found = [plain[plain_text(name)] for name in KEYS if plain_text(name) in plain]
    if not found:
        raise LabelError(
            f"{table.where}: no column named {', '.join(KEYS)}; name the one that holds the patient with --key "
            f"(labels.key). It has: {', '.join(table.header)}"
        )
    return found[0]


def rows_by_patient(table: Table, key: str | None, patients: list[str], used: list[str]) -> list[int | None]:
    """Row of the table for each patient, None where it has none, which is counted aloud.

    Args:
        table: with one row a patient.
        key: as `find_key` takes it.
        patients: as the manifest or the scans name them.
        used: columns that are read; a patient may stand in several rows as long as these agree.

    Raises:
        LabelError: no patient is in the table, or one stands in rows that disagree.
    """
    column = find_key(table, key)
    place: dict[str, int] = {}
    for number, row in enumerate(table.rows):
        first = place.setdefault(plain_text(row[column]), number)
        odd = next((name for name in used if row[name] != table.rows[first][name]), None)
        if odd is not None and row[column]:
            raise LabelError(
                f"{table.where}: {row[column]} stands in several rows of column {column!r}, which disagree on {odd!r} "
                f"({table.rows[first][odd]!r} and {row[odd]!r}); one row a patient is needed."
            )
    found = [place.get(plain_text(patient)) for patient in patients]
    absent = sorted({patient for patient, row in zip(patients, found, strict=True) if row is None})
    if patients and len(absent) == len(set(patients)):
        ours, theirs = ", ".join(absent[:3]), ", ".join(row[column] for row in table.rows[:3])
        raise LabelError(
            f"{table.where}: none of {len(absent)} patients stands in column {column!r}: they are named {ours}; "
            f"the table has {theirs}. Name the right column with --key (labels.key), or make the names agree."
        )
    if absent:
        log.warning(
            "%s: %d of %d patients are not in column %r: %s%s", table.where, len(absent), len(set(patients)), column,
            ", ".join(absent[:5]), ", …" if len(absent) > 5 else "",
        )  # fmt: skip
    return found
