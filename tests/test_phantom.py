"""The phantom cohort: reproducible, readable, and label and looks linked by nothing but the phenotype."""

import csv
from dataclasses import astuple, replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from genomic_vit.cohort import phantom
from genomic_vit.cohort.manifest import read_manifest
from genomic_vit.cohort.phantom import make_phantom
from genomic_vit.cohort.phantom_canvas import blank_canvas, paint, tube
from genomic_vit.cohort.phantom_lesion import REACH, shape_lesion, sphere_points
from genomic_vit.cohort.phantom_patient import FEATURES, PAIR_SPREAD_MM, WILD_TYPE_FEATURES, Phenotype, draw_patients
from genomic_vit.cohort.phantom_scanner import expose, render
from genomic_vit.config import UserError
from genomic_vit.imaging.read import read_lesion, read_scan

PATIENTS = 6
PLAIN = Phenotype(0, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_phantom(tmp_path_factory.mktemp("phantom") / "cohort", PATIENTS, seed=3, jobs=1)


def rows(manifest):
    with manifest.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def features(patients):
    """Features present, (patient feature) 0/1, and labels (patient,)."""
    present = np.array([np.array(astuple(patient.phenotype)) > 0 for patient in patients])
    return present, np.array([patient.mutant for patient in patients])


def log_odds_auc(patients):
    present, mutant = features(patients)
    sign = np.array([-1 if name in WILD_TYPE_FEATURES else 1 for name in FEATURES])
    return roc_auc_score(mutant, (present * 2 - 1) @ (sign * np.log(0.88 / 0.12)))


def test_files_are_what_the_manifest_says(cohort):
    read = read_manifest(cohort, ("mutant",))
    assert len(read.cases) == PATIENTS and read.labels.sum() == PATIENTS // 2
    for case, row in zip(read.cases, rows(cohort), strict=True):
        scan = read_scan(case.scan)
        lesion = read_lesion(case.lesion, scan)
        assert not {"", None} & set(row.values()) and set(FEATURES) < set(row)
        assert scan.geometry.same_as(lesion.geometry)
        extent_mm = np.array(scan.geometry.shape) * scan.geometry.spacing_mm
        np.testing.assert_allclose(extent_mm, (65, 220, 300), atol=7)
        assert scan.geometry.spacing_mm[0] == pytest.approx(float(row["slice_mm"]))
        volume_mm3 = lesion.array.sum() * scan.geometry.spacing_mm.prod()
        assert (6 / np.pi * volume_mm3) ** (1 / 3) == pytest.approx(float(row["diameter_mm"]), rel=0.03)
        touched = np.flatnonzero(lesion.array.any(axis=(1, 2)))
        assert touched[0] > 0 and touched[-1] < lesion.array.shape[0] - 1


def test_same_seed_same_cohort_whatever_the_jobs(cohort, tmp_path):
    again = make_phantom(tmp_path / "again", PATIENTS, seed=3, jobs=2)
    assert again.read_bytes() == cohort.read_bytes()
    for row in rows(cohort):
        here, there = (read_scan(manifest.parent / row["scan"]) for manifest in (cohort, again))
        np.testing.assert_array_equal(here.array, there.array)
        assert here.geometry.same_as(there.geometry, 0.0)
        masks = [read_lesion(m.parent / row["lesion"], here).array for m in (cohort, again)]
        np.testing.assert_array_equal(*masks)


def test_another_seed_is_another_cohort():
    one, other = (draw_patients(4, seed, 1.0) for seed in (0, 1))
    assert all(a.scanner != b.scanner and a.diameter_mm != b.diameter_mm for a, b in zip(one, other, strict=True))
    same_looks = [render(replace(p, phenotype=PLAIN, scanner=one[0].scanner))[0].array for p in (one[0], other[0])]
    assert np.mean(same_looks[0][:5] == same_looks[1][:5]) < 0.2


@pytest.mark.parametrize("count", [2, 7, 120])
def test_half_are_mutant_and_sizes_are_matched_in_pairs(count):
    patients = draw_patients(count, 5, 1.0)
    mutant = np.array([patient.mutant for patient in patients])
    diameter_mm = np.array([patient.diameter_mm for patient in patients])
    assert mutant.sum() == count // 2 and diameter_mm.min() >= 10 and diameter_mm.max() <= 26
    nearest = np.abs(diameter_mm[mutant][:, None] - diameter_mm[~mutant]).min(axis=1)
    assert nearest.max() <= PAIR_SPREAD_MM
    assert count < 100 or abs(roc_auc_score(mutant, diameter_mm) - 0.5) < 0.05
    assert count < 100 or len({*np.flatnonzero(mutant) % 2}) == 2  # shuffled, not alternating


def test_lobes_change_the_form_and_not_the_volume():
    units = sphere_points(20000, np.random.default_rng(9))
    for seed in range(20):
        for lobulation in (0.0, 0.5, 1.0):
            rng = np.random.default_rng(seed)
            lesion = shape_lesion(np.zeros(3), np.ones(3), 16.0, lobulation, rng)
            radius_mm = lesion.radius_mm(units)
            assert 2 * (radius_mm**3).mean() ** (1 / 3) == pytest.approx(16.0, rel=0.003)
            assert lesion.stretch.prod() == pytest.approx(1)
            assert np.linalg.norm(radius_mm[:, None] * units * lesion.stretch, axis=1).max() < REACH * 8
        assert radius_mm.std() > 0.4


def test_looks_do_not_change_the_masked_volume():
    patient = draw_patients(2, 1, 1.0)[0]
    all_looks = Phenotype(*[1.0] * len(FEATURES))
    plain, full = (render(replace(patient, phenotype=looks))[1].array.mean() for looks in (PLAIN, all_looks))
    assert full == pytest.approx(plain, rel=0.03)


def test_nothing_but_the_looks_knows_the_signal_or_the_label():
    with_signal, without = (draw_patients(40, 7, signal) for signal in (1.0, 0.0))
    for one, other in zip(with_signal, without, strict=True):
        assert replace(one, phenotype=PLAIN) == replace(other, phenotype=PLAIN)
    patient = with_signal[0]
    scans = [render(replace(patient, mutant=mutant))[0].array for mutant in (True, False)]
    np.testing.assert_array_equal(*scans)


def test_far_from_the_lesion_the_looks_leave_every_voxel_alone():
    patient = replace(draw_patients(2, 2, 1.0)[0], diameter_mm=10.0)
    (plain, lesion), (full, _) = (
        render(replace(patient, phenotype=looks)) for looks in (PLAIN, Phenotype(*[1.0] * len(FEATURES)))
    )
    away_mm = np.linalg.norm(
        plain.geometry.positions_mm() - plain.geometry.to_lps(np.argwhere(lesion.array).mean(axis=0)), axis=-1
    )
    changed = plain.array != full.array
    assert changed[away_mm < 10].mean() > 0.2 and not changed[away_mm > 45].any()


def test_features_follow_the_signal():
    present, mutant = features(draw_patients(400, 0, 1.0))
    rate = {name: (present[mutant, k].mean(), present[~mutant, k].mean()) for k, name in enumerate(FEATURES)}
    assert rate["ground_glass"][0] > 0.8 and rate["ground_glass"][1] < 0.2
    assert rate["emphysema"][0] < 0.2 and rate["emphysema"][1] > 0.8
    present, mutant = features(draw_patients(2000, 0, 0.0))
    gap = present[mutant].mean(axis=0) - present[~mutant].mean(axis=0)
    assert np.abs(gap).max() < 4 * np.sqrt(0.25 / 500)  # four standard errors of a difference of 1000 and 1000
    assert log_odds_auc(draw_patients(400, 0, 1.0)) > 0.9
    assert 0.4 < log_odds_auc(draw_patients(400, 0, 0.0)) < 0.6


def test_thick_slices_average_thin_ones():
    thin, thick = (blank_canvas(1.2, slice_mm, 60.0, -30.0) for slice_mm in (1.0, 3.0))
    scanner = replace(draw_patients(2, 0, 1.0)[0].scanner, noise_hu=0.0, kernel="soft", pixel_mm=1.2)
    shown = []
    for canvas in (thin, thick):
        canvas.hu[...] = canvas.z_mm[:, None, None] * 10  # HU of its own height
        shown.append(expose(canvas, scanner, np.random.default_rng(0)).astype(float))
    np.testing.assert_allclose(shown[0].reshape(20, 3, *shown[0].shape[1:]).mean(axis=1), shown[1], atol=1)  # rounding


@pytest.mark.parametrize("kernel", ["soft", "sharp"])
def test_noise_is_as_strong_as_declared(kernel):
    canvas = blank_canvas(1.2, 3.0, 60.0, -30.0)
    canvas.hu[...] = 0
    scanner = replace(draw_patients(2, 0, 1.0)[0].scanner, noise_hu=20.0, kernel=kernel, pixel_mm=1.2)
    assert expose(canvas, scanner, np.random.default_rng(0)).std() == pytest.approx(20, rel=0.02)


def test_a_tube_lies_where_it_was_put():
    canvas = blank_canvas(1.0, 1.0, 60.0, -30.0)
    canvas.hu[...] = 0
    paint(canvas, *tube(canvas, (-40.0, 30.0, 0.0), (-40.0, 30.0, 20.0), (4.0, 4.0)), 100.0)
    z, y, x = np.nonzero(canvas.hu > 50)
    centre = canvas.x_mm[x].mean(), canvas.y_mm[y].mean(), canvas.z_mm[z].mean()
    np.testing.assert_allclose(centre, (-40, 30, 10), atol=0.1)
    volume_mm3 = canvas.hu.sum() / 100 / 2  # fine slices are half a millimetre
    assert volume_mm3 == pytest.approx(np.pi * 16 * (20 + 4 / 3 * 4), rel=0.02)


def test_both_orientations_show_the_same_patient():
    patient = draw_patients(2, 4, 1.0)[0]
    lps, ras = (
        render(replace(patient, scanner=replace(patient.scanner, orientation=orientation)))[0]
        for orientation in ("LPS", "RAS")
    )
    assert lps.geometry.direction[0, 2] == 1 and ras.geometry.direction[0, 2] == -1
    assert not np.array_equal(lps.array, ras.array)
    np.testing.assert_array_equal(lps.array, ras.canonical().array)
    assert lps.geometry.same_as(ras.canonical().geometry, 1e-9)


def test_progress_counts_and_an_empty_folder_is_taken(tmp_path):
    seen = []
    (tmp_path / "c").mkdir()
    make_phantom(tmp_path / "c", 2, progress=lambda done, total: seen.append((done, total)), jobs=1)
    assert seen == [(1, 2), (2, 2)]


def test_refuses_what_it_cannot_do(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty.*Name another"):
        make_phantom(tmp_path, 2)
    with pytest.raises(UserError, match="is a file"):
        make_phantom(tmp_path / "notes.txt", 2)
    with pytest.raises(UserError, match="at least 2"):
        make_phantom(tmp_path / "one", 1)
    with pytest.raises(UserError, match="seed is -1"):
        make_phantom(tmp_path / "one", 2, seed=-1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_another_command_filled_meanwhile_is_refused(tmp_path):
    def fill(done, total):
        (tmp_path / "c").mkdir(exist_ok=True)
        (tmp_path / "c/theirs").write_text("theirs")

    with pytest.raises(UserError, match=r"c: is not empty.*Name another"):
        make_phantom(tmp_path / "c", 2, progress=fill, jobs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["c"] and (tmp_path / "c/theirs").is_file()


@pytest.mark.filterwarnings("ignore:.*have been cancelled.*")
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_run_leaves_nothing(tmp_path, jobs):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_phantom(tmp_path / "cohort", 4, progress=interrupt, jobs=jobs)
    assert not list(tmp_path.iterdir())


def test_a_failed_patient_leaves_nothing(tmp_path, monkeypatch):
    def fail(patient):
        raise OSError("disk full")

    monkeypatch.setattr(phantom, "render", fail)
    with pytest.raises(OSError, match="disk full"):
        make_phantom(tmp_path / "deep" / "cohort", 2, jobs=1)
    assert not list((tmp_path / "deep").iterdir())
