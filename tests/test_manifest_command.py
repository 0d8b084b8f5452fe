"""From an export and a clinical table to a manifest, by the command as users call it."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from genomic_vit import read_lesion, write_volume
from genomic_vit.cohort.manifest import ManifestError, read_manifest
from genomic_vit.config import LesionConfig
from genomic_vit.imaging.lesion import want
from genomic_vit.imaging.scan import open_scan
from genomic_vit.manifest import main as manifest
from tests.cohort_dicom import MACHINE, TOLD, ball, chest, ct_series, grid, make_export, outline, store, tell
from tests.dicom_lesions import make_rtstruct, saved

TABLE = (
    "Case ID,EGFR mutation status,KRAS mutation status,ALK translocation status,Gender,Histology ,Recurrence\n"
    "R1,Mutant,Wildtype,Wildtype,Male,Adenocarcinoma,yes\nR2,Wildtype,Mutant,Wildtype,Female,Squamous,no\n"
    "R3,Unknown,Unknown,Wildtype,Male,Adenocarcinoma,no\nR9,Mutant,Mutant,Translocated,Male,Adenocarcinoma,no\n"
    "R8,Wildtype,Wildtype,Unknown,Female,Adenocarcinoma,no\n"
)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return make_export(tmp_path_factory.mktemp("export") / "download")


@pytest.fixture
def table(tmp_path):
    (tmp_path / "clinical.csv").write_text(TABLE)
    return tmp_path / "clinical.csv"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def built(export, table, out, *more):
    given = ["nsclc-radiogenomics", "--dicom", str(export), "--labels", str(table), "--out", str(out)]
    return manifest([*given, "--min-cases", "2", *more])


def test_the_manifest_names_scan_lesion_and_labels(export, table, tmp_path, capsys):
    out = tmp_path / "made" / "cases.csv"
    assert built(export, table, out) == 0
    said = capsys.readouterr().out
    rows = rows_of(out)
    assert [row["case"] for row in rows] == ["R1", "R2"]
    assert [row["KRAS"] for row in rows] == ["0", "1"] and [row["sex"] for row in rows] == ["Male", "Female"]
    assert "EGFR: 1 Mutant, 1 Wildtype, 0 missing" in said and [row["EGFR"] for row in rows] == ["1", "0"]
    assert "left out" in said and "ALK: 1 Translocated, 3 Wildtype" in said and "ALK" not in rows[0]
    assert rows[0]["scanner"] == "ACME One" and rows[0]["kernel"] == "B40f"
    excluded = rows_of(tmp_path / "made" / "cases.excluded.csv")
    assert [row["patient"] for row in excluded] == ["R3", "R4"]
    assert f"no SEG object of the tumour; those there are others: {MACHINE}" in excluded[0]["reason"]
    assert "give --points, or --without-lesion" in excluded[0]["reason"]
    assert "genomic_vit.train --mode joint --data" in said


def test_the_scan_and_lesion_of_the_manifest_are_those_of_the_export(export, table, tmp_path):
    assert built(export, table, tmp_path / "cases.csv") == 0
    for number, case in enumerate(read_manifest(tmp_path / "cases.csv", ()).cases):
        scan = open_scan(case.scan, wanted=want(case.lesion))
        assert scan.facts["description"] == "Chest  2.5  B40f"
        assert scan.geometry.same_as(grid(number))
        np.testing.assert_array_equal(read_lesion(case.lesion, like=scan).array, ball(grid(number)).array)


def test_nothing_written_tells_who_it_is(export, table, tmp_path, capsys):
    assert built(export, table, tmp_path / "out" / "cases.csv") == 0
    said = capsys.readouterr()
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert not [told for told in TOLD if told in (written + said.out + said.err).lower()]


def test_points_stand_in_for_patients_without_an_outline(export, table, tmp_path):
    centre = np.array([-20.0, -10.0, -85.0])
    (tmp_path / "points.csv").write_text("Case ID,coordX,coordY,coordZ\nR3,{},{},{}\nR4,0,0,0\n".format(*centre))
    assert built(export, table, tmp_path / "cases.csv", "--points", str(tmp_path / "points.csv")) == 0
    row = rows_of(tmp_path / "cases.csv")[2]
    assert row["patient"] == "R3" and row["lesion"] == "-20,-10,-85"
    case = read_manifest(tmp_path / "cases.csv", ()).cases[2]
    assert case.lesion == "-20,-10,-85"
    scan = open_scan(case.scan, wanted=want(case.lesion))
    inside = scan.geometry.to_lps(np.argwhere(read_lesion(case.lesion, like=scan).array))
    np.testing.assert_allclose(inside.mean(0), centre, atol=1.5)
    reasons = {row["patient"]: row["reason"] for row in rows_of(tmp_path / "cases.excluded.csv")}
    assert "no series can be the scan: series 1, 'Topogram': it is a localizer (scout)" in reasons["R4"]


def test_an_outline_of_another_series_is_refused_with_its_reason(export, table, tmp_path):
    shutil.copytree(export, tmp_path / "mixed")
    stranger = ct_series("R2", ball(grid(7)))
    store([outline(stranger, ball(grid(7)).array, "R2")], tmp_path / "mixed/R2/study/seg")
    assert built(tmp_path / "mixed", table, tmp_path / "cases.csv") == 0
    reasons = {row["patient"]: row["reason"] for row in rows_of(tmp_path / "cases.excluded.csv")}
    assert [row["patient"] for row in rows_of(tmp_path / "cases.csv")] == ["R1"]
    assert "R2" in reasons


def test_a_tree_of_ones_own_with_rules_from_a_file(export, table, tmp_path, capsys):
    (tmp_path / "rules.yaml").write_text(
        "labels:\n  targets:\n    adeno: {column: Histology, positive: Adenocarcinoma, negative: Squamous}\n"
        "  covariates:\n    sex: {column: Gender}\n  min_cases: 1\n"
    )
    given = ["dicom", "--dicom", str(export), "--labels", str(table), "--config", str(tmp_path / "rules.yaml")]
    assert manifest([*given, "--out", str(tmp_path / "cases.csv")]) == 0
    rows = rows_of(tmp_path / "cases.csv")
    assert {row["patient"]: row["adeno"] for row in rows} == {"R1": "1", "R2": "0", "R3": "1"}
    assert "adeno: 2 Adenocarcinoma, 1 Squamous, 0 missing" in capsys.readouterr().out
    (tmp_path / "rules.yaml").write_text("labels:\n  covariates:\n    again: {column: recurrence}\n")
    assert manifest([*given, "--out", str(tmp_path / "other.csv")]) == 2
    assert "--allow-outcome-columns" in capsys.readouterr().err and not (tmp_path / "other.csv").exists()
    assert manifest([*given, "--out", str(tmp_path / "other.csv"), "--allow-outcome-columns"]) == 0


def test_lung1_takes_the_tumour_of_an_rtstruct_by_its_name(tmp_path):
    images = ct_series("LUNG1-001", chest(grid()))
    store(images, tmp_path / "d/LUNG1-001/ct")
    square = np.array([[-20.0, -10, -85], [-5, -10, -85], [-5, 5, -85], [-20, 5, -85]])
    lung = np.array([[-38.0, -28, -85], [10, -28, -85], [10, 20, -85], [-38, 20, -85]])
    drawn = make_rtstruct(
        {"Lung-Left": [lung], "GTV-1": [square + np.array([0, 0, 2.5 * k]) for k in range(3)]}, images
    )
    tell(drawn, "LUNG1-001", "", 2)
    store([drawn], tmp_path / "d/LUNG1-001/rt")
    (tmp_path / "lung1.csv").write_text(
        "PatientID,age,clinical.T.Stage,Overall.Stage,Histology,gender,Survival.time,deadstatus.event\n"
        "LUNG1-001,78.7,2,IIIb,large cell,male,2165,1\nLUNG1-002,NA,2,I,adenocarcinoma,female,155,1\n"
    )
    out = tmp_path / "cases.csv"
    given = ["lung1", "--dicom", str(tmp_path / "d"), "--labels", str(tmp_path / "lung1.csv"), "--min-cases", "1"]
    assert manifest([*given, "--out", str(out)]) == 0
    (row,) = rows_of(out)
    assert (row["adenocarcinoma"], row["age"], row["sex"], row["stage"]) == ("0", "78.7", "male", "IIIb")
    assert not set(row) & {"Survival.time", "survival", "deadstatus.event"}
    (case,) = read_manifest(out, ()).cases
    scan = open_scan(case.scan, wanted=want(case.lesion, LesionConfig(roi="GTV-1")))
    inside = scan.geometry.to_lps(np.argwhere(read_lesion(case.lesion, scan, LesionConfig(roi="GTV-1")).array))
    np.testing.assert_allclose(inside.mean(0), [-12.5, -2.5, -82.5], atol=1)


def test_lidc_takes_one_readers_outline_a_nodule(tmp_path):
    images = ct_series("LIDC-1", chest(grid()))
    store(images, tmp_path / "d/LIDC-1/ct")
    for nodule, place in ((1, (0.5, 0.45, 0.55)), (2, (0.5, 0.6, 0.3))):
        for reader, radius_mm in enumerate((11.0, 5.0, 8.0)):
            mask = ball(grid(), radius_mm, place).array
            described = f"Segmentation of Nodule {nodule} - Annotation {reader}"
            store([outline(images, mask, "LIDC-1", described)], tmp_path / f"d/LIDC-1/seg{nodule}{reader}")
    assert manifest(["lidc", "--dicom", str(tmp_path / "d"), "--out", str(tmp_path / "cases.csv")]) == 0
    rows = rows_of(tmp_path / "cases.csv")
    assert [(row["case"], row["patient"], row["lesion"]) for row in rows] == [
        ("LIDC-1_1", "LIDC-1", "d/LIDC-1/seg12/0000.dcm"), ("LIDC-1_2", "LIDC-1", "d/LIDC-1/seg22/0000.dcm"),
    ]  # fmt: skip


def test_patients_without_a_lesion_are_taken_where_asked(export, table, tmp_path, capsys):
    assert built(export, table, tmp_path / "cases.csv", "--without-lesion") == 0
    assert [(row["patient"], bool(row["lesion"])) for row in rows_of(tmp_path / "cases.csv")] == [
        ("R1", True), ("R2", True), ("R3", False),
    ]  # fmt: skip
    assert "--field lung" in capsys.readouterr().out
    assert read_manifest(tmp_path / "cases.csv", (), needs_lesion=False).cases[2].lesion == ""
    with pytest.raises(ManifestError, match="row 4 lacks lesion"):
        read_manifest(tmp_path / "cases.csv", ())


def test_damaged_files_and_flat_folders_of_several_patients_are_named(tmp_path, capsys):
    for number in range(2):
        for k, image in enumerate(ct_series(f"P{number}", chest(grid(number)))):
            saved(image, make(tmp_path / "flat") / f"{number}-{k}.dcm")
    whole = (tmp_path / "flat/0-0.dcm").read_bytes()
    (tmp_path / "flat/broken.dcm").write_bytes(whole[:200])
    (tmp_path / "points.csv").write_text("Patient ID,x,y,z\nP0,-20,-10,-85\nP1,-20,-10,-85\n")
    given = ["dicom", "--dicom", str(tmp_path / "flat"), "--points", str(tmp_path / "points.csv")]
    assert manifest([*given, "--out", str(tmp_path / "cases.csv")]) == 2
    said = capsys.readouterr().err
    assert "P0: its files lie beside those of other patients in flat; give each patient a folder" in said
    assert "broken.dcm: its header" in said


def test_the_decathlons_layout(tmp_path):
    root = tmp_path / "Task06_Lung"
    for name, volume in (("imagesTr/lung_001", chest(grid())), ("labelsTr/lung_001", ball(grid()))):
        write_volume(volume, root / f"{name}.nii.gz")
    (root / "imagesTr/._lung_001.nii.gz").write_bytes(b"a Mac left this")
    write_volume(chest(grid(1)), root / "imagesTr/lung_003.nii.gz")
    assert manifest(["msd-lung", "--nifti", str(tmp_path), "--out", str(tmp_path / "cases.csv")]) == 0
    (row,) = rows_of(tmp_path / "cases.csv")
    assert row == {"case": "lung_001", "patient": "lung_001", "scan": "Task06_Lung/imagesTr/lung_001.nii.gz",
                   "lesion": "Task06_Lung/labelsTr/lung_001.nii.gz"}  # fmt: skip
    assert rows_of(tmp_path / "cases.excluded.csv")[0]["reason"] == "no mask lung_003.nii.gz in labelsTr"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nsclc-radiogenomic", "--plan"], "no preset 'nsclc-radiogenomic'; did you mean nsclc-radiogenomics?"),
        (["nsclc-radiogenomics", "--out", "x.csv"], "name the folder of the scans with --dicom DIR"),
        (["nsclc-radiogenomics", "--nifti", "d", "--out", "x.csv"], "is read with --dicom DIR, not --nifti"),
        (["msd-lung", "--plan"], "msd-lung is not in the Imaging Data Commons"),
        (["lung1", "--dicom", "d"], "name the manifest to write with --out"),
        (["lung1", "--dicom", "d", "--plan", "--download"], "give one of them"),
        (["lung1", "--dicom", "no/such", "--out", "x.csv"], "no such folder; name the one that holds the DICOM files"),
        (
            ["lung1", "--dicom", "d", "--out", "x.csv", "--key", "k"],
            "belong to a clinical table; name it with --labels",
        ),
        (["lung1", "--dicom", "d", "--outt", "x.csv"], "unknown option --outt; did you mean --out"),
    ],
)
def test_wrong_input_is_refused_with_its_repair(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert manifest(argv) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_table_without_rules_is_refused_before_any_header_is_read(export, table, tmp_path, capsys):
    given = ["dicom", "--dicom", str(export), "--labels", str(table), "--out", str(tmp_path / "cases.csv")]
    assert manifest(given) == 2
    said = capsys.readouterr().err
    assert "nothing is read from it; give labels.targets" in said and "reading headers" not in said


def test_zips_are_to_be_unpacked_first(export, tmp_path, capsys):
    shutil.make_archive(str(tmp_path / "zips" / "R1"), "zip", export / "R1")
    assert manifest(["dicom", "--dicom", str(tmp_path / "zips"), "--out", str(tmp_path / "cases.csv")]) == 2
    assert "unpack its 1 zip or tar files first" in capsys.readouterr().err


def test_nothing_is_written_where_no_case_can_be_used_or_the_file_is_there(export, table, tmp_path, capsys):
    only = tmp_path / "only"
    shutil.copytree(export / "R4", only / "R4")
    assert built(only, table, tmp_path / "cases.csv") == 2
    assert "no case can be used, nothing is written" in capsys.readouterr().err
    assert not (tmp_path / "cases.csv").exists()
    (tmp_path / "cases.csv").write_text("mine")
    assert built(export, table, tmp_path / "cases.csv") == 2
    assert "exists; pass --overwrite" in capsys.readouterr().err and (tmp_path / "cases.csv").read_text() == "mine"
