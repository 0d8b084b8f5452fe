"""split.csv: who trains and who is held out, with what else must be the same for a run to go on as it began."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genomic_vit.cohort.folds import Split
from genomic_vit.config import UserError
from genomic_vit.data.prepare import Prepared
from genomic_vit.training.whole import written_whole

SHOWN = 3  # cases named of those that differ in the same way
SLAB = "slab"


class CohortError(UserError):
    """The cohort is not the one that the run began with; the message says how."""


def write_csv(path: Path, header: Sequence, rows: Sequence[Sequence]) -> None:
    """A CSV in UTF-8."""
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def write_split(path: Path, prepared: Prepared, split: Split) -> None:
    """One row a case, in the cohort's order: case, patient, fold, part, label of each target, checksum of its slab."""
    rows = _rows(prepared, split)
    write_csv(path, [*rows[0]], [[*row.values()] for row in rows])


def check_split(path: Path, prepared: Prepared, split: Split) -> None:
    """Raise CohortError naming the cases in which this cohort and the one of a split.csv differ, and how.

    What an older split.csv does not hold is not compared.
    """
    with path.open(newline="", encoding="utf-8") as file:
        began = {row["case"]: row for row in csv.DictReader(file)}
    now = {row["case"]: row for row in _rows(prepared, split)}
    ways = {
        "new": [case for case in now if case not in began],
        "gone": [case for case in began if case not in now],
    }
    both = [case for case in now if case in began]
    said = {"patient": "of another patient", "fold": "in another fold", "part": "in another part of the split"}
    said[SLAB] = "with other voxels, lesion or reading than before"
    for name in next(iter(now.values())):
        changed = [case for case in both if name in began[case] and began[case][name] != now[case][name]]
        ways[said.get(name, f"with another label {name}")] = changed
    if not any(ways.values()) and list(began) != list(now):
        ways["in another place of the manifest"] = [a for a, b in zip(began, now, strict=True) if a != b]
    differ = [f"{_counted(cases)} {way}" for way, cases in ways.items() if cases]
    if differ:
        raise CohortError(
            f"{path.parent}: cannot resume with another cohort: {'; '.join(differ)}. Put the data back as they were, "
            "or start another run with another --out."
        )


def met_before(path: Path, prepared: Prepared) -> tuple[list[str], list[str]]:
    """Where the run of a split.csv has met the cases of a cohort.

    Returns:
        for each case the part in which the run has a slab of the same voxels, "external" where in none; and the
        patients whose names are those of patients that it learnt from or chose its weights by.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    part_of = {row[SLAB]: row["part"] for row in rows if row.get(SLAB)}  # older files hold no slab
    learnt = {row["patient"] for row in rows if row["part"] != "test"}
    parts = [part_of.get(slab.checksum, "external") for slab in prepared.slabs]
    return parts, sorted(learnt & {case.patient for case in prepared.cohort.cases})


def _rows(prepared: Prepared, split: Split) -> list[dict[str, str]]:
    cohort = prepared.cohort
    part = {index: name for name in ("train", "validation", "test") for index in getattr(split, name)}
    rows = []
    for i, case in enumerate(cohort.cases):
        labels = ["" if np.isnan(value) else str(int(value)) for value in cohort.labels[i]]
        row = {"case": case.case, "patient": case.patient, "fold": str(split.folds[i]), "part": part[i]}
        rows.append(row | dict(zip(cohort.targets, labels, strict=True)) | {SLAB: prepared.slabs[i].checksum})
    return rows


def _counted(cases: Sequence[str]) -> str:
    named = ", ".join(cases[:SHOWN]) + (" …" if len(cases) > SHOWN else "")
    return f"{len(cases)} {'case' if len(cases) == 1 else 'cases'} ({named})"
