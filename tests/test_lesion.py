"""The door to lesions: mask images and label maps, several lesions, borders, and which kind of file is which."""

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from genomic_vit import Geometry, Volume, read_lesion, write_volume
from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.lesion import LesionOptions, read_lesions, want
from genomic_vit.imaging.pieces import pieces
from tests.dicom_lesions import make_rtstruct, make_seg, saved, scan_of, slices_of
from tests.scans import AXES, ball, grid_of, stored

GRID = grid_of(AXES, (2.0, 0.8, 0.8), (20, 50, 60))
SCAN = scan_of(GRID, None)


def blocks(*places):
    """A mask of blocks 4 × 10 × 10 at the given first voxels; the second and later ones shrink."""
    mask = np.zeros(GRID.shape, dtype=bool)
    for k, (z, y, x) in enumerate(places):
        mask[z : z + 4, y : y + 10 - 2 * k, x : x + 10 - 2 * k] = True
    return mask


THREE = blocks((2, 5, 5), (8, 5, 30), (14, 30, 30))


def write(path, array, grid=GRID):
    return write_volume(Volume(array, grid), path)


def whole(lesion):
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[tuple(slice(a, a + n) for a, n in zip(lesion.first, lesion.mask.array.shape, strict=True))] = lesion.mask.array
    return mask


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_mask_of_one_value_is_the_lesion(value, suffix, tmp_path):
    path = write(tmp_path / f"mask{suffix}", (THREE * value).astype(np.uint8))
    assert np.array_equal(read_lesion(path, SCAN).array, THREE)


def test_the_largest_lesion_is_taken_aloud_or_each_in_turn(tmp_path, caplog):
    mask = THREE.copy()
    mask[19, 49, 0] = mask[18, 2, 58] = True  # specks of 1.3 mm³
    path = write(tmp_path / "mask.nii.gz", mask)
    (lesion,) = read_lesions(path, SCAN)
    assert np.array_equal(whole(lesion), blocks((2, 5, 5))) and lesion.name == ""
    assert lesion.first == (2, 5, 5) and lesion.mask.array.shape == (4, 10, 10) and lesion.mask.array.all()
    np.testing.assert_allclose(lesion.mask.geometry.origin_mm, GRID.to_lps(np.array([2, 5, 5])))
    said = "the largest of 3 lesions taken (0.51 ml; left: 0.33, 0.18 ml); --lesions each makes a case of each"
    assert said in lesion.notes and said in caplog.text
    assert "2 specks smaller than a ball of 3 mm left out" in lesion.notes
    each = read_lesions(path, SCAN, LesionOptions(lesions="each"))
    assert [lesion.name for lesion in each] == ["1", "2", "3"]
    assert np.array_equal(np.any([whole(lesion) for lesion in each], axis=0), THREE)
    assert [lesion.mask.array.sum() for lesion in each] == [400, 256, 144]
    assert not any("largest of" in note for note in each[0].notes)


def test_pieces_that_touch_at_a_corner_are_one():
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[:3, :3, :3] = mask[3:, 3:, 3:] = True
    assert len(pieces(mask, 1.0)[0]) == 1
    mask[2, 2, 2] = False
    assert [piece.volume_mm3 for piece in pieces(mask, 1.0)[0]] == [27.0, 26.0]
    tiny = np.zeros((5, 5, 5), dtype=bool)
    tiny[0, 0, 0] = tiny[4, 4, 4] = True
    found, specks = pieces(tiny, 1.0)
    assert len(found) == 1 and specks == 1  # a lesion of specks alone keeps its largest


