"""Series as they really come: the right voxels at the right places, or the exact refusal."""

import shutil
from pathlib import Path

import gdcm
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.fileset import FileSet
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from genomic_vit import Geometry, Volume, read_scan
from genomic_vit.imaging import header
from genomic_vit.imaging.elements import plain_elements
from genomic_vit.imaging.errors import ScanError
from genomic_vit.imaging.header import read_header
from genomic_vit.imaging.pixels import frame_hu
from genomic_vit.imaging.scan import open_scan
from tests.dicoms import GRID, check_same, compress, ct_header, lung, uid, write_frames, write_series
from tests.scans import turned

LUNG = lung()


def changed(**values):
    """An edit that sets values on every image."""

    def edit(image, k):
        for keyword, value in values.items():
            setattr(image, keyword, value)

    return edit


def own_rescale(image, k):
    image.RescaleSlope, image.RescaleIntercept = [1, 2, 0.5][k % 3], -1000 - 7 * k
    image.BitsAllocated = 16


def syntax(uid):
    def edit(image, k):
        image.file_meta = type(image.file_meta)()
        image.file_meta.TransferSyntaxUID = uid

    return edit


def twelve_bits(image, k):
    """Unsigned 12 of 16 bits, an old overlay plane in the bits above."""
    image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 0
    values = np.round(image.hu + 1024).astype("<u2") | np.uint16(0x5000)
    image.PixelData = values.tobytes()


def shuffled_numbers(image, k):
    image.InstanceNumber = GRID.shape[0] - k
    image.SliceLocation = 1000 + 3.3 * k


SAME = {
    "a clean folder": {},
    "reversed InstanceNumber, false SliceLocation": {"edit": shuffled_numbers},
    "SliceThickness below the spacing": {"edit": changed(SliceThickness=0.6)},
    "SliceThickness above the spacing": {"edit": changed(SliceThickness=5)},
    "a header that lies about gantry tilt": {"edit": changed(GantryDetectorTilt=20)},
    "rescale of each slice its own": {"edit": own_rescale},
    "unsigned": {"edit": changed(PixelRepresentation=0, RescaleIntercept=-2000)},
    "twelve bits with an overlay above": {"edit": twelve_bits},
    "no suffix": {"name": "IM{k:06}"},
    "names that sort backwards": {"name": "{k}"},
    "implicit VR": {"edit": syntax(ImplicitVRLittleEndian)},
    "big endian": {"edit": syntax(ExplicitVRBigEndian)},
    "deflated": {"edit": syntax(DeflatedExplicitVRLittleEndian)},
    "no acquisition number, number, kernel or description": {
        "edit": lambda image, k: [delattr(image, key) for key in ("SeriesNumber", "ConvolutionKernel", "KVP")] and None
    },
}


@pytest.mark.parametrize("hazard", SAME)
def test_the_right_voxels_are_read(hazard, tmp_path):
    if hazard == "big endian":

        def edit(image, k):
            SAME[hazard]["edit"](image, k)
            image.PixelData = np.round(image.hu + 1024).astype(">i2").tobytes()

        write_series(tmp_path, LUNG, edit)
    else:
        write_series(tmp_path, LUNG, **SAME[hazard])
    check_same(read_scan(tmp_path), LUNG)


DIRECTIONS = {
    "oblique": turned(20, 15),
    "prone": GRID.direction * np.array([1, -1, -1]),
    "feet first": GRID.direction * np.array([-1, 1, -1]),
    "left handed": GRID.direction * np.array([-1, 1, 1]),
}


@pytest.mark.parametrize("name", DIRECTIONS)
def test_directions_are_kept(name, tmp_path):
    volume = lung(Geometry(GRID.shape, GRID.spacing_mm, GRID.origin_mm, DIRECTIONS[name]))
    write_series(tmp_path, volume)
    check_same(read_scan(tmp_path), volume)


