"""Simulated cohorts for benchmarks/growth.py: doctor, the leakage guard and the metrics, without a scan on disk."""

from __future__ import annotations

import contextlib
import csv
import io
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

PICTURE = np.random.default_rng(0).bytes(30 << 10)  # a JPEG of nine slices has 20 to 40 KB
SPREAD_HU, NOISE_HU = 60.0, 20.0  # of thumbnails: along 12 ways in which bodies differ, and a pixel alone
COPY_HU = 3.0  # between two reconstructions
TEXTURE_HU = 40.0  # of slabs, a field of their prints


class Clock:
    """Seconds of CPU of named steps."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], object]) -> object:
        start = time.process_time()
        result = work()
        self.found[name] = self.found.get(name, 0.0) + time.process_time() - start
        return result

    def wrap(self, name: str, work: Callable) -> Callable:
        """The function, timed at each call."""
        return lambda *args, **kwargs: self(name, lambda: work(*args, **kwargs))


def write_manifest(rows: int, folder: Path) -> Path:
    """Cases of 20 sites, five of four patients; a quarter positive, a seventh without a label."""
    generator = np.random.default_rng(0)
    manifest = folder / "cases.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("case", "patient", "scan", "lesion", "EGFR"))
        for row, label in enumerate(generator.choice(["0", "1", ""], rows, p=[0.6, 0.25, 0.15])):
            site, patient = row % 20, row * 4 // 5
            writer.writerow((f"C{row:06}", f"P{patient:06}", f"scans/{site:02}/{row:06}", f"seg/{row:06}.dcm", label))
    return manifest


def simulate_doctor(rows: int, folder: Path) -> dict[str, float]:
    """The command itself on inspections that are made up: one scan in 100 is a copy, one is under rows / 100 names."""
    from genomic_vit import doctor
    from genomic_vit.data import examine

    modes = np.linalg.qr(np.random.default_rng(1).normal(size=(768, 12)))[0] * np.sqrt(768 / 12)
    manifest, clock = write_manifest(rows, folder), Clock()
    inspected = clock.wrap("inspections made up", lambda found, *_: _inspected(found, modes))
    with contextlib.ExitStack() as stack:
        for module, name, told in (
            (examine, "_inspect", ""),
            (examine, "_folds", "folds"),
            (examine, "name_twins", "twins"),
            (doctor, "_print", "terminal table"),
            (doctor, "_write", "CSV and pages"),
        ):
            work = clock.wrap(told, getattr(module, name)) if told else inspected
            stack.enter_context(mock.patch.object(module, name, work))
        said = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        code = clock("whole command", lambda: doctor.main([str(manifest), "--out", str(folder / "out"), "--jobs", "1"]))
    if code != 1 or "unusable" not in said.getvalue():
        raise RuntimeError(f"doctor ended with {code} and said: {said.getvalue()[-500:]}")
    pages = list((folder / "out").glob("*.html"))
    largest = max(page.stat().st_size for page in pages)
    return clock.found | {"pages": len(pages), "MB of the largest page": largest / 2**20}


def _inspected(found, modes: np.ndarray) -> list:
    """What a worker would send of a case."""
    from genomic_vit.data.findings import Finding
    from genomic_vit.data.fingerprint import Fingerprint
    from genomic_vit.data.inventory import CaseReport

    row = int(found.case[1:])
    scan = {50: 50, 99: row - 1}.get(row % 100, row)
    generator = np.random.default_rng(scan)
    thumbnail = -500 + modes @ generator.normal(0, SPREAD_HU, 12) + generator.normal(0, NOISE_HU, 768)
    if row % 100 == 99:
        thumbnail += np.random.default_rng((row, 1)).normal(0, COPY_HU, 768)
    prints = Fingerprint(f"{scan if row % 100 == 50 else row:032x}", thumbnail.reshape(3, 16, 16).astype("f4"),
                         np.array([300.0, 350.0, 350.0]))  # fmt: skip
    facts = {"series_found": "2", "series_chosen": f"Chest {row % 7}", "chosen_by": "thinnest", "kernel": "B40f"}
    facts |= {"voxels": f"{200 + row % 150} x 512 x 512", "spacing_mm": "1.25 x 0.70 x 0.70", "oblique_deg": "0.0"}
    facts |= dict.fromkeys(("thickness_mm", "tilt_found_deg", "contrast", "kvp", "manufacturer", "model"), "as told")
    facts |= {"refused": f"Scout {row}: it is a localizer (scout)", "lesion_from": "outline", "lesion_in_scan": "100%"}
    facts |= {"lesion_ml": f"{row % 977 / 10:.2f}", "lesion_slices": str(row % 40), "lesion_hu": str(row % 60)}
    grade = "unusable" if row % 50 == 0 else "doubt" if row % 10 == 0 else "note"
    finding = Finding(grade, f"something of {found.case}", "what to do about it")
    report = CaseReport(found.case, found.patient, facts, (finding,), PICTURE, f"{row:032x}", prints)
    return pickle.loads(pickle.dumps([report]))


def simulate_guard(rows: int, folder: Path) -> dict[str, float]:
    """The leakage guard on prints of balls in lungs beside a wall; one in 100 is another patient's copied."""
    from genomic_vit.cohort.manifest import read_manifest
    from genomic_vit.evaluation import leakage

    clock = Clock()
    cohort = read_manifest(write_manifest(rows, folder), ("EGFR",))
    folds = np.unique(cohort.patients, return_inverse=True)[1] % 5
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in (9, 8, 8)), indexing="ij")
    points = np.stack([axis.ravel() for axis in axes])
    made = clock.wrap("prints made up", lambda row: _print_of(row, points))

    def check() -> int:
        try:
            leakage.check_leaks(cohort, range(rows), folds)
        except leakage.LeakError as problem:
            return int(str(problem).split()[0])
        return 0

    with mock.patch.object(leakage, "fingerprint", made):
        found = clock("leakage guard", check)
    clock.found["leakage guard"] -= clock.found["prints made up"]
    return clock.found | {"leaks found": found}