def test_a_label_is_chosen_by_its_number(tmp_path):
    labels = THREE.astype(np.int16) * 1
    labels[8:12, 5:15, 30:40] *= 3
    labels[14:18, 30:40, 30:40] *= 7
    path = write(tmp_path / "labels.nii.gz", labels)
    assert np.array_equal(read_lesion(path, SCAN, LesionOptions(roi="3")).array, labels == 3)
    assert np.array_equal(read_lesion(path, SCAN).array, labels > 0)
    assert "labels 1, 3, 7 taken together; --roi takes one" in read_lesions(path, SCAN)[0].notes
    with pytest.raises(LesionError, match=r"no label that draws something is '2'; found: 1, 3, 7\. Choose with --roi"):
        read_lesion(path, SCAN, LesionOptions(roi="2"))


def test_a_name_means_nothing_in_a_mask_of_one_label(tmp_path):
    """A manifest may mix masks and RTSTRUCTs under one --roi."""
    path = write(tmp_path / "mask.nii.gz", THREE)
    assert np.array_equal(read_lesion(path, SCAN, LesionOptions(roi="GTV*")).array, THREE)


def test_segments_of_3d_slicer_have_names(tmp_path):
    image = sitk.GetImageFromArray(THREE.astype(np.uint8))
    array = sitk.GetArrayFromImage(image)
    array[8:12] *= 2
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(GRID.spacing_mm[::-1].tolist())
    image.SetOrigin(GRID.origin_mm.tolist())
    for number, name in enumerate(("Tumour left", "Node"), start=1):
        image.SetMetaData(f"Segment{number - 1}_Name", name)
        image.SetMetaData(f"Segment{number - 1}_LabelValue", str(number))
    sitk.WriteImage(image, str(tmp_path / "a.seg.nrrd"))
    assert np.array_equal(read_lesion(tmp_path / "a.seg.nrrd", SCAN, LesionOptions(roi="node")).array, array == 2)


def test_fractions_are_taken_above_zero_and_said(tmp_path):
    values = np.where(THREE, 0.3, 0).astype(np.float32)
    values[2, 5, 5] = 0.9
    path = write(tmp_path / "mask.nii.gz", values)
    assert np.array_equal(read_lesion(path, SCAN).array, THREE)
    assert "holds fractions (0.3 to 0.9): every voxel above 0 taken" in read_lesions(path, SCAN)[0].notes
    with pytest.raises(LesionError, match="not labels, so --roi 1 means nothing in it"):
        read_lesion(path, SCAN, LesionOptions(roi="1"))


def test_nan_in_a_mask_is_no_lesion(tmp_path):
    values = np.where(THREE, 1.0, np.nan).astype(np.float32)
    nib.save(nib.Nifti1Image(values.transpose(2, 1, 0), np.diag([-0.8, -0.8, 2.0, 1.0])), tmp_path / "mask.nii.gz")
    grid = Geometry(GRID.shape, GRID.spacing_mm, np.zeros(3), AXES)
    assert np.array_equal(read_lesion(tmp_path / "mask.nii.gz", scan_of(grid, None)).array, THREE)


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (1, 0, 0)), ((2, 1, 0), (0, 1, 1)), ((1, 2, 0), (1, 1, 0))])
def test_a_mask_stored_along_other_axes_is_the_same_voxels(order, flips, tmp_path):
    path = write_volume(stored(Volume(THREE, GRID), order, tuple(map(bool, flips))), tmp_path / "mask.nii.gz")
    assert np.array_equal(read_lesion(path, SCAN).array, THREE)


def test_a_crop_of_the_grid_is_put_back_exactly(tmp_path):
    crop = Geometry((6, 14, 12), GRID.spacing_mm, GRID.to_lps(np.array([1, 4, 3])), GRID.direction)
    path = write(tmp_path / "mask.mha", THREE[1:7, 4:18, 3:15], crop)
    assert np.array_equal(read_lesion(path, SCAN).array, blocks((2, 5, 5)))
    np.testing.assert_allclose(GRID.to_index(want(path).points_mm).mean(0), [3.5, 10.5, 8.5], atol=1e-3)