ENCODED = {
    "JPEG lossless, first-order": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "JPEG lossless": gdcm.TransferSyntax.JPEGLosslessProcess14,
    "JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEG 2000": gdcm.TransferSyntax.JPEG2000Lossless,
    "RLE": gdcm.TransferSyntax.RLELossless,
}


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("name", ENCODED)
def test_compressed_slices_decode_bit_for_bit(name, signed, tmp_path):
    wanted = Geometry((3, *GRID.shape[1:]), GRID.spacing_mm, GRID.origin_mm, GRID.direction)
    volume = lung(wanted)
    for path in write_series(tmp_path, volume, changed(PixelRepresentation=signed)):
        compress(path, ENCODED[name])
        assert dcmread(path).file_meta.TransferSyntaxUID.is_encapsulated
    check_same(read_scan(tmp_path), volume, hu=0)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_other_encoders_give_the_same(syntax, tmp_path):
    for path in write_series(tmp_path, LUNG):
        image = dcmread(path)
        image.compress(syntax, generate_instance_uid=False)
        image.save_as(path)
    check_same(read_scan(tmp_path), LUNG, hu=0)


@pytest.mark.parametrize("name", ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"])
def test_files_of_other_makers_decode_as_their_plain_twins(name):
    (plain,), (encoded,) = (
        read_header(Path(get_testdata_file(f"{stem}.dcm", download=False))) for stem in ("MR_small", name)
    )
    assert np.array_equal(plain_values(encoded), dcmread(plain.path).pixel_array)


def plain_values(frame):
    object.__setattr__(frame, "slope", 1.0)
    object.__setattr__(frame, "intercept", 0.0)
    return frame_hu(frame)


@pytest.mark.parametrize("order", [None, [3, 1, 0, 2, 4, 9, 8, 7, 6, 5]])
def test_frames_of_one_file_are_a_scan(order, tmp_path):
    path = write_frames(tmp_path / "enhanced", LUNG, order=order)
    check_same(read_scan(path), LUNG)
    part = open_scan(path).read(2, 4)
    np.testing.assert_allclose(part.array, LUNG.array[2:5], atol=1)


def test_of_two_temporal_positions_in_one_file_one_is_taken(tmp_path):
    scan = open_scan(write_frames(tmp_path / "4d.dcm", LUNG, times=2))
    check_same(scan.read(), LUNG)
    assert ["temporal position 2" in name for name, _ in scan.refused] == [True]


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "TemporalPositionIdentifier", "ConvolutionKernel"])
def test_two_stacks_in_one_series_are_not_mixed(keyword, tmp_path):
    write_series(tmp_path, LUNG, changed(**{keyword: "1"}))
    other = Volume(LUNG.array + 50, LUNG.geometry)

    def edit(image, k):
        setattr(image, keyword, "2")
        image.SOPInstanceUID = uid(f"9.{k}")

    write_series(tmp_path, other, edit, name="other{k}")
    scan = open_scan(tmp_path)
    check_same(scan.read(), LUNG)
    assert len(scan.refused) == 1 and "2" in scan.refused[0][0]


def test_stacks_that_interleave_are_not_woven(tmp_path):
    write_series(tmp_path, LUNG, changed(AcquisitionNumber=1))
    between = Geometry(GRID.shape, GRID.spacing_mm, GRID.origin_mm + np.array([0, 0, 1.25]), GRID.direction)

    def edit(image, k):
        image.AcquisitionNumber, image.SOPInstanceUID = 2, uid(f"9.{k}")

    write_series(tmp_path, lung(between), edit, name="other{k}")
    check_same(read_scan(tmp_path), LUNG)