def _print_of(row: int, points: np.ndarray) -> np.ndarray:
    generator = np.random.default_rng(row - (row % 100 == 99))
    texture = generator.normal(0, TEXTURE_HU, points.shape[1])
    ball = 1 / (1 + np.exp((np.sqrt((points**2).sum(axis=0)) - generator.uniform(0.2, 0.8)) * 8))
    across = generator.normal(size=3)
    wall = 1 / (1 + np.exp((generator.uniform(0.3, 1.5) - across / np.linalg.norm(across) @ points) * 8))
    noise = np.random.default_rng((row, 1)).normal(0, COPY_HU, points.shape[1])
    hu = np.maximum(ball, wall) * 850 - 850 + texture + noise
    centred = hu - hu.mean()
    return centred / np.linalg.norm(centred)


def simulate_metrics(rows: int, folder: Path) -> dict[str, float]:
    """Every metric by case and by patient with its 2,000 samples, and the comparison of two arms over patients."""
    from genomic_vit.evaluation.comparison import score_rows
    from genomic_vit.evaluation.metrics import by_patient, score_cohort
    from genomic_vit.evaluation.rows import Rows

    del folder
    generator, clock = np.random.default_rng(0), Clock()
    label = (generator.random(rows) < 0.3).astype(float)
    patients = np.array([f"P{row * 4 // 5:06}" for row in range(rows)])
    arms = {name: 1 / (1 + np.exp(-generator.normal(label * gain))) for name, gain in (("joint", 0.9), ("cnn", 0.7))}
    clock("metrics", lambda: score_cohort(arms["joint"][:, None], label[:, None], patients, ("EGFR",), 0))
    united = {name: by_patient(p, label, patients) for name, p in arms.items()}
    _, known, names = united["joint"]
    p = {name: one[0] for name, one in united.items()}
    decided = {name: (one >= 0.5).astype(float) for name, one in p.items()}
    seeds = {name: one[None] for name, one in p.items()}
    fold = np.arange(len(known)) % 5
    rows_of = Rows(known, names, p, decided, seeds, fold, rows)
    clock("comparison of two arms", lambda: score_rows(rows_of, "cnn", 0, full=True))
    return clock.found
