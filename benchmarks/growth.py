"""How cost and memory grow with the cohort: preparing real files, and the bookkeeping of a simulated one.

    python -m benchmarks.growth prepare --cases 100 1000        # minutes: small scans, one process and two workers
    python -m benchmarks.growth cohort --rows 1000 10000 100000 # a minute: manifest, classes, folds, samplers, entries
    python -m benchmarks.growth doctor --rows 1000 10000 100000 # and guard, metrics: minutes each

`prepare` cuts slabs of small synthetic scans and gives seconds a case, and the largest memory of this process and of
its largest worker. `cohort` reads a manifest of that many rows, splits it by patient, stands up the samplers over
prepared slabs that are light records without files, and draws an epoch's order; `doctor` runs the command on made-up
inspections, its pictures and pages written (8 GB of disk at 100,000); `guard` looks for copies among made-up prints;
`metrics` scores with every bootstrap sample. Each size runs in a process of its own; seconds are of CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.preparing import peak_mb
from benchmarks.simulated import Clock, simulate_doctor, simulate_guard, simulate_metrics, write_manifest


def worker_peak_mb() -> float:
    """High-water mark of the largest of this process's workers, which joblib keeps alive (Linux)."""
    peaks = [0.0]
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:  # it ended meanwhile
            continue
        if int(fields["PPid"]) == os.getpid() and "VmHWM" in fields:
            peaks.append(int(fields["VmHWM"].split()[0]) / 1024)
    return max(peaks)


def prepare_cases(cases: int, folder: Path, jobs: int) -> dict[str, float]:
    """Prepare a cohort of small scans, then find all of it in the cache."""
    import numpy as np

    from genomic_vit import write_volume
    from genomic_vit.cohort.manifest import Case, Cohort
    from genomic_vit.data.case import Reading
    from genomic_vit.data.prepare import prepare
    from tests.scans import ball, chest, grid_of

    grid = grid_of(spacing_mm=(1.25, 0.7, 0.7), shape=(32, 96, 96))
    scan, lesion = chest(grid), write_volume(ball(grid, 8.0), folder / "lesion.nii.gz")
    rows = []
    for number in range(cases):
        scan.array[0, 0, 0] = number % 1000
        scan.array[0, 0, 1] = number // 1000
        rows.append(Case(f"C{number}", f"P{number}", write_volume(scan, folder / f"{number}.nii"), lesion))
    cohort = Cohort(tuple(rows), ("mutant",), np.arange(cases)[:, None] % 2.0)
    before, start = peak_mb(), time.perf_counter()
    prepare(cohort, Reading(), cache=folder / "cache", jobs=jobs)
    made = time.perf_counter()
    prepared = prepare(cohort, Reading(), cache=folder / "cache", jobs=jobs)
    held = time.perf_counter()
    peak = peak_mb()
    for slab in prepared.slabs:
        slab.hu.sum()  # maps it and touches every page
    return {
        "ms a case": 1e3 * (made - start) / cases,
        "ms a case, from cache": 1e3 * (held - made) / cases,
        "peak MB before": before,
        "peak MB, prepared": peak,
        "MB with every slab mapped and read": peak_mb(),
        "worker peak MB": worker_peak_mb(),
        "KB a slab on disk": sum(path.stat().st_size for path in (folder / "cache").glob("*.npy")) / cases / 1024,
    }


def simulate_cohort(rows: int, folder: Path) -> dict[str, float]:
    """CPU seconds of each step of bookkeeping."""
    import numpy as np

    from genomic_vit.cohort.folds import assign_folds, split_cohort
    from genomic_vit.cohort.manifest import check_classes, read_manifest
    from genomic_vit.config import SplitConfig, ViewConfig
    from genomic_vit.data.datasets import AllStacks, RandomStacks, loader
    from genomic_vit.data.entry import PreparedSlab
    from genomic_vit.imaging.geometry import Geometry

    manifest = write_manifest(rows, folder)
    timed = Clock()
    cohort = timed("manifest", lambda: read_manifest(manifest, ("EGFR",)))
    timed("classes", lambda: check_classes(cohort, "here"))
    timed("folds", lambda: assign_folds(cohort, 5, 0))
    split = timed("split", lambda: split_cohort(cohort, SplitConfig(), 0))

    def record(row: int) -> PreparedSlab:
        shape = (13 + row % 9, 32, 32)
        geometry = Geometry(shape, np.array([1.25, 1.25, 1.25]), np.array([0.0, 0.0, row]), np.eye(3))
        return PreparedSlab(folder / f"{row:040x}-1.npy", geometry, 12.0, "outline")

    slabs = timed("records", lambda: [record(row) for row in range(rows)])
    train = [slabs[row] for row in split.train]
    stacks = RandomStacks(train, cohort.labels[split.train], seed=(0, 0, 0))
    order = loader(stacks, 16, shuffle=(0, 0, 0))
    timed("an epoch's order and draws", lambda: [[stacks._start(i) for i in batch] for batch in order.batch_sampler])
    timed("evaluation's stacks", lambda: AllStacks(slabs, cohort.labels, ViewConfig()))
    return timed.found


SIMULATED = {
    "cohort": simulate_cohort,
    "doctor": simulate_doctor,
    "guard": simulate_guard,
    "metrics": simulate_metrics,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", *SIMULATED))
    parser.add_argument("--cases", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            work = partial(prepare_cases, jobs=options.jobs) if options.what == "prepare" else SIMULATED[options.what]
            print(json.dumps(work(options.one, Path(folder)) | {"peak MB": peak_mb()}))
        return
    for size in options.cases if options.what == "prepare" else options.rows:
        command = [sys.executable, "-m", "benchmarks.growth", options.what, "--one", str(size)]
        command += ["--jobs", str(options.jobs)]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        numbers = json.loads(said.splitlines()[-1])
        print(f"{size:7d}  " + "  ".join(f"{key} {value:.2f}" for key, value in numbers.items()), flush=True)


if __name__ == "__main__":
    main()
