"""The manifest: a CSV with one row a case."""

from __future__ import annotations

import csv
import difflib
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genomic_vit.cohort.labels import Covariate
from genomic_vit.config import UserError, plain_text
from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.points import parse_place

COLUMNS = ("case", "patient", "scan", "lesion")
MISSING = ("", "na", "n/a", "nan", "none", "null")
log = logging.getLogger(__name__)


class ManifestError(UserError):
    """The manifest cannot be used; the message says what, where, and what to do."""


@dataclass(frozen=True)
class Case:
    """One lesion of one patient; `scan` is a path, `lesion` a path or the text of a point or box, "" for none."""

    case: str
    patient: str
    scan: Path
    lesion: Path | str


@dataclass(frozen=True, eq=False)
class Cohort:
    """Cases with their labels.

    Args:
        cases: one a row.
        targets: names of the label columns.
        labels: (case t) of 0, 1, or NaN where missing.
        covariates: what else is known of each case, if the config asks for any.
    """

    cases: tuple[Case, ...]
    targets: tuple[str, ...]
    labels: np.ndarray
    covariates: tuple[Covariate, ...] = ()

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.cases), len(self.targets)):
            raise ValueError(
                f"Cohort: labels {self.labels.shape}, {len(self.cases)} cases, {len(self.targets)} targets"
            )

    @property
    def patients(self) -> np.ndarray:
        """Patient of each case, (case)."""
        return np.array([case.patient for case in self.cases])

    def take(self, index: np.ndarray) -> Cohort:
        """The cohort of some cases, by index or bool mask."""
        index = np.arange(len(self.cases))[index]
        covariates = tuple(covariate.take(index) for covariate in self.covariates)
        return Cohort(tuple(self.cases[i] for i in index), self.targets, self.labels[index], covariates)


def read_manifest(
    path: str | Path,
    targets: tuple[str, ...],
    positive: str | None = None,
    negative: str | None = None,
    *,
    needs_lesion: bool = True,
) -> Cohort:
    """Read a manifest CSV.

    Args:
        path: the file; columns case, patient, scan, lesion, targets, and any others. Paths in it are relative to it.
        targets: label columns to read; may be empty.
        positive, negative: text that means so in the target columns; anything else is missing, and counted aloud.
            None reads 1 and 0, empty cells as missing, and refuses anything else.
        needs_lesion: whether the lesion column must be filled.

    Raises:
        ManifestError: the file or a column is missing, a case is doubled or lacks a patient, a label cannot be read.
    """
    path = Path(path)
    header, rows = _read_rows(path)
    if not header:
        raise ManifestError(f"{path}: is empty; give a CSV with the columns {', '.join(COLUMNS)} and targets.")
    for name in (*COLUMNS, *targets):
        if name not in header:
            near = difflib.get_close_matches(name, header, n=1)
            kind = "target column" if name in targets else "column"
            hint = f"did you mean {near[0]!r}?" if near else "add the column, or name another."
            raise ManifestError(f"{path}: no {kind} {name!r}; found: {', '.join(header)}; {hint}")
        if header.count(name) > 1:
            raise ManifestError(
                f"{path}: {header.count(name)} columns are called {name!r}; rename or remove all but one."
            )
    if not rows:
        raise ManifestError(f"{path}: holds a header but no cases; add one row a lesion.")
    _check_identities(path, rows, COLUMNS if needs_lesion else COLUMNS[:3])
    labels = np.array([_read_labels(path, name, rows, positive, negative) for name in targets]).reshape(-1, len(rows)).T
    cases = tuple(
        Case(row["case"], row["patient"], path.parent / row["scan"], _lesion(path, row["lesion"])) for row in rows
    )
    return Cohort(cases, tuple(targets), labels)


def check_classes(cohort: Cohort, where: str, minimum: int = 1) -> None:
    """Raise ManifestError unless each target has `minimum` positive and negative patients."""
    for column, target in enumerate(cohort.targets):
        labels = cohort.labels[:, column]
        patients = {value: len(set(cohort.patients[labels == value])) for value in (0, 1)}
        if min(patients.values()) < minimum:
            raise ManifestError(
                f"{where}: target {target!r} has {patients[1]} positive and {patients[0]} negative patients "
                f"({int(np.isnan(labels).sum())} cases without a label); at least {minimum} of each are needed. "
                "Choose another target, check which texts mean positive and negative, or add cases."
            )


def _read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest; give a CSV with the columns {', '.join(COLUMNS)} and targets.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            lines = list(reader)
    except (UnicodeDecodeError, csv.Error) as cause:
        raise ManifestError(f"{path}: is not a CSV in UTF-8 ({cause}); save it as 'CSV UTF-8'.") from cause
    separator = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
    if separator:
        raise ManifestError(f"{path}: its columns are separated by {separator!r}; save it with commas.")
    long = [number for number, line in enumerate(lines, start=2) if any(map(str.strip, line.get(None, ())))]
    if long:
        raise ManifestError(
            f"{path}: {len(long)} rows have more cells than the header's {len(header)} (the first is row {long[0]}); "
            'put cells that hold a comma in quotes ("12,5").'
        )
    return header, [{name: (line[name] or "").strip() for name in header} for line in lines]


def _lesion(path: Path, cell: str) -> Path | str:
    """A lesion cell: the text of a point or box, or a path relative to the manifest."""
    try:
        return cell if not cell or parse_place(cell, "lps") is not None else path.parent / cell
    except LesionError:
        return cell  # refused with its case's name when the case is read, beside all others


def _check_identities(path: Path, rows: list[dict[str, str]], needed: tuple[str, ...]) -> None:
    doubled = [case for case, count in Counter(row["case"] for row in rows).items() if count > 1]
    if doubled:
        raise ManifestError(
            f"{path}: {len(doubled)} case names stand in several rows ({', '.join(map(repr, doubled[:5]))}"
            f"{', …' if len(doubled) > 5 else ''}); every lesion needs a name of its own."
        )
    empty = [(number, name) for number, row in enumerate(rows, start=2) for name in needed if not row[name]]
    if empty:
        listed = ", ".join(f"row {number} lacks {name}" for number, name in empty[:5])
        raise ManifestError(f"{path}: {len(empty)} needed cells are empty ({listed}); fill them, or remove the rows.")


def _read_labels(
    path: Path, target: str, rows: list[dict[str, str]], positive: str | None, negative: str | None
) -> list[float]:
    cells = [row[target] for row in rows]
    if positive is None or negative is None:
        meaning = {"1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0} | {text: np.nan for text in MISSING}
        odd = Counter(cell for cell in cells if cell.lower() not in meaning)
        if odd:
            found = ", ".join(f"{text!r} × {count}" for text, count in odd.most_common(6))
            raise ManifestError(
                f"{path}: target {target!r} holds {found}; 1, 0 or an empty cell is needed. "
                "Declare text labels with --positive and --negative."
            )
        return [meaning[cell.lower()] for cell in cells]
    meaning = {plain_text(positive): 1.0, plain_text(negative): 0.0}
    labels = [meaning.get(plain_text(cell), np.nan) for cell in cells]
    other = Counter(cell or "(empty)" for cell, label in zip(cells, labels, strict=True) if np.isnan(label))
    log.warning(
        "%s: target %r has %d %s, %d %s; taken as missing: %s", path, target, labels.count(1.0), positive,
        labels.count(0.0), negative, ", ".join(f"{count} {text}" for text, count in other.most_common()) or "none",
    )  # fmt: skip
    return labels
