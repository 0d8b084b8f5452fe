"""Which series is the scan: the stated order, and a reason for every other."""

import re

import numpy as np
import pytest

from genomic_vit import Geometry
from genomic_vit.cli import parse, run_config_parser
from genomic_vit.imaging.choice import Wanted
from genomic_vit.imaging.errors import ScanError
from genomic_vit.imaging.kernel import kernel_kind
from genomic_vit.imaging.scan import open_scan
from tests.dicoms import ct_header, lung, uid, write_series
from tests.scans import AXES


def grid(spacing_mm=2.5, slices=10, low_mm=-300.0, direction=AXES):
    return Geometry((slices, 12, 14), np.array([spacing_mm, 0.7, 0.8]), np.array([-120.0, 80.0, low_mm]), direction)


def series(folder, number, volume_grid=None, study=1, frame=1, **values):
    header = ct_header(number, study, frame)
    for keyword, value in values.items():
        setattr(header, keyword, value)
    write_series(folder / f"{number:03}", lung(volume_grid or grid()), None, header)


def chosen(folder, **options):
    scan = open_scan(folder, **options)
    number = int(scan.facts["number"])
    return number, {int(name.split(",")[0].split()[1]): reason for name, reason in scan.refused}


THIN = {"SliceThickness": 1.0}
ORDER = {  # series 1 is chosen, series 2 refused, for the reason given
    "original before derived": (
        {},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL"], **THIN},
        1.0,
        "derived images; the chosen .* original images",
    ),
    "diagnostic before PET attenuation": (
        {},
        {"SeriesDescription": "CTAC 1.0", **THIN},
        1.0,
        "made for PET attenuation correction",
    ),
    "thin before thick": (
        {**THIN, "ConvolutionKernel": "B70f"},
        {"SliceThickness": 5},
        None,
        r"5\.00 mm slices; .* 2\.50",
    ),
    "standard before sharp": ({}, {"ConvolutionKernel": "B70f"}, None, r"sharp kernel \(B70f\); .* standard kernel"),
    "soft before unknown": ({"ConvolutionKernel": "B20f"}, {"ConvolutionKernel": "XX"}, None, r"unknown kernel \(XX\)"),
    "lower series number": ({}, {}, None, "series number 2; the chosen series has series number 1"),
}


@pytest.mark.parametrize("rule", ORDER)
def test_the_order_and_its_reasons(rule, tmp_path):
    first, second, spacing_mm, reason = ORDER[rule]
    series(tmp_path, 1, **first)
    series(tmp_path, 2, grid(spacing_mm) if spacing_mm else None, **second)
    number, refused = chosen(tmp_path)
    assert number == 1 and list(refused) == [2]
    assert re.search(reason, refused[2]), refused[2]


def test_more_slices_before_fewer(tmp_path):
    series(tmp_path, 1, grid(slices=6))
    series(tmp_path, 2, grid(slices=10))
    assert chosen(tmp_path) == (2, {1: "6 slices; the chosen series has 10 slices"})


def test_a_pet_in_the_same_frame_of_reference_marks_its_ct(tmp_path):
    series(tmp_path, 1, frame=2, **THIN)
    series(tmp_path, 2, frame=2, Modality="PT", SOPClassUID="1.2.840.10008.5.1.4.1.1.128")
    series(tmp_path, 3, SliceThickness=5)
    number, refused = chosen(tmp_path)
    assert number == 3 and "attenuation" in refused[1] and refused[2] == "it is no CT: PET (PT)"


def test_headers_without_a_frame_of_reference_share_none(tmp_path):
    series(tmp_path, 1, FrameOfReferenceUID="", **THIN)
    series(tmp_path, 2, FrameOfReferenceUID="", Modality="PT", SOPClassUID="1.2.840.10008.5.1.4.1.1.128")
    series(tmp_path, 3, SliceThickness=5)
    number, refused = chosen(tmp_path)
    assert number == 1 and "5.00 mm slices" in refused[3]


def test_the_only_ct_of_a_pet_study_is_taken(tmp_path):
    series(tmp_path, 1, SeriesDescription="CTAC")
    assert chosen(tmp_path) == (1, {})


