"""Readers: the same voxels at the same places whatever the format, and bad files refused in words."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from genomic_vit import Geometry, Volume, read_lesion, read_scan, write_volume
from genomic_vit.imaging.read import LesionError, ScanError
from tests.scans import ball, chest, grid_of, turned

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")
SMALL = grid_of(turned(15, 10), shape=(12, 40, 44))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_scan_comes_back_as_it_was_written(suffix, tmp_path):
    scan = chest(SMALL)
    read = read_scan(write_volume(scan, tmp_path / f"scan{suffix}"))
    np.testing.assert_allclose(read.array, scan.array, atol=1e-3)
    assert read.geometry.same_as(SMALL, 1e-3)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_positions_are_those_of_simpleitk(suffix, tmp_path):
    write_volume(chest(SMALL), tmp_path / f"scan{suffix}")
    image, read = sitk.ReadImage(str(tmp_path / f"scan{suffix}")), read_scan(tmp_path / f"scan{suffix}")
    for z, y, x in ((0, 0, 0), (3, 20, 7), (11, 39, 43)):
        wanted = image.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose(read.geometry.to_lps(np.array([z, y, x])), wanted, atol=1e-3)
        assert abs(read.array[z, y, x] - image[x, y, z]) < 1e-3


def test_slope_and_intercept_of_nifti_count(tmp_path):
    image = nib.Nifti1Image((chest(SMALL).array + 1024).astype(np.int16).transpose(2, 1, 0), np.eye(4))
    image.header.set_slope_inter(1.0, -1024.0)
    nib.save(image, tmp_path / "scan.nii")
    raw = np.asarray(image.dataobj)
    assert np.array_equal(read_scan(tmp_path / "scan.nii").array, nib.load(tmp_path / "scan.nii").get_fdata().T)
    assert raw.max() > 500


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_truncated_file_is_refused(suffix, tmp_path):
    path = write_volume(chest(SMALL), tmp_path / f"scan{suffix}")
    cut_short(path)
    with pytest.raises(ScanError, match=r"cannot be read .*damaged or cut short; copy or convert it again"):
        read_scan(path)


def nifti(array, path):
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def spoilt(value):
    array = chest(SMALL).array.copy()
    array[0, 0, :3] = value
    return Volume(array, SMALL)


BAD_SCANS = {
    "no such file": (lambda p: p / "gone.nii.gz", "gone.nii.gz: no such file or folder; check the path"),
    "no image": (lambda p: [(p / "a.txt").write_text("x"), p / "a.txt"][1], "not an image format known here; use .nii"),
    "unreadable": (lambda p: [(p / "a.nrrd").write_text("x"), p / "a.nrrd"][1], "cannot be read"),
    "four dimensions": (lambda p: nifti(np.zeros((4, 5, 6, 2), np.float32), p / "a.nii"), r"shape \(4, 5, 6, 2\)"),
    "NaN": (lambda p: write_volume(spoilt(np.nan), p / "a.nii"), "3 of 21120 voxels are NaN.*replace them by -1024"),
    "beyond CT": (lambda p: write_volume(spoilt(5e4), p / "a.nii"), "not a chest CT in HU"),
    "scaled to one": (
        lambda p: write_volume(Volume((chest(SMALL).array + 1024) / 2048, SMALL), p / "a.nii"),
        "values run from .* not a chest CT in HU .*rescale slope and intercept",
    ),
    "one grey": (lambda p: nifti(np.full((4, 5, 6), -1000, np.float32), p / "a.nii"), "not a chest CT in HU"),
    "empty folder": (lambda p: p, r"holds no DICOM series \(.*\); name a folder with the CT images, or an image file"),
}


@pytest.mark.parametrize("what", BAD_SCANS)
def test_a_bad_scan_is_refused_in_words(what, tmp_path):
    make, message = BAD_SCANS[what]
    with pytest.raises(ScanError, match=message):
        read_scan(make(tmp_path))


def test_a_single_volume_stored_as_four_dimensions_is_read(tmp_path):
    array = chest(SMALL).array.transpose(2, 1, 0)[..., None]
    assert read_scan(nifti(array, tmp_path / "a.nii")).array.shape == SMALL.shape


def test_an_empty_mask_is_refused(tmp_path):
    path = write_volume(Volume(np.zeros(SMALL.shape, dtype=bool), SMALL), tmp_path / "mask.nii.gz")
    with pytest.raises(LesionError, match=r"the mask is empty .*draw the lesion"):
        read_lesion(path, like=chest(SMALL))


def test_a_mask_of_another_place_is_refused(tmp_path):
    away = Geometry(SMALL.shape, SMALL.spacing_mm, SMALL.origin_mm + 500, SMALL.direction)
    path = write_volume(ball(away, 5.0), tmp_path / "mask.nrrd")
    with pytest.raises(LesionError, match="0% of the lesion lies in the scan, at least half is needed"):
        read_lesion(path, like=chest(SMALL))


def test_a_mask_on_another_grid_lands_on_the_same_place(tmp_path):
    fine = grid_of(SMALL.direction, (1.0, 0.5, 0.5), (30, 56, 62))
    path = write_volume(ball(fine, 6.0), tmp_path / "mask.mha")
    lesion = read_lesion(path, like=chest(SMALL))
    assert lesion.geometry is not fine and lesion.array.shape == SMALL.shape
    here = SMALL.positions_mm()[lesion.array].mean(axis=0)
    there = fine.positions_mm()[ball(fine, 6.0).array].mean(axis=0)
    assert np.linalg.norm(here - there) < 0.5


def test_a_lesion_that_vanishes_between_voxels_is_refused(tmp_path):
    fine = grid_of(SMALL.direction, (0.5, 0.1, 0.1), (30, 60, 60))
    array = np.zeros(fine.shape, dtype=bool)
    array[2, 2, 2] = True
    path = write_volume(Volume(array, fine), tmp_path / "mask.nii")
    with pytest.raises(LesionError, match="vanishes on the scan's grid"):
        read_lesion(path, like=chest(SMALL))


def test_a_real_dicom_series_reads_and_a_missing_slice_is_named(shared_data, tmp_path):
    found = {}
    for folder in sorted({path.parent for path in (shared_data / "lung_dx_a0002").rglob("*.dcm")}):
        for series in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            found[series] = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series)
    assert len(found) == 2
    for number, names in enumerate(found.values()):
        place = tmp_path / str(number)
        place.mkdir()
        for i, name in enumerate(names):
            (place / f"{number}-{i:03}.dcm").symlink_to(name)
    scan = read_scan(tmp_path / "0")
    assert scan.array.shape == (30, 512, 512)
    np.testing.assert_allclose(scan.geometry.spacing_mm[0], 8.0, atol=0.01)
    (tmp_path / "0" / "0-010.dcm").unlink()
    with pytest.raises(ScanError, match=r"slices lie 8\.00 to 16\.00 mm apart"):
        read_scan(tmp_path / "0")


def test_a_lesion_partly_outside_the_scan_is_cut_aloud(tmp_path, caplog):
    grid = grid_of()
    half = ball(grid, 9.0, place=(0.5, 0.45, 1.0))  # its centre on the scan's last column
    wide = Geometry((24, 100, 120), grid.spacing_mm, grid.origin_mm, grid.direction)
    centre = grid.to_lps((np.array(grid.shape) - 1) * np.array((0.5, 0.45, 1.0)))
    whole = Volume(np.linalg.norm(wide.positions_mm() - centre, axis=-1) <= 9.0, wide)
    write_volume(whole, tmp_path / "lesion.nrrd")
    np.testing.assert_array_equal(read_lesion(tmp_path / "lesion.nrrd", like=chest(grid)).array, half.array)
    assert "% of the lesion lies outside the scan and is left out" in caplog.text