def test_step_and_shoot_acquisitions_stay_one_scan(tmp_path):
    write_series(tmp_path, LUNG, lambda image, k: setattr(image, "AcquisitionNumber", k // 2 + 1))
    scan = open_scan(tmp_path)
    check_same(scan.read(), LUNG)
    assert scan.refused == ()


def test_mixed_orientations_in_one_series_are_separated(tmp_path):
    write_series(tmp_path, LUNG)
    coronal = lung(Geometry((40, 10, 44), GRID.spacing_mm[[1, 0, 2]], GRID.origin_mm, GRID.direction[:, [1, 0, 2]]))
    write_series(tmp_path, coronal, lambda image, k: setattr(image, "SOPInstanceUID", uid(f"9.{k}")), name="c{k}")
    scan = open_scan(tmp_path)
    check_same(scan.read(), LUNG)
    assert "not axial" in scan.refused[0][1] and "90 degrees" in scan.refused[0][1]


def test_the_same_file_twice_counts_once(tmp_path):
    for path in write_series(tmp_path / "a", LUNG):
        (tmp_path / "b").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "b" / f"copy-{path.name}")
    check_same(read_scan(tmp_path), LUNG)


def test_other_files_beside_the_slices_do_not_matter(tmp_path):
    write_series(tmp_path / "deep" / "er", LUNG)
    (tmp_path / "notes.txt").write_text("x" * 500)
    (tmp_path / "Thumbs.db").write_bytes(b"\x08\x00\x05\x00" * 200)
    (tmp_path / "empty").touch()
    index_of(tmp_path)
    scan = open_scan(tmp_path)
    check_same(scan.read(), LUNG)
    check_same(read_scan(tmp_path / "DICOMDIR"), LUNG)
    assert scan.refused == ()


def index_of(folder):
    """A DICOMDIR, of files that are elsewhere."""
    (path,) = write_series(folder / "index", LUNG, without(*range(1, 10)), ct_header(77))
    files = FileSet()
    image = dcmread(path)
    image.StudyTime, image.StudyID = "101010", "1"
    files.add(image)
    files.write(folder / "index" / "set")
    (folder / "index" / "set" / "DICOMDIR").rename(folder / "DICOMDIR")
    shutil.rmtree(folder / "index")


def padded(value):
    array = LUNG.array.copy()
    array[:, :6] = value
    return Volume(array, LUNG.geometry)


@pytest.mark.parametrize("value", [-2000, -3024])
@pytest.mark.parametrize("tagged", [True, False])
def test_padding_becomes_air(value, tagged, tmp_path):
    edit = changed(PixelPaddingValue=value + 1024) if tagged else None
    write_series(tmp_path, padded(value), edit)
    check_same(read_scan(tmp_path), padded(-1024))


def test_padding_far_above_and_by_range_becomes_air(tmp_path):
    write_series(tmp_path, padded(20000), changed(PixelPaddingValue=20000, PixelPaddingRangeLimit=22000))
    check_same(read_scan(tmp_path), padded(-1024))


def test_a_padding_value_inside_the_body_is_not_believed(tmp_path):
    write_series(tmp_path, LUNG, changed(PixelPaddingValue=1054))  # 30 HU, the lesion's own
    check_same(read_scan(tmp_path), LUNG)


def without(*slices):
    return lambda image, k: False if k in slices else None


def moved(k, by_mm):
    def edit(image, at):
        if at == k:
            image.ImagePositionPatient[2] += by_mm

    return edit


def dose_report(folder):
    report = ct_header(series=99)
    report.SOPClassUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.67", "SR"
    report.SOPInstanceUID = uid("7.1")
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID
    report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID
    folder.mkdir(exist_ok=True)
    report.save_as(folder / "report", enforce_file_format=True)


def capture(image, k):
    image.SOPClassUID = SecondaryCaptureImageStorage


def colour(image, k):
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    image.PixelData = b"\0" * (3 * image.Rows * image.Columns)


def no_rescale(image, k):
    image.PixelData = b"\0\0" * image.Rows * image.Columns
    del image.RescaleSlope


def doubled(image, k):
    if k == 4:
        image.ImagePositionPatient = [round(float(x), 6) for x in GRID.to_lps(np.array([3, 0, 0]))]


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


REFUSED = {
    "a missing slice": (
        without(4),
        r"slices lie 2\.50 to 5\.00 mm apart \(usually 2\.50\); the widest gap follows 003\.dcm \(slice 4 of 9\).*"
        "pass --on-gap resample",
    ),
    "an uneven slice": (moved(5, 0.6), r"slices lie 1\.90 to 3\.10 mm apart .*follows 004\.dcm"),
    "two slices at one place": (doubled, "2 of its 10 slices share their place with another"),
    "one slice": (without(*range(1, 10)), "it is a single slice; a volume needs at least two"),
    "secondary captures": (capture, "it is a secondary capture or report, not CT images"),
    "colour": (colour, "it is in colour .3 values a pixel"),
    "a scout": (changed(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), r"it is a localizer \(scout\)"),
    "a projection": (changed(ImageType=["DERIVED", "SECONDARY", "MIP"]), "computed from another series .ImageType MIP"),
    "PET": (changed(Modality="PT"), r"it is no CT: PET \(PT\)"),
    "no position": (lambda image, k: delattr(image, "ImagePositionPatient"), "its header lacks ImagePositionPatient"),
    "no rescale": (no_rescale, "its header lacks RescaleSlope"),
    "garbled position": (
        lambda image, k: setattr(image, "ImagePositionPatient", [0, 0]) if k == 7 else None,
        "007.dcm lacks ImagePositionPatient",
    ),
    "directions that are none": (
        changed(ImageOrientationPatient=[1, 0, 0, 0, 0.5, 0]),
        "are not two unit vectors at right angles",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("hazard", REFUSED)
def test_what_makes_no_volume_is_refused_in_words(hazard, tmp_path):
    edit, message = REFUSED[hazard]
    write_series(tmp_path, LUNG, edit)
    with pytest.raises(ScanError, match=rf"(?s)none of the DICOM series here.*series 1, 'CHEST'.*{message}"):
        open_scan(tmp_path)


def test_links_that_lead_back_are_walked_once(tmp_path):
    write_series(tmp_path / "a", LUNG)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    check_same(read_scan(tmp_path), LUNG)


def test_one_slice_of_a_series_is_answered_with_its_folder(tmp_path):
    path = write_series(tmp_path, LUNG)[0]
    with pytest.raises(ScanError, match=r"(?s)a single slice.*one file of a series: name the folder it lies in"):
        open_scan(path)


def test_plain_headers_walked_are_those_that_pydicom_parses(tmp_path, monkeypatch):
    write_series(tmp_path / "a", LUNG, own_rescale)
    write_series(tmp_path / "b", LUNG, changed(PixelPaddingValue=-3024, PixelRepresentation=1), ct_header(2))
    write_series(tmp_path / "c", LUNG, long_header, ct_header(3))
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    compare_headers(paths, monkeypatch)


def test_plain_headers_of_a_real_scanner_are_those_that_pydicom_parses(shared_data, monkeypatch):
    compare_headers(sorted((shared_data / "lung_dx_a0002" / "dicom").rglob("*.dcm"))[::7], monkeypatch)


def long_header(image, k):
    image.private_block(0x0019, "SOMEONE", create=True).add_new(1, "OB", b"x" * 60_000)


def compare_headers(paths, monkeypatch):
    walked = [read_header(path) for path in paths]
    asked = []
    assert all(plain_elements(path.read_bytes(), header.WANTED, header.GROUP_TAGS) for path in paths)
    monkeypatch.setattr(header, "plain_elements", lambda *given: asked.append(given))
    for (one,), path in zip(walked, paths, strict=True):
        (other,) = read_header(path)
        assert vars(one) == vars(other)
    assert len(asked) >= len(paths) > 5


def test_a_dose_report_alone_is_no_scan(tmp_path):
    dose_report(tmp_path)
    with pytest.raises(ScanError, match=r"it is no CT: structured report"):
        open_scan(tmp_path)


def test_a_file_cut_short_is_named_with_its_bytes(tmp_path):
    path = write_series(tmp_path, LUNG)[6]
    size = path.stat().st_size
    cut(path, 0.7)
    with pytest.raises(ScanError, match=rf"006\.dcm: it is cut short \({int(size * 0.7)} bytes, {size} needed\)"):
        open_scan(tmp_path)


def test_a_header_cut_short_is_named(tmp_path):
    path = write_series(tmp_path, LUNG)[9]
    path.write_bytes(path.read_bytes()[:300])
    scan = open_scan(tmp_path)
    assert scan.geometry.shape[0] == 9
    assert scan.refused[0][0] == "009.dcm" and "header" in scan.refused[0][1]


def test_a_compressed_file_cut_short_is_named_when_read(tmp_path):
    path = write_series(tmp_path, LUNG)[6]
    compress(path, gdcm.TransferSyntax.JPEG2000Lossless)
    cut(path, 0.7)
    scan = open_scan(tmp_path)
    check_same(
        scan.read(0, 5), Volume(LUNG.array[:6], Geometry((6, 40, 44), GRID.spacing_mm, GRID.origin_mm, GRID.direction))
    )
    with pytest.raises(ScanError, match=r"006\.dcm: its pixels cannot be decoded \(JPEG 2000"):
        scan.read()


def test_a_folder_of_damaged_files_says_so(tmp_path):
    for path in write_series(tmp_path, LUNG):
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ScanError, match=r"holds no DICOM series \(10 damaged DICOM files \(000\.dcm: its header"):
        open_scan(tmp_path)


@pytest.mark.parametrize("share", [0.7, 0.05])
def test_a_damaged_slice_is_filled_on_request(share, tmp_path):
    cut(write_series(tmp_path, LUNG)[4], share)
    scan = open_scan(tmp_path, on_gap="resample")
    assert scan.refused[0][0] == "004.dcm" and scan.refused[0][1]
    truth = LUNG.array.copy()
    truth[4] = (truth[3] + truth[5]) / 2
    check_same(scan.read(), Volume(truth, GRID))
    assert [bool(one) for one in scan.identity.sop_uids] == [k != 4 for k in range(10)]


def test_a_gap_too_wide_is_not_filled(tmp_path):
    write_series(tmp_path, LUNG, without(4, 5, 6))
    with pytest.raises(ScanError, match="More than 3 spacings are too wide to fill"):
        open_scan(tmp_path, on_gap="resample")


def test_only_the_slices_asked_for_are_opened(tmp_path, monkeypatch):
    write_series(tmp_path, LUNG)
    scan = open_scan(tmp_path)
    for k in (0, 1, 2, 7, 8, 9):
        (tmp_path / f"{k:03}.dcm").unlink()
    part = scan.read(3, 6)
    np.testing.assert_allclose(part.array, LUNG.array[3:7], atol=1)
    assert np.abs(part.geometry.origin_mm - GRID.to_lps(np.array([3, 0, 0]))).max() < 1e-6
    with pytest.raises(IndexError, match="slices 3 to 10 of a scan of 10"):
        scan.read(3, 10)


def test_a_file_gone_since_it_was_opened_is_named(tmp_path):
    write_series(tmp_path, LUNG)
    scan = open_scan(tmp_path)
    (tmp_path / "003.dcm").unlink()
    with pytest.raises(ScanError, match=r"003\.dcm: it cannot be opened"):
        scan.read()


def test_identity_is_that_of_the_slices(tmp_path):
    write_series(tmp_path, LUNG)
    scan = open_scan(tmp_path)
    assert scan.identity.series_uid == uid("2.1") and scan.identity.frame_uid == uid("3.1")
    assert scan.identity.study_uid == uid("1.1")
    assert scan.identity.sop_uids == tuple(uid(f"4.1.{k + 1}") for k in range(10))
    assert scan.facts["kernel"] == "B40f" and scan.facts["thickness_mm"] == "2.5" and float(scan.facts["kvp"]) == 120


def test_no_identifier_leaves_the_reader(tmp_path, caplog):
    caplog.set_level(0)
    write_series(tmp_path / "good", LUNG)
    write_series(tmp_path / "bad", LUNG, without(3), ct_header(2))
    dose_report(tmp_path / "bad")
    said = []
    for path in write_series(tmp_path / "worse", LUNG, changed(PatientName=b"Planted\xff^Name"), ct_header(3)):
        cut(path, 0.1)
    for folder in ("good", "bad", "worse", "."):
        try:
            scan = open_scan(tmp_path / folder)
            said += [repr(scan), str(scan.facts), str(scan.refused)]
        except ScanError as problem:
            said.append(str(problem))
    text = " ".join([*said, caplog.text])
    assert len(said) >= 6
    for planted in ("Planted", "PLANTED", "19111213"):
        assert planted not in text.replace(str(tmp_path), "")


def test_dicom_and_nifti_of_one_scan_are_the_same(tmp_path):
    from genomic_vit import write_volume
    from genomic_vit.config import SlabConfig
    from genomic_vit.data.slab import cut_slab
    from tests.scans import ball

    grid = Geometry((16, 90, 96), np.array([2.0, 0.7, 0.7]), GRID.origin_mm, turned(10, 5))
    volume = lung(grid)
    write_series(tmp_path / "dicom", volume)
    write_volume(volume, tmp_path / "scan.nii.gz")
    slabs = [cut_slab(read_scan(tmp_path / name), ball(grid), SlabConfig()) for name in ("dicom", "scan.nii.gz")]
    assert slabs[0].geometry.same_as(slabs[1].geometry, 1e-3)
    np.testing.assert_allclose(slabs[0].hu, slabs[1].hu, atol=0.05)
    assert np.array_equal(slabs[0].lesion, slabs[1].lesion)
