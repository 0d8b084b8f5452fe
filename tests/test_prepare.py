"""A cohort's slabs: every bad case named, nothing lost with it, nothing done twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from genomic_vit import write_volume
from genomic_vit.cohort.manifest import Case, Cohort
from genomic_vit.config import SlabConfig
from genomic_vit.data import cache
from genomic_vit.data.case import Reading
from genomic_vit.data.entry import CacheError
from genomic_vit.data.prepare import PrepareError, prepare
from tests.scans import ball, chest, grid_of

GEOMETRY = grid_of(shape=(14, 60, 60))
READING = Reading(SlabConfig(tile_px=16))


class Deadly(type(Path())):
    """A scan that kills the process that looks at it, as the kernel does when memory is short."""

    def exists(self):
        os.kill(os.getpid(), signal.SIGKILL)


def cohort_of(folder, cases=8):
    """Small scans, each its own, with the same lesion."""
    scan = chest(GEOMETRY)
    lesion = write_volume(ball(GEOMETRY, 6.0), folder / "lesion.nii.gz")
    rows = []
    for number in range(cases):
        scan.array[0, 0, 0] = -1000 + number
        rows.append(Case(f"C{number}", f"P{number}", write_volume(scan, folder / f"{number}.nii.gz"), lesion))
    return Cohort(tuple(rows), ("mutant",), np.arange(cases, dtype=float)[:, None] % 2)


def with_scan(cohort, number, scan):
    case = cohort.cases[number]
    cases = [*cohort.cases[:number], Case(case.case, case.patient, scan, case.lesion), *cohort.cases[number + 1 :]]
    return Cohort(tuple(cases), cohort.targets, cohort.labels)


@pytest.mark.parametrize("jobs", [1, 2])
def test_cases_keep_the_manifests_order_and_labels(jobs, tmp_path):
    cohort, seen = cohort_of(tmp_path), []
    prepared = prepare(
        cohort, READING, cache=tmp_path / "cache", jobs=jobs, progress=lambda done, total: seen.append((done, total))
    )
    assert prepared.cohort.cases == cohort.cases and np.array_equal(prepared.cohort.labels, cohort.labels)
    assert seen == [(number, 8) for number in range(1, 9)]
    assert len({slab.path for slab in prepared.slabs}) == 8
    assert all(slab.hu.shape == slab.geometry.shape for slab in prepared.slabs)


def test_a_scan_that_kills_its_worker_is_named_and_the_others_are_used(tmp_path, caplog):
    cohort = with_scan(cohort_of(tmp_path), 3, Deadly(tmp_path / "huge.nii.gz"))
    with pytest.raises(
        PrepareError, match=r"1 of 8 cases cannot be used[^C]*C3: the process that prepared it was kill"
    ):
        prepare(cohort, READING, cache=tmp_path / "cache", jobs=2)
    prepared = prepare(cohort, READING, cache=tmp_path / "cache", jobs=2, skip_bad=True)
    assert [case.case for case in prepared.cohort.cases] == [f"C{n}" for n in range(8) if n != 3]
    assert prepared.excluded[0][0] == "C3" and "want of memory" in prepared.excluded[0][1]
    assert "left out: case C3" in caplog.text


@pytest.mark.parametrize(
    ("problem", "said"),
    [(MemoryError(), "memory did not suffice"), (KeyError("odd"), "KeyError: 'odd'"), (OSError(5, "I/O"), "I/O")],
)
def test_no_exception_of_one_case_takes_the_others_down(problem, said, tmp_path, monkeypatch):
    cohort = cohort_of(tmp_path, 3)
    real = cache.cut_case

    def cut_case(scan, lesion, reading):
        if scan == cohort.cases[1].scan:
            raise problem
        return real(scan, lesion, reading)

    monkeypatch.setattr(cache, "cut_case", cut_case)
    prepared = prepare(cohort, READING, cache=tmp_path / "cache", jobs=1, skip_bad=True)
    assert [case.case for case in prepared.cohort.cases] == ["C0", "C2"]
    assert said in prepared.excluded[0][1]


def test_a_cache_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"name a folder that can be written with --cache"):
        prepare(cohort_of(tmp_path, 2), READING, cache=tmp_path / "file" / "slabs", jobs=1)


def test_a_preparation_that_was_killed_goes_on_where_it_stopped(tmp_path, monkeypatch):
    cohort = cohort_of(tmp_path, 40)
    folder = tmp_path / "cache"
    program = (
        "import sys; from pathlib import Path; from tests.test_prepare import *; import time\n"
        "real = cache.cut_case\n"
        "def slow(*case):\n    time.sleep(0.1)\n    return real(*case)\n"
        "cache.cut_case = slow\n"
        f"prepare(cohort_of(Path({str(tmp_path)!r}), 40), READING, cache=Path({str(folder)!r}), jobs=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 60
    while len(list(folder.glob("[!.]*.npy"))) < 7:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("[!.]*.npy")}
    assert 7 <= len(kept) < 40
    opened, real = [], cache.cut_case
    monkeypatch.setattr(cache, "cut_case", lambda *case: opened.append(case) or real(*case))
    prepared = prepare(cohort, READING, cache=folder, jobs=1)
    assert len(prepared.slabs) == 40 and len(opened) == 40 - len(kept)
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