def test_a_fine_mask_on_a_coarse_scan_keeps_place_and_size(tmp_path):
    fine = grid_of(AXES, (0.7, 0.4, 0.4), (57, 100, 120))
    mask = ball(fine, 8.0)
    (lesion,) = read_lesions(write_volume(mask, tmp_path / "mask.nrrd"), SCAN)
    here = GRID.positions_mm()[whole(lesion)].mean(0)
    there = fine.positions_mm()[mask.array].mean(0)
    assert np.linalg.norm(here - there) < 0.1
    assert lesion.mask.array.sum() * np.prod(GRID.spacing_mm) == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.04)


def test_what_lies_outside_or_on_the_border_is_said(tmp_path):
    shifted = Geometry(GRID.shape, GRID.spacing_mm, GRID.to_lps(np.array([-4, 0, 0])), GRID.direction)
    path = write(tmp_path / "mask.nii.gz", blocks((3, 5, 5)), shifted)
    (lesion,) = read_lesions(path, SCAN)
    assert lesion.first == (0, 5, 5) and lesion.mask.array.shape == (3, 10, 10) and lesion.mask.array.all()
    assert lesion.share == pytest.approx(0.75)
    assert lesion.notes == (
        "25.0 % of the lesion lies outside the scan and is left out",
        "touches the border of the scan (first slice) and may be cut off there",
    )


def test_files_are_told_apart_by_what_they_hold(tmp_path, recwarn):
    slices = slices_of(GRID)
    scan = scan_of(GRID, slices)
    folder = tmp_path / "patient"
    (folder / "ct").mkdir(parents=True)
    for k, image in enumerate(slices[:3]):
        saved(image, folder / "ct" / str(k))
    saved(make_seg(slices, {"a": THREE}), folder / "no suffix")
    assert np.array_equal(read_lesion(folder, scan).array, THREE)
    with pytest.raises(LesionError, match="is a DICOM file of the kind CT Image Storage; a lesion is a mask image"):
        read_lesion(folder / "ct" / "0", scan)
    with pytest.raises(LesionError, match="a folder without SEG or RTSTRUCT; a lesion is"):
        read_lesion(folder / "ct", scan)
    outline = GRID.to_lps(np.array([(3, 4.5, 4.5), (3, 4.5, 14.5), (3, 14.5, 14.5)]))
    saved(make_rtstruct({"GTV": [outline]}, slices), folder / "other")
    with pytest.raises(LesionError, match=r"holds 2 SEG and RTSTRUCT files \(no suffix \(SEG\), other \(RTSTRUCT\)\)"):
        read_lesion(folder, scan)
    spoilt = bytearray((folder / "no suffix").read_bytes())
    spoilt[spoilt.index(b"\x08\x00\x16\x00UI") + 4] = 0  # the SOP class is of no known representation
    (tmp_path / "spoilt").write_bytes(bytes(spoilt))
    with pytest.raises(LesionError, match="is a DICOM file of no known kind; a lesion is a mask image") as said:
        read_lesion(tmp_path / "spoilt", scan)
    assert "Doe" not in str(said.value) and not recwarn.list  # pydicom's words would quote the header
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(LesionError, match="is no format known here; a lesion is a mask image"):
        read_lesion(tmp_path / "notes.txt", scan)


def test_reading_a_mask_does_not_wait_for_highdicom(tmp_path):
    write(tmp_path / "mask.nii.gz", THREE)
    code = (
        "import sys; from genomic_vit.imaging.lesion import want; "
        f"want({str(tmp_path / 'mask.nii.gz')!r}); print('highdicom' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_border_is_said_of_the_lesion_that_touches_it(tmp_path):
    path = write(tmp_path / "mask.nii.gz", blocks((2, 5, 5), (16, 5, 52)))
    (largest,) = read_lesions(path, SCAN)
    assert not any("border" in note for note in largest.notes)
    first, second = read_lesions(path, SCAN, LesionOptions(lesions="each"))
    assert first.notes == ()
    assert second.notes == ("touches the border of the scan (last slice, last column) and may be cut off there",)
