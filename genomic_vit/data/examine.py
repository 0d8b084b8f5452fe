"""A whole cohort, inspected: every case, the same scan under two names, and the labels."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from genomic_vit.cohort.folds import assign_folds
from genomic_vit.cohort.gather import Found, Gathered, gather_dicom, gather_msd
from genomic_vit.cohort.labelled import read_cohort, rules_of
from genomic_vit.cohort.manifest import COLUMNS, Case, Cohort, read_manifest
from genomic_vit.cohort.presets import PRESETS
from genomic_vit.cohort.table import read_table
from genomic_vit.config import RunConfig
from genomic_vit.data.case import Reading
from genomic_vit.data.findings import Finding
from genomic_vit.data.inventory import CaseReport, inspect
from genomic_vit.data.picture_file import PictureFile
from genomic_vit.data.twins import name_twins

PICTURE_PX = 128  # side of a tile, for pictures that show what is there
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Inventory:
    """What a cohort is.

    Args:
        reports: one a case.
        remarks: what concerns the cohort as a whole.
    """

    reports: tuple[CaseReport, ...]
    remarks: tuple[str, ...]


def examine(
    cohort: Path,
    config: RunConfig,
    *,
    targets: tuple[str, ...] = (),
    jobs: int = -1,
    progress: Progress | None = None,
    pictures: PictureFile | None = None,
) -> Inventory:
    """Inspect every case of a manifest, or of a folder of scans.

    Args:
        cohort: a manifest CSV, a DICOM tree, or an unpacked Decathlon task.
        config: the run meant: its labels and split, and how scans and lesions are read and slabs cut.
        targets: label columns to count; empty counts all of the config's label table, or every column of 1 and 0.
        jobs: processes, -1 for all cores.
        progress: called with (done, total).
        pictures: where they are put as they are made, reports then hold none; None makes none.

    Raises:
        ManifestError, LabelError: the manifest, the folder or a label cannot be read.
        InventoryError: there is no room for the pictures.
    """
    reading = Reading.of(config)
    if cohort.is_dir():
        gathered = _in_folder(cohort, reading)
        found, left_out = gathered.cases, gathered.excluded
        labelled, remarks = _unlabelled(found), [f"{file}: {reason}" for file, reason in gathered.damaged]
    else:
        labelled, remarks = _in_manifest(cohort, config, targets)
        found = [Found(case.case, case.patient, case.scan, case.lesion or None) for case in labelled.cases]
        left_out = ()
    fine = replace(reading, slab=replace(reading.slab, tile_px=PICTURE_PX))
    window_hu = config.view.window_hu if pictures is not None else None
    work = (delayed(_inspect)(case, fine, window_hu) for case in found)
    reports: list[CaseReport] = []
    rows: list[int] = []  # of the manifest, of each report
    for row, some in enumerate(Parallel(n_jobs=jobs, return_as="generator")(work)):
        reports += [_with_labels(_stowed(report, pictures), labelled, row) for report in some]
        rows += [row] * len(some)
        if progress:
            progress(row + 1, len(found))
    folds = _folds(labelled, config)
    reports = name_twins(reports, [found[row].scan for row in rows], [folds[row] for row in rows])
    return Inventory(tuple(_with_left_out(reports, left_out)), tuple(remarks))


def _inspect(case: Found, reading: Reading, window_hu: tuple[float, float] | None) -> list[CaseReport]:
    readers = logging.getLogger("genomic_vit.imaging")
    level = readers.level
    readers.setLevel(logging.ERROR)  # what they warn of is in the report
    try:
        return inspect(case.case, case.patient, case.scan, case.lesion, reading, window_hu)
    finally:
        readers.setLevel(level)


def _in_folder(folder: Path, reading: Reading) -> Gathered:
    """Cases of a Decathlon task or a DICOM tree."""
    if any((folder / place).is_dir() for place in ("imagesTr", "Task06_Lung")):
        return gather_msd(folder)
    return gather_dicom(folder, PRESETS["dicom"], reading.lesion, on_gap=reading.on_gap, lesionless=True)


def _unlabelled(found: Sequence[Found]) -> Cohort:
    cases = tuple(Case(one.case, one.patient, one.scan, one.lesion or "") for one in found)
    return Cohort(cases, (), np.zeros((len(cases), 0)))


def _in_manifest(path: Path, config: RunConfig, targets: tuple[str, ...]) -> tuple[Cohort, list[str]]:
    """The manifest's cases with their labels, and what to say of the labels."""
    needs_lesion = config.lesion.field == "lesion"
    targets = targets or (tuple(rules_of(config.labels)[0]) if config.labels.table else ())
    if targets:
        given = (config.positive, config.negative)
        cohort = read_cohort(path, targets, config.labels, *given, needs_lesion=needs_lesion, to_learn=False)
    else:
        cohort = read_manifest(path, _label_columns(path), needs_lesion=needs_lesion)
    return cohort, [_counted(cohort, column, config.labels.min_cases) for column in range(len(cohort.targets))]


def _label_columns(path: Path) -> tuple[str, ...]:
    """Columns of a manifest that hold 1, 0 and nothing else but missing values, and both of them."""
    if not path.is_file():
        return ()
    table = read_table(path)
    held = {name: {row[name] for row in table.rows} - {""} for name in table.header if name not in COLUMNS}
    return tuple(name for name, values in held.items() if values == {"0", "1"})


def _counted(cohort: Cohort, column: int, min_cases: int) -> str:
    labels = cohort.labels[:, column]
    missing = int(np.isnan(labels).sum())
    patients = [len(set(cohort.patients[labels == value])) for value in (1, 0)]
    few = f"; fewer than {min_cases} of a kind are hard to learn" if min(patients) < min_cases else ""
    return (
        f"target {cohort.targets[column]}: {int((labels == 1).sum())} positive, {int((labels == 0).sum())} negative, "
        f"{missing} missing of {len(labels)} cases ({patients[0]} and {patients[1]} patients{few})"
    )


def _folds(cohort: Cohort, config: RunConfig) -> list[int]:
    """Folds as training assigns them; all 0 where there are too few patients to split."""
    if len(set(cohort.patients)) < config.split.folds:
        return [0] * len(cohort.cases)
    return assign_folds(cohort, config.split.folds, config.seed).tolist()


def _with_labels(report: CaseReport, cohort: Cohort, row: int) -> CaseReport:
    labels = {
        name: "" if np.isnan(value) else str(int(value))
        for name, value in zip(cohort.targets, cohort.labels[row], strict=True)
    }
    shared = {sys.intern(name): sys.intern(text) for name, text in (report.facts | labels).items()}  # by all reports
    return replace(report, facts=shared)


def _stowed(report: CaseReport, pictures: PictureFile | None) -> CaseReport:
    if pictures is None or report.picture is None:
        return report
    pictures[report.case] = report.picture
    return replace(report, picture=None)


def _with_left_out(reports: list[CaseReport], left_out: Sequence[tuple[str, str]]) -> list[CaseReport]:
    """The reports, with the reasons of what was left out of a folder put to their patients, or as cases."""
    reasons: dict[str, list[str]] = {}
    for patient, reason in left_out:
        reasons.setdefault(patient, []).append(reason)
    told = []
    for report in reports:
        more = tuple(Finding("doubt", f"left out beside it: {why}") for why in reasons.pop(report.patient, []))
        told.append(replace(report, findings=(*more, *report.findings)))
    return told + [
        CaseReport(patient, patient, findings=tuple(Finding("unusable", why) for why in whys))
        for patient, whys in reasons.items()
    ]