def test_a_patient_folder_of_every_kind(tmp_path):
    series(tmp_path, 1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    series(
        tmp_path, 2, grid(slices=10, direction=AXES[:, [1, 0, 2]]), ImageType=["DERIVED", "SECONDARY", "REFORMATTED"]
    )
    series(tmp_path, 3, ConvolutionKernel="B70f")
    series(tmp_path, 4)
    series(tmp_path, 5, SliceThickness=5)
    series(tmp_path, 6, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    series(tmp_path, 7, grid(slices=1))
    series(tmp_path, 8, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    series(tmp_path, 9, study=2, frame=2)
    number, refused = chosen(tmp_path)
    assert number == 4 and sorted(refused) == [1, 2, 3, 5, 6, 7, 8, 9]
    said = ["localizer", "not axial", "sharp", "5.00 mm", "MR", "single slice", "secondary capture", "later study"]
    assert all(word in refused[k] for word, k in zip(said, sorted(refused), strict=True))


def test_two_usable_studies_are_said(tmp_path, caplog):
    series(tmp_path, 1)
    chosen(tmp_path)
    assert not caplog.text
    series(tmp_path, 2, study=2)
    assert chosen(tmp_path)[0] == 1
    assert "2 studies hold usable CT; series 1, 'CHEST' is taken. If another is meant, name its folder" in caplog.text


def test_what_the_lesion_names_is_taken(tmp_path):
    series(tmp_path, 1)
    series(tmp_path, 2, ConvolutionKernel="B70f", SliceThickness=5)
    series(tmp_path, 3, study=2, frame=2)
    number, refused = chosen(tmp_path, wanted=Wanted(series_uid=uid("2.2")))
    assert number == 2 and uid("2.2") in refused[1] and uid("2.1") in refused[1]
    assert chosen(tmp_path, wanted=Wanted(sop_uids=frozenset({uid("4.2.3")})))[0] == 2
    assert chosen(tmp_path, wanted=Wanted(frame_uid=uid("3.2")))[0] == 3
    assert chosen(tmp_path, wanted=Wanted(series_uid="1.9.9", frame_uid=uid("3.2")))[0] == 3


def test_a_lesion_may_name_what_would_not_be_chosen(tmp_path):
    series(tmp_path, 1, ImageType=["DERIVED", "SECONDARY", "MPR"])
    with pytest.raises(ScanError, match=r"computed from another series \(ImageType MPR\)"):
        open_scan(tmp_path)
    assert chosen(tmp_path, wanted=Wanted(series_uid=uid("2.1")))[0] == 1


def test_the_series_that_covers_the_lesion_is_taken(tmp_path):
    series(tmp_path, 1, **THIN)
    series(tmp_path, 2, grid(low_mm=-100), SliceThickness=5)
    inside = grid(low_mm=-100).to_lps(np.array([[4, 5, 5], [5, 5, 5]]))
    number, refused = chosen(tmp_path, wanted=Wanted(points_mm=inside))
    assert number == 2 and refused[1] == "it covers 0% of the lesion, at least 50% is needed"
    with pytest.raises(ScanError, match=r"(?s)series 1.*covers 0%.*series 2.*covers 0%"):
        open_scan(tmp_path, wanted=Wanted(points_mm=inside + 1000))


def test_a_series_with_a_gap_gives_way_to_a_whole_one(tmp_path):
    series(tmp_path, 1, **THIN)
    series(tmp_path, 2, SliceThickness=5)
    next(iter(sorted((tmp_path / "001").iterdir())[4:])).unlink()
    number, refused = chosen(tmp_path)
    assert number == 2 and "2.50 to 5.00 mm apart" in refused[1]
    assert chosen(tmp_path, on_gap="resample")[0] == 1


def test_the_choice_does_not_depend_on_names_of_files(tmp_path):
    for place, numbers in (("a", (1, 2, 3)), ("b", (3, 1, 2))):
        for number in numbers:
            series(tmp_path / place / str(numbers.index(number)), number)
    assert chosen(tmp_path / "a") == chosen(tmp_path / "b")


KERNELS = {
    "standard": ("B30f", "B40f", "I31f\\2", "Br40d", "Bl36", "STANDARD", "FC08", "FC13-H", "B", "Qr40", "CHST"),
    "soft": ("B20f", "B10s", "SOFT", "A"),
    "sharp": ("B50f", "B70f", "Bl57d", "I70f", "LUNG", "BONE", "BONEPLUS", "DETAIL", "EDGE", "FC51", "FC86", "L"),
    "unknown": ("", "ABC", "7", "YA"),
}


@pytest.mark.parametrize("kind", KERNELS)
def test_kernels_of_the_vendors(kind):
    assert {name: kernel_kind(name) for name in KERNELS[kind]} == dict.fromkeys(KERNELS[kind], kind)


def test_two_kernels_in_one_real_tree(shared_data):
    scan = open_scan(shared_data / "lung_dx_a0002")
    assert scan.geometry.shape == (30, 512, 512) and scan.facts["kernel"] == "B40f"
    np.testing.assert_allclose(scan.geometry.spacing_mm[0], 8.0, atol=0.01)
    ((name, reason),) = scan.refused
    assert "B70f" in name and reason == "sharp kernel (B70f); the chosen series has standard kernel (B40f)"


@pytest.mark.parametrize("words", [["--on-gap", "resample"], ["--on-gap=resample"], ["--scan.on_gap", "resample"]])
def test_a_run_is_told_what_to_do_with_gaps(words):
    parser = run_config_parser("train [options]", "Train.")
    assert parse(parser, []).scan.on_gap == "error"
    assert parse(parser, words).scan.on_gap == "resample"
