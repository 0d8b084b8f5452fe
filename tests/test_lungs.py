"""Whole lungs: found in a real scan and in the phantom, refused in a crop."""

import numpy as np
import pytest

from genomic_vit import Volume, read_scan
from genomic_vit.cohort.phantom_patient import draw_patients
from genomic_vit.cohort.phantom_scanner import render
from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.lesion import LesionOptions, read_lesion, read_lesions, want
from genomic_vit.imaging.scan import open_scan
from tests.scans import AXES, chest, grid_of

LUNG = LesionOptions(field="lung")


@pytest.fixture(scope="module")
def phantom():
    patient = next(p for p in draw_patients(20, 0, 1.0) if p.scanner.slice_mm >= 2)
    return render(patient)


def test_the_phantoms_lungs_hold_its_lesion(phantom):
    scan, lesion = phantom
    (lungs,) = read_lesions("", scan, LUNG)
    assert lungs.measured == "lung" and lungs.name == ""
    found = read_lesion("", scan, LUNG).array
    assert found.sum() == lungs.mask.array.sum()
    assert (found & lesion.array).sum() / lesion.array.sum() > 0.9
    hu = scan.array
    assert ((hu < -600) & found).sum() / (hu[found].size) > 0.8
    assert "lungs found: 1." in lungs.notes[0]


def test_lungs_do_not_depend_on_how_the_array_runs(phantom):
    scan, _ = phantom
    turned = Volume(np.ascontiguousarray(scan.canonical().array), scan.canonical().geometry)
    one, two = (Volume(read_lesion("", v, LUNG).array, v.geometry).canonical() for v in (scan, turned))
    assert (one.array != two.array).mean() < 0.002


def test_both_lungs_of_a_real_scan(shared_data):
    scan = open_scan(shared_data / "lung_dx_a0002", wanted=want("", LUNG))
    (lungs,) = read_lesions("", scan, LUNG)
    volume = scan.read()
    found = read_lesion("", scan, LUNG).array
    litres = found.sum() * np.prod(scan.geometry.spacing_mm) / 1e6
    assert 2.3 < litres < 3.3
    middle = scan.geometry.shape[2] // 2
    assert 0.3 < found[:, :, :middle].sum() / found.sum() < 0.6
    assert np.median(volume.array[found]) < -750
    assert not found[:, :40].any() and not found[:, 430:].any()  # neither the air around nor the table
    assert (volume.array[found] < -500).mean() > 0.85
    assert lungs.share == 1.0


def test_a_crop_of_a_nodule_is_refused(shared_data):
    path = shared_data / "lidc_nodules" / "image" / "LIDC-IDRI-0001_R_1.nii.gz"
    with pytest.raises(LesionError, match=r"LIDC.*covers \d+ × \d+ mm in the plane, a chest needs at least 180 mm"):
        read_lesions("", open_scan(path), LUNG)
    with pytest.raises(LesionError, match="this looks like a crop"):
        read_lesions("", read_scan(path), LUNG)


def body(**air):
    """A body of water with holes of lung, on 5 mm voxels: litres as given."""
    grid = grid_of(AXES, (5.0, 2.5, 2.5), (40, 120, 140))
    hu = np.full(grid.shape, -1000.0, np.float32)
    hu[:, 10:110, 10:130] = 40
    for side, width in air.items():
        first = {"right": 20, "left": 120 - width}[side]
        hu[4:36, 30:90, first : first + width] = -850
    return Volume(hu, grid)


def test_two_lungs_are_found_and_one_alone_is_refused():
    found = read_lesion("", body(right=35, left=35), LUNG).array
    wanted = body(right=35, left=35).array == -850
    assert np.array_equal(found, wanted)
    with pytest.raises(LesionError, match=r"no two plausible lungs found \(2\.10 l, 100% on the right side and 0% on"):
        read_lesion("", body(right=35), LUNG)
    with pytest.raises(LesionError, match=r"0\.00 l.*two lungs hold 0\.4 to 12 l. Give the lesion instead"):
        read_lesion("", body(), LUNG)
    with pytest.raises(LesionError, match=r"0\.24 l.*two lungs hold"):
        read_lesion("", body(right=2, left=2), LUNG)


def test_a_scan_that_is_no_chest_is_refused():
    grid = grid_of(AXES, (5.0, 2.5, 2.5), (30, 100, 100))
    with pytest.raises(LesionError, match="no two plausible lungs found"):
        read_lesion("", chest(grid), LUNG)
