"""A scan is known again under another name, wherever the lesion lies that is outlined in it."""

import dataclasses
import shutil

import numpy as np
import pytest

from genomic_vit import Volume, write_volume
from genomic_vit.cohort.manifest import Case, Cohort, read_manifest
from genomic_vit.config import SlabConfig
from genomic_vit.data import scan_record
from genomic_vit.data.case import Reading
from genomic_vit.data.prepare import prepare
from genomic_vit.data.scan_record import scan_records
from genomic_vit.evaluation.leakage import LeakError, check_leaks
from tests.benchmark_cohort import bright_cohort
from tests.cohort_dicom import ct_series, grid, store
from tests.scans import ball, chest, grid_of
from tests.test_archive import packed

GEOMETRY = grid_of(shape=(14, 60, 60))
READING = Reading(SlabConfig(tile_px=16))
APART = np.arange(2)


def noisy(seed):
    """A chest of its own."""
    volume = chest(GEOMETRY)
    noise = np.random.default_rng(seed).normal(0, 60, (7, 6, 6)).repeat(2, 0).repeat(10, 1).repeat(10, 2)
    return dataclasses.replace(volume, array=(volume.array + noise).astype(np.float32))


def pair(folder, one, other):
    """Two patients with a scan each, (place of the lesion, volume), as a cohort."""
    cases = []
    for name, (place, volume) in (("a", one), ("b", other)):
        scan = write_volume(volume, folder / f"{name}.nii.gz")
        lesion = write_volume(ball(GEOMETRY, 5.0, place), folder / f"{name}-lesion.nii.gz")
        cases.append(Case(name, f"patient of {name}", scan, lesion))
    return Cohort(tuple(cases), ("x",), np.array([[1.0], [0.0]]))


def checked(cohort, folder, folds=APART):
    prepared = prepare(cohort, READING, cache=folder / "cache", jobs=1)
    records = scan_records(cohort.cases, READING, folder / "cache", jobs=1)
    return check_leaks(cohort, prepared.slabs, folds, records)


@pytest.mark.parametrize("place", [(0.5, 0.45, 0.55), (0.5, 0.5, 0.6), (0.4, 0.3, 0.3)])
def test_a_renamed_scan_stops_the_run_wherever_its_lesion_is_outlined(place, tmp_path):
    volume = noisy(0)
    cohort = pair(tmp_path, ((0.5, 0.45, 0.55), volume), (place, volume))
    same = "scans of two names have the same pixels: a (patient 'patient of a') and b (patient 'patient of b')"
    with pytest.raises(LeakError) as stopped:
        checked(cohort, tmp_path)
    slabs_alike = "near-duplicates" in str(stopped.value)
    assert same in str(stopped.value) and slabs_alike == (place == (0.5, 0.45, 0.55))
    told = checked(cohort, tmp_path, np.zeros(2, dtype=int))
    assert "Of 2 cases the scans were compared, whatever was outlined in them, by three slices each: none is" in told


def test_another_reconstruction_stops_the_run_and_another_chest_does_not(tmp_path):
    one = noisy(0)
    smooth = Volume((one.array + np.random.default_rng(1).normal(0, 20, one.array.shape)).astype(np.float32), GEOMETRY)
    cohort = pair(tmp_path, ((0.5, 0.45, 0.55), one), ((0.4, 0.3, 0.3), smooth))
    with pytest.raises(LeakError, match=r"^1 leaks .*\n  scans of two names look like copies of one: a .* and b "):
        checked(cohort, tmp_path)
    (tmp_path / "other").mkdir()
    checked(pair(tmp_path / "other", ((0.5, 0.45, 0.55), one), ((0.4, 0.3, 0.3), noisy(1))), tmp_path)


def test_several_lesions_of_a_scan_are_one_scan_of_one_patient(tmp_path):
    cohort = pair(tmp_path, ((0.5, 0.45, 0.55), noisy(0)), ((0.4, 0.3, 0.3), noisy(1)))
    first = cohort.cases[0]
    second = dataclasses.replace(first, case="a2", lesion=write_volume(ball(GEOMETRY, 4.0), tmp_path / "l.nii.gz"))
    shutil.copy(first.scan, tmp_path / "cut-out.nii.gz")
    third = dataclasses.replace(second, case="a3", scan=tmp_path / "cut-out.nii.gz")
    cohort = Cohort((*cohort.cases, second, third), ("x",), np.zeros((4, 1)))
    checked(cohort, tmp_path, np.array([0, 1, 0, 0]))


