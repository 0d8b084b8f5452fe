"""NIfTI as it really comes: the right voxels at the right places, or a refusal that says what to do."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from genomic_vit import Geometry, Volume, read_scan
from genomic_vit.imaging.errors import ScanError
from genomic_vit.imaging.scan import open_scan
from tests.dicoms import GRID, check_same, lung
from tests.scans import turned

VOLUME = lung(Geometry(GRID.shape, GRID.spacing_mm, GRID.origin_mm, turned(12, 7)))
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_of(geometry):
    """Voxel x y z to RAS mm."""
    affine = np.eye(4)
    affine[:3, :3] = geometry.step_mm[:, ::-1]
    affine[:3, 3] = geometry.origin_mm
    return RAS @ affine


def image_of(volume, kind=np.int16):
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0).astype(kind), affine_of(volume.geometry))
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    return image


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_kinds_of_numbers(kind, suffix, tmp_path):
    nib.save(image_of(VOLUME, kind), tmp_path / f"a{suffix}")
    check_same(read_scan(tmp_path / f"a{suffix}"), VOLUME)


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (0, 2), (1, 1), (1, 4)])
def test_either_matrix_alone_or_both_alike(codes, tmp_path):
    image = image_of(VOLUME)
    image.set_qform(image.affine, codes[0])
    image.set_sform(image.affine, codes[1])
    nib.save(image, tmp_path / "a.nii")
    check_same(read_scan(tmp_path / "a.nii"), VOLUME)


def test_matrices_that_disagree_are_refused_with_their_numbers_and_either_repair_works(tmp_path):
    image, path = image_of(VOLUME), tmp_path / "a.nii.gz"
    moved = image.affine.copy()
    moved[0, 3] += 30
    image.set_qform(moved, 1)
    nib.save(image, path)
    number = f"{moved[0, 3]:.3f}".rstrip("0")
    with pytest.raises(ScanError, match=rf"places the voxels twice, up to 30\.0 mm apart: qform .*{number}.*sform .*"):
        read_scan(path)
    image = nib.load(path)
    image.set_qform(image.get_sform())
    nib.save(image, tmp_path / "b.nii.gz")
    check_same(read_scan(tmp_path / "b.nii.gz"), VOLUME)
    image = nib.load(path)
    image.set_sform(image.get_qform())
    nib.save(image, tmp_path / "c.nii.gz")
    assert abs(read_scan(tmp_path / "c.nii.gz").geometry.origin_mm[0] - (VOLUME.geometry.origin_mm[0] - 30)) < 1e-3


def test_a_header_without_position_is_refused(tmp_path):
    image = image_of(VOLUME)
    image.set_qform(None, 0)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(ScanError, match=r"states no position \(qform_code and sform_code are 0\)"):
        read_scan(tmp_path / "a.nii")


def test_axes_askew_are_refused(tmp_path):
    image = image_of(VOLUME)
    askew = image.affine.copy()
    askew[:3, 2] += 0.2 * askew[:3, 1]
    image.set_qform(None, 0)
    image.set_sform(askew, 1)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(ScanError, match=r"degrees off right angles .a gantry tilt.*Name the DICOM folder"):
        read_scan(tmp_path / "a.nii")


def test_voxels_of_no_ct_are_refused(tmp_path):
    volume = Volume(VOLUME.array, Geometry(GRID.shape, GRID.spacing_mm / 1000, GRID.origin_mm, GRID.direction))
    nib.save(image_of(volume), tmp_path / "a.nii")
    with pytest.raises(ScanError, match=r"voxels of 0\.0025 × 0\.0007 × 0\.0008 mm .*or written in other units"):
        read_scan(tmp_path / "a.nii")


def test_a_part_of_a_file_is_that_part(tmp_path):
    nib.save(image_of(VOLUME), tmp_path / "a.nii.gz")
    part = open_scan(tmp_path / "a.nii.gz").read(3, 5)
    assert np.array_equal(part.array, VOLUME.array[3:6])
    np.testing.assert_allclose(part.geometry.origin_mm, VOLUME.geometry.to_lps(np.array([3, 0, 0])), atol=1e-3)


def test_metres_are_millimetres(tmp_path):
    image = image_of(VOLUME)
    small = image.affine / 1000
    small[3, 3] = 1
    image.set_qform(small, 1)
    image.set_sform(small, 1)
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "a.nii")
    check_same(read_scan(tmp_path / "a.nii"), VOLUME)


@pytest.mark.parametrize("flips", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_ras_and_lps_storage_agree_with_itk(flips, tmp_path):
    affine = affine_of(GRID) @ np.diag([*flips, 1, 1.0])
    affine[:3, 3] -= affine[:3, :2] @ [(size - 1) * (flip < 0) for size, flip in zip((44, 40), flips, strict=True)]
    array = lung().array.transpose(2, 1, 0)[:: flips[0], :: flips[1]]
    image = nib.Nifti1Image(array.astype(np.int16), affine)
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "a.nii.gz")
    check_same(read_scan(tmp_path / "a.nii.gz"), lung())
    other, read = sitk.ReadImage(str(tmp_path / "a.nii.gz")), read_scan(tmp_path / "a.nii.gz")
    place = other.TransformIndexToPhysicalPoint((3, 5, 7))
    np.testing.assert_allclose(read.geometry.to_lps(np.array([7, 5, 3])), place, atol=1e-3)
    assert read.array[7, 5, 3] == other[3, 5, 7]


def test_padding_becomes_air_as_in_dicom(tmp_path):
    array = VOLUME.array.copy()
    array[:, :5], array[:, 5:7] = -3024, -2000
    nib.save(image_of(Volume(array, VOLUME.geometry)), tmp_path / "a.nii")
    check_same(read_scan(tmp_path / "a.nii"), Volume(np.maximum(array, -1024), VOLUME.geometry))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_gzip_cut_short_is_refused(share, tmp_path):
    path = tmp_path / "a.nii.gz"
    nib.save(image_of(VOLUME), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ScanError, match=r"cannot be read .*damaged or cut short"):
        read_scan(path)


def test_a_gzip_with_one_wrong_byte_is_refused(tmp_path):
    """nibabel alone would not notice: it stops before gzip's checksum."""
    path = tmp_path / "a.nii.gz"
    raw = bytearray(image_of(VOLUME).to_bytes())
    whole = gzip.compress(bytes(raw), compresslevel=0)
    at = len(whole) // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
    nib.load(path).get_fdata()
    with pytest.raises(ScanError, match=r"cannot be read .*CRC"):
        read_scan(path)
