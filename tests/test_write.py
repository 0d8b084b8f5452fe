import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from genomic_vit import Volume, read_lesion, read_scan, write_volume
from genomic_vit.config import UserError
from tests.scans import ball, chest, grid_of, turned


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_what_is_written_is_read_back_where_it_was(suffix, tmp_path):
    scan = chest(grid_of(turned(10, 20), shape=(12, 40, 36)))
    path = write_volume(scan, tmp_path / f"scan{suffix}")
    again = read_scan(path)
    assert again.geometry.same_as(scan.geometry, 1e-3)
    np.testing.assert_allclose(again.array, scan.array, atol=1e-3)
    lesion = ball(scan.geometry, 6.0)
    np.testing.assert_array_equal(
        read_lesion(write_volume(lesion, tmp_path / f"m{suffix}"), like=again).array, lesion.array
    )
    assert not [name for name in tmp_path.iterdir() if name.name.startswith(".")]


def test_nifti_and_itk_readers_see_the_same_place(tmp_path):
    scan = chest(grid_of(turned(10, 20), shape=(12, 40, 36)))
    image = sitk.ReadImage(str(write_volume(scan, tmp_path / "scan.nii.gz")))
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint((3, 5, 7)), scan.geometry.to_lps([7, 5, 3]), atol=1e-3
    )
    header = nib.load(tmp_path / "scan.nii.gz").header
    assert header["qform_code"] == header["sform_code"] == 1
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-4)


def test_unknown_suffix_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"no known image suffix; use one of \.nii \.nii\.gz \.nrrd"):
        write_volume(Volume(np.zeros((2, 2, 2)), grid_of(shape=(2, 2, 2))), tmp_path / "new" / "heat.png")
    assert not (tmp_path / "new").exists()