def test_a_scan_is_read_once_and_a_damaged_record_again(tmp_path, monkeypatch):
    cohort = pair(tmp_path, ((0.5, 0.45, 0.55), noisy(0)), ((0.4, 0.3, 0.3), noisy(1)))
    read, real = [], scan_record.open_scan
    monkeypatch.setattr(scan_record, "open_scan", lambda scan: read.append(scan.name) or real(scan))
    cases = (*cohort.cases, dataclasses.replace(cohort.cases[0], case="again", lesion="1,2,3"))
    made = scan_records(cases, READING, tmp_path / "cache", jobs=1)
    assert sorted(read) == ["a.nii.gz", "b.nii.gz"] and made[2] is made[0]
    held = scan_records(cases, READING, tmp_path / "cache", jobs=1)
    assert len(read) == 2
    for one, other in zip(made, held, strict=True):
        assert one.prints.exact == other.prints.exact and one.studies == other.studies
        np.testing.assert_array_equal(one.prints.thumbnail, other.prints.thumbnail)
        np.testing.assert_array_equal(one.prints.size_mm, other.prints.size_mm)
    kept = sorted((tmp_path / "cache").glob("*.json"))
    kept[0].write_text(kept[0].read_text()[:-40])
    scan_records(cases, READING, tmp_path / "cache", jobs=1)
    assert len(read) == 3
    write_volume(noisy(2), cases[1].scan)
    assert scan_records(cases, READING, tmp_path / "cache", jobs=1)[1].prints.exact != made[1].prints.exact


@pytest.mark.parametrize("name", ["b.zip", "b.tar", "b.tgz"])
def test_a_study_is_known_again_inside_an_archive(name, tmp_path):
    """Another series of the study, as another chest: pixels tell nothing."""
    images, other = ct_series("R1", chest(grid())), ct_series("R2", chest(grid(9)))
    for image in other:
        image.StudyInstanceUID = images[0].StudyInstanceUID
        image.PixelData = (np.frombuffer(image.PixelData, np.int16)[::-1] // 2).tobytes()
    folder = store(images, tmp_path / "a")
    archive = packed(store(other, tmp_path / "b"), tmp_path / name)
    cases = tuple(Case(scan.name, f"of {scan.name}", scan, "0,0,-85") for scan in (folder, archive))
    records = scan_records(cases, READING, tmp_path / "cache", jobs=1)
    assert records[0].studies == records[1].studies and len(records[0].studies) == 1
    uid = str(images[0].StudyInstanceUID)
    assert all(uid not in path.read_text() for path in (tmp_path / "cache").glob("*.json"))
    cohort, slabs = Cohort(cases, ("x",), np.zeros((2, 1))), bright_cohort(2).slabs
    with pytest.raises(LeakError, match=rf"^1 leaks .*\n  one DICOM study is in several folds: a and {name}$"):
        check_leaks(cohort, slabs, APART, records)
    assert len(list((tmp_path / "cache").glob("*.json"))) == 2


def test_a_scan_that_cannot_be_compared_is_counted_and_named(tmp_path):
    cohort = pair(tmp_path, ((0.5, 0.45, 0.55), noisy(0)), ((0.4, 0.3, 0.3), noisy(1)))
    prepared = prepare(cohort, READING, cache=tmp_path / "cache", jobs=1)
    content = cohort.cases[1].scan.read_bytes()
    cohort.cases[1].scan.write_bytes(content[: len(content) // 2])
    records = scan_records(cohort.cases, READING, tmp_path / "cache", jobs=1)
    told = check_leaks(cohort, prepared.slabs, APART, records)
    assert "Of 1 cases the scans were compared" in told and str(tmp_path) not in told
    assert "1 could not be read for that, such as case b: cannot be read (" in told
    assert "Scans themselves were not compared" in check_leaks(cohort, prepared.slabs, APART)


def test_real_nodules_of_other_patients_are_other_scans(shared_data, tmp_path):
    """Cut-outs of LIDC, the first 60: each patient apart is the hardest that folds can be."""
    cohort = read_manifest(shared_data / "lidc_nodules" / "cases.csv", ("malignant",)).take(np.arange(60))
    apart = np.unique(cohort.patients, return_inverse=True)[1]
    records = scan_records(cohort.cases, READING, tmp_path, jobs=1)
    assert all(record.prints for record in records) and len(set(apart)) > 20
    slabs = prepare(cohort, READING, cache=tmp_path, jobs=1).slabs
    check_leaks(cohort, slabs, apart, records)
    thief = np.flatnonzero(apart != apart[0])[0]
    stolen = list(records)
    stolen[thief] = records[0]
    with pytest.raises(LeakError, match=r"scans of two names have the same pixels: LIDC-IDRI-0001_R_1 "):
        check_leaks(cohort, slabs, apart, stolen)
