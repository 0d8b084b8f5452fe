"""From disk to slabs: only what is needed is read, several lesions become several cases, and changes are noticed."""

from dataclasses import replace

import numpy as np
import pytest

from genomic_vit import Volume, write_volume
from genomic_vit.cohort.manifest import Case, Cohort
from genomic_vit.config import LesionConfig, SlabConfig
from genomic_vit.data import cache, identity
from genomic_vit.data.cache import load_slabs, open_cache, slab_key
from genomic_vit.data.case import Reading, cut_case
from genomic_vit.data.entry import forget_maps
from genomic_vit.data.prepare import PrepareError, prepare
from genomic_vit.imaging import scan as imaging_scan
from genomic_vit.run_evaluation import _add_diameter_alone
from tests.dicoms import lung, write_series
from tests.scans import ball, grid_of

GEOMETRY = grid_of(shape=(40, 60, 60))
READING = Reading(SlabConfig(tile_px=16))


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom")
    write_series(folder, lung(GEOMETRY))
    return folder


@pytest.fixture
def lesion(tmp_path):
    return write_volume(ball(GEOMETRY, 5.0), tmp_path / "lesion.nrrd")


def copied(series, tmp_path):
    for path in series.iterdir():
        (tmp_path / "scan").mkdir(exist_ok=True)
        (tmp_path / "scan" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "scan"


def test_dicom_and_nifti_of_one_scan_give_one_slab(series, lesion, tmp_path):
    nifti = write_volume(lung(GEOMETRY), tmp_path / "scan.nii.gz")
    one, other = (cut_case(scan, lesion, READING).slabs[0] for scan in (series, nifti))
    np.testing.assert_allclose(one.hu, other.hu, atol=0.05)
    assert np.array_equal(one.lesion, other.lesion) and one.geometry.same_as(other.geometry)


def test_only_the_slices_of_the_slab_are_decoded(series, lesion, monkeypatch):
    decoded, real = [], imaging_scan.frame_hu
    monkeypatch.setattr(imaging_scan, "frame_hu", lambda frame: decoded.append(frame.path) or real(frame))
    case = cut_case(series, lesion, READING)
    assert sorted(decoded) == sorted(case.files)
    assert len(case.slabs[0].hu) <= len(decoded) <= len(case.slabs[0].hu) + 1 < 12


def test_a_pixel_changed_in_place_is_noticed_where_it_can_reach_the_slab(series, lesion, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(identity, "HEAD_BYTES", 1500)  # these small images would fit into the real one
    scan, folder = copied(series, tmp_path), open_cache(tmp_path / "cache")
    (before,) = load_slabs(scan, lesion, READING, folder)
    hu = before.hu.copy()
    used = {path.name for path in cut_case(scan, lesion, READING).files}
    for name, noticed in ((min(used), True), ("000.dcm", False)):
        assert (name in used) == noticed
        content = bytearray((scan / name).read_bytes())
        content[-3601:-1] = bytes(3600)  # size, UIDs and header stay
        (scan / name).write_bytes(content)
        caplog.clear()
        (after,) = load_slabs(scan, lesion, READING, folder)
        assert ("pixels have changed" in caplog.text) == noticed
    forget_maps()
    assert not np.array_equal(after.hu, hu)
    assert np.array_equal(after.hu, cut_case(scan, lesion, READING).slabs[0].hu)


def test_a_header_or_a_file_more_is_another_scan(series, lesion, tmp_path):
    scan = copied(series, tmp_path)
    keys = [slab_key(scan, lesion, READING)]
    first = scan / "000.dcm"
    first.write_bytes(first.read_bytes().replace(b"B40f", b"B70f"))
    keys.append(slab_key(scan, lesion, READING))
    (scan / "more").write_bytes(b"x")
    keys.append(slab_key(scan, lesion, READING))
    keys.append(slab_key(scan, lesion, replace(READING, lesion=LesionConfig(point_mm=9.0))))
    keys.append(slab_key(scan, "1,2,3", READING))
    keys.append(slab_key(scan, "1,2,4", READING))
    assert len(set(keys)) == 6


def two_lesions(folder):
    far = ball(GEOMETRY, 5.0, (0.5, 0.3, 0.3)).array | ball(GEOMETRY, 3.0, (0.5, 0.75, 0.75)).array
    return write_volume(Volume(far, GEOMETRY), folder / "two.nrrd")


def test_each_lesion_is_a_case_of_its_patient(series, lesion, tmp_path, monkeypatch):
    rows = (Case("A", "P", series, two_lesions(tmp_path)), Case("B", "Q", series, lesion))
    cohort = Cohort(rows, ("mutant",), np.array([[1.0], [0.0]]))
    each = replace(READING, lesion=LesionConfig(lesions="each"))
    made = prepare(cohort, each, cache=tmp_path / "cache", jobs=1)
    monkeypatch.setattr(cache, "cut_case", lambda *_: pytest.fail("cut again"))
    held = prepare(cohort, each, cache=tmp_path / "cache", jobs=1)
    for prepared in (made, held):
        assert [case.case for case in prepared.cohort.cases] == ["A#1", "A#2", "B"]
        assert list(prepared.cohort.patients) == ["P", "P", "Q"]
        assert prepared.cohort.labels[:, 0].tolist() == [1, 1, 0]
        assert np.allclose([slab.diameter_mm for slab in prepared.slabs], [10, 6, 10], atol=0.6)
    monkeypatch.undo()
    largest = prepare(cohort, READING, cache=tmp_path / "cache", jobs=1)
    assert [case.case for case in largest.cohort.cases] == ["A", "B"]
    assert np.array_equal(largest.slabs[0].hu, made.slabs[0].hu)
    taken = Cohort((*rows, Case("A#2", "R", series, lesion)), ("mutant",), np.zeros((3, 1)))
    with pytest.raises(PrepareError, match=r"case 'A#2' stands in the manifest and is also"):
        prepare(taken, each, cache=tmp_path / "cache", jobs=1)


def test_a_lost_second_lesion_is_made_again(series, tmp_path):
    folder = open_cache(tmp_path / "cache")
    each = replace(READING, lesion=LesionConfig(lesions="each"))
    made = load_slabs(series, two_lesions(tmp_path), each, folder)
    made[1].path.unlink()
    assert len(load_slabs(series, two_lesions(tmp_path), each, folder)) == 2 and made[1].path.exists()


def test_diameter_alone_leaves_out_what_was_not_outlined(series, lesion, tmp_path, caplog):
    x, y, z = GEOMETRY.to_lps((np.array(GEOMETRY.shape) - 1) * np.array((0.5, 0.45, 0.55)))
    rows = [Case(f"C{n}", f"P{n}", series, lesion if n < 4 else f"{x},{y},{z}") for n in range(6)]
    cohort = Cohort(tuple(rows), ("mutant",), np.arange(6.0)[:, None] % 2)
    prepared = prepare(cohort, READING, cache=tmp_path / "cache", jobs=1)
    assert [slab.measured for slab in prepared.slabs] == ["outline"] * 4 + ["point"] * 2
    metrics = {"mutant": {"counts": {"cases": 6}, "by_case": {}}}
    _add_diameter_alone(metrics, prepared, seed=0)
    assert metrics["mutant"]["diameter_alone"]["counts"]["cases"] == 4
    assert metrics["mutant"]["diameter_alone"]["by_case"]["auc"]["value"] == 0.5
    assert "2 of 6 lesions were not outlined" in caplog.text


def test_what_readers_note_is_kept_and_said_once(series, tmp_path, monkeypatch, caplog):
    rows = tuple(Case(f"C{n}", f"P{n}", series, two_lesions(tmp_path)) for n in range(3))
    cohort = Cohort(rows, ("mutant",), np.zeros((3, 1)))
    for _ in range(2):  # cut, then from the cache
        caplog.clear()
        prepared = prepare(cohort, READING, cache=tmp_path / "cache", jobs=1)
        assert caplog.text.count("the largest of 2 lesions taken") == 1
        assert "3 of 3 cases, such as C0: the largest of 2 lesions taken" in caplog.text
    prepared.write_excluded(tmp_path)
    assert (tmp_path / "notes.csv").read_text().splitlines()[3].startswith("C2,the largest of 2")
    assert not (tmp_path / "excluded.csv").exists()
