"""The phantom cohort: synthetic chest CT scans with lesions whose looks follow their genotype, and a manifest.

Nothing but the six features of `Phenotype` knows the label: sizes are matched in pairs, scanner, anatomy, position
and noise are drawn from generators of their own.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

from joblib import Parallel, delayed

from genomic_vit.cohort.manifest import COLUMNS
from genomic_vit.cohort.phantom_patient import FEATURES, Patient, draw_patients
from genomic_vit.cohort.phantom_scanner import render
from genomic_vit.config import PHANTOM_TARGET, PhantomConfig, UserError
from genomic_vit.imaging.write import write_volume

MANIFEST = "cases.csv"
HEADER = (*COLUMNS, PHANTOM_TARGET, "diameter_mm", "slice_mm", "noise_hu", "kernel", *FEATURES)


def make_phantom(
    folder: Path,
    patients: int = 120,
    seed: int = 0,
    signal: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
    jobs: int = -1,
) -> Path:
    """Write a cohort: scan/P0001.nii.gz …, lesion/P0001.nii.gz … and cases.csv; returns the path of the latter.

    Args:
        folder: new or empty; appears only when all is written.
        patients: half of them mutant.
        seed: fixes everything random, whatever `jobs` is.
        signal: 1 plants the full phenotype, 0 none; the rest of the cohort stays the same.
        progress: called with (done, patients) after each patient.
        jobs: processes; -1 takes all cores.

    Raises:
        UserError: the folder holds something, or an argument is impossible.
        OSError: it cannot be written.
    """
    wanted = PhantomConfig(patients, seed, signal)
    if seed < 0 or jobs == 0:
        raise UserError(f"phantom: seed is {seed}, jobs is {jobs}; seed must be at least 0, jobs -1 or at least 1")
    folder = Path(folder)
    target = folder.resolve()
    _check_free(folder)
    part = target.with_name(f".{target.name}.{uuid4().hex}.part")
    try:
        part.mkdir(parents=True)
        _write_cohort(part, draw_patients(wanted.patients, wanted.seed, wanted.signal), progress, jobs)
        try:
            if target.is_dir():
                target.rmdir()  # Windows does not replace even an empty folder
            os.replace(part, target)
        except OSError:
            _check_free(folder)  # another command may have filled it meanwhile
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder / MANIFEST


def _check_free(folder: Path) -> None:
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        found = "is a file" if folder.is_file() else "is not empty"
        raise UserError(f"{folder}: {found}; a new or empty folder is needed. Name another, or remove it.")


def _write_cohort(
    folder: Path, drawn: tuple[Patient, ...], progress: Callable[[int, int], None] | None, jobs: int
) -> None:
    parallel = Parallel(n_jobs=min(jobs, len(drawn)), return_as="generator_unordered")
    with closing(parallel(delayed(write_patient)(folder, patient) for patient in drawn)) as written:
        for done, _ in enumerate(written, start=1):
            if progress is not None:
                progress(done, len(drawn))
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HEADER, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(_row(patient) for patient in drawn)


def write_patient(folder: Path, patient: Patient) -> None:
    """Render one patient and write scan and lesion below `folder`."""
    scan, lesion = render(patient)
    write_volume(scan, folder / _file("scan", patient))
    write_volume(lesion, folder / _file("lesion", patient))


def _file(kind: str, patient: Patient) -> str:
    return f"{kind}/{patient.name}.nii.gz"


def _row(patient: Patient) -> dict[str, object]:
    row = {"case": patient.name, "patient": patient.name, PHANTOM_TARGET: int(patient.mutant)}
    row |= {kind: _file(kind, patient) for kind in ("scan", "lesion")}
    return row | {"diameter_mm": round(patient.diameter_mm, 3)} | asdict(patient.scanner) | asdict(patient.phenotype)
