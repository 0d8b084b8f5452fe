"""The inventory of a cohort: what is found, what is said of it, and what is never said."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from genomic_vit import Volume, write_volume
from genomic_vit.data.fingerprint import fingerprint
from genomic_vit.doctor import main as doctor
from genomic_vit.imaging.identifiers import find_identifiers
from genomic_vit.imaging.scan import open_scan
from genomic_vit.manifest import main as manifest
from tests.cohort_dicom import ACCESSION, BIRTH, NAME, TOLD, ct_series, grid, make_export, outline, store
from tests.scans import ball, chest, stored
from tests.test_twins import pairs_of


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return make_export(tmp_path_factory.mktemp("export") / "download")


@pytest.fixture(scope="module")
def cases(export, tmp_path_factory):
    out = tmp_path_factory.mktemp("manifest") / "cases.csv"
    assert manifest(["nsclc-radiogenomics", "--dicom", str(export), "--out", str(out)]) == 0
    return out


def inventory(cohort: Path, out: Path, *more: str) -> tuple[int, dict[str, dict[str, str]]]:
    code = doctor([str(cohort), "--out", str(out), "--jobs", "1", *more])
    with (out / "doctor.csv").open(newline="", encoding="utf-8") as file:
        return code, {row["case"]: row for row in csv.DictReader(file)}


def written(path: Path, rows: list[tuple], header: str = "case,patient,scan,lesion") -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def test_what_is_known_of_a_dicom_case(cases, tmp_path, capsys):
    code, found = inventory(cases, tmp_path)
    row = found["R1"]
    assert code == 0 and row["verdict"] == "usable"
    assert row["series_chosen"] == "Chest  2.5  B40f" and row["series_found"] == "1"
    assert row["spacing_mm"] == "2.50 x 1.50 x 1.50" and row["voxels"] == "14 x 48 x 48"
    assert (row["kernel"], float(row["kvp"]), row["manufacturer"], row["model"]) == ("B40f", 120, "ACME", "One")
    mask = ball(grid()).array
    assert float(row["lesion_ml"]) == pytest.approx(mask.sum() * 2.5 * 1.5 * 1.5 / 1000, abs=0.005)
    assert int(row["lesion_slices"]) == mask.any(axis=(1, 2)).sum() and row["lesion_in_scan"] == "100%"
    said = capsys.readouterr().out
    assert "0 unusable, 0 doubtful, 2 usable" in said


def test_a_folder_is_inventoried_without_a_manifest(export, tmp_path):
    code, found = inventory(export, tmp_path)
    assert code == 1
    assert {case: row["verdict"] for case, row in found.items()} == {
        "R1": "usable", "R2": "usable", "R3": "usable", "R4": "unusable",
    }  # fmt: skip
    assert "it is a localizer (scout)" in found["R4"]["findings"]


def test_a_damaged_file_beside_sound_cases_is_a_remark(export, tmp_path, capsys):
    shutil.copytree(export / "R1", tmp_path / "d" / "R1")
    shutil.copytree(export / "R2", tmp_path / "d" / "R2")
    (tmp_path / "d/R1/stray.dcm").write_bytes((tmp_path / "d/R1/study/ct/0000.dcm").read_bytes()[:200])
    code, found = inventory(tmp_path / "d", tmp_path / "out")
    assert code == 0 and list(found) == ["R1", "R2"]
    assert "R1/stray.dcm: its header" in capsys.readouterr().out


def test_nothing_written_or_said_tells_who_it_is(export, cases, tmp_path, capsys):
    for number, cohort in enumerate((export, cases)):
        inventory(cohort, tmp_path / str(number))
    said = capsys.readouterr()
    for text in (said.out, said.err, *(path.read_text() for path in tmp_path.rglob("doctor.*"))):
        assert not [told for told in TOLD if told in text.lower()]
    assert "headers may tell who this is: PatientName, AccessionNumber, PatientBirthDate" in said.out.replace("\n", " ")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"PatientName": NAME, "PatientBirthDate": BIRTH, "AccessionNumber": ACCESSION}, 3),
        ({"PatientName": "R01-001", "PatientID": "R01-001", "PatientBirthDate": "", "AccessionNumber": ""}, 0),
        ({"PatientName": "Anonymous^Removed", "PatientBirthDate": "", "AccessionNumber": "0"}, 0),
        ({"PatientName": "LUNG1-002", "PatientBirthDate": "", "AccessionNumber": "", "PatientID": "x"}, 0),
        ({"PatientName": "R1", "PatientBirthDate": "19000101", "AccessionNumber": ""}, 0),
        ({"PatientName": "R1", "PatientBirthDate": BIRTH, "PatientIdentityRemoved": "YES"}, 0),
        ({"PatientName": NAME, "PatientBirthDate": BIRTH, "PatientIdentityRemoved": "YES"}, 1),
        ({"PatientName": "R1", "PatientBirthDate": "", "AccessionNumber": "", "InstitutionName": "St. Elsewhere"}, 1),
        ({"PatientName": "R1", "PatientBirthDate": "", "AccessionNumber": "", "OperatorsName": "Kwon"}, 1),
    ],
)
def test_which_headers_tell_who_it_is(values, told, tmp_path):
    image = ct_series("P", chest(grid()))[0]
    for keyword, value in values.items():
        setattr(image, keyword, value)
    assert len(find_identifiers(store([image], tmp_path) / "0000.dcm")) == told


def test_a_name_in_the_path_is_named_too(tmp_path):
    store(ct_series("P", chest(grid()))[:1], tmp_path / "QUUXLEY_Zenobia")
    assert "path" in find_identifiers(tmp_path / "QUUXLEY_Zenobia" / "0000.dcm")


def test_one_scan_under_two_names_is_found_by_its_pixels(tmp_path, capsys):
    for number in range(2):
        images = ct_series(f"P{number}", chest(grid(number)))
        store(images, tmp_path / f"dicom{number}")
        store([outline(images, ball(grid(number)).array, f"P{number}")], tmp_path / f"seg{number}")
    first = Volume(np.rint(chest(grid(0)).array), grid(0))
    turned = stored(first, order=(0, 1, 2), flips=(True, False, True))  # as another program stores it
    write_volume(turned, tmp_path / "copy.nii.gz")
    write_volume(Volume(ball(grid(0)).array.astype(np.uint8), grid(0)), tmp_path / "mask.nii.gz")
    cases = written(tmp_path / "cases.csv", [
        ("A", "P0", "dicom0", "seg0/0000.dcm"), ("B", "P1", "dicom1", "seg1/0000.dcm"),
        ("C", "P2", "copy.nii.gz", "mask.nii.gz"),
    ])  # fmt: skip
    _, found = inventory(cases, tmp_path / "out")
    assert "the scan has the same pixels as that of case C, patient P2" in found["A"]["findings"]
    assert "the scan has the same pixels as that of case A, patient P0" in found["C"]["findings"]
    assert "pixels" not in found["B"]["findings"]
    assert "give both the same patient" in found["A"]["findings"]


def test_twins_in_different_folds_are_said_to_be(tmp_path):
    write_volume(chest(grid()), tmp_path / "scan.nii.gz")
    write_volume(chest(grid()), tmp_path / "again.nii.gz")
    write_volume(Volume(ball(grid()).array.astype(np.uint8), grid()), tmp_path / "mask.nii.gz")
    rows = [(f"C{n}", f"P{n}", ("scan.nii.gz", "again.nii.gz")[n % 2], "mask.nii.gz", n % 2) for n in range(4)]
    cases = written(tmp_path / "cases.csv", rows, "case,patient,scan,lesion,mutant")
    (tmp_path / "run.yaml").write_text("split: {folds: 2}\n")
    _, found = inventory(cases, tmp_path / "out", "--config", str(tmp_path / "run.yaml"))
    assert all("in another fold (" in row["findings"] for row in found.values())
    assert [row["mutant"] for row in found.values()] == ["0", "1", "0", "1"]


def test_two_rows_of_one_lesion_and_two_lesions_of_one_scan(tmp_path):
    write_volume(chest(grid()), tmp_path / "scan.nii.gz")
    for name, place in (("one", (0.5, 0.45, 0.55)), ("other", (0.5, 0.6, 0.3))):
        write_volume(Volume(ball(grid(), place=place).array.astype(np.uint8), grid()), tmp_path / f"{name}.nii.gz")
    rows = [
        ("A", "P", "scan.nii.gz", "one.nii.gz"),
        ("B", "P", "scan.nii.gz", "other.nii.gz"),
        ("C", "P", "scan.nii.gz", "one.nii.gz"),
    ]
    _, found = inventory(written(tmp_path / "cases.csv", rows), tmp_path / "out")
    assert "scan and lesion are those of case C" in found["A"]["findings"]
    assert found["B"]["verdict"] == "usable"


@pytest.mark.parametrize("flips", [(False, False, False), (True, False, False), (False, True, True)])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_a_scan_is_known_again_however_it_is_stored(order, flips, tmp_path):
    volume = Volume(np.rint(chest(grid()).array), grid())
    write_volume(volume, tmp_path / "a.nii.gz")
    write_volume(stored(volume, order, flips), tmp_path / "b.nrrd")
    noisy = volume.array + np.random.default_rng(0).normal(0, 20, volume.array.shape)
    write_volume(Volume(noisy.astype(np.float32), grid()), tmp_path / "c.nii.gz")
    other = Volume(np.where(volume.array > 0, volume.array, volume.array + 300), grid())
    write_volume(other, tmp_path / "d.nii.gz")
    prints = {path.stem[0]: fingerprint(open_scan(path)) for path in sorted(tmp_path.iterdir())}
    assert list(prints) == list("abcd")
    assert pairs_of(list(prints.values())) == {(0, 1, True), (0, 2, False), (1, 2, False)}


def test_what_cannot_be_used_is_said_with_its_repair(export, tmp_path, capsys):
    shutil.copytree(export / "R1", tmp_path / "R1")
    (tmp_path / "R1/study/ct/0007.dcm").unlink()
    write_volume(Volume(np.zeros(grid().shape, np.uint8), grid()), tmp_path / "empty.nii.gz")
    air = Volume(np.full(grid().shape, -1000, np.float32), grid())
    air.array[7:] = 50
    write_volume(air, tmp_path / "air.nii.gz")
    low = np.zeros(grid().shape, np.uint8)
    low[1:5, 20:30, 20:30] = 1
    write_volume(Volume(low, grid()), tmp_path / "low.nii.gz")
    cases = written(tmp_path / "cases.csv", [
        ("gap", "P1", "R1/study/ct", "R1/study/seg/0000.dcm"), ("none", "P2", "lost", "empty.nii.gz"),
        ("empty", "P3", "air.nii.gz", "empty.nii.gz"), ("air", "P4", "air.nii.gz", "low.nii.gz"),
    ])  # fmt: skip
    code, found = inventory(cases, tmp_path / "out")
    assert code == 1
    assert [row["verdict"] for row in found.values()] == ["unusable", "unusable", "unusable", "doubtful"]
    assert "pass --on-gap resample" in found["gap"]["findings"]
    assert "no such file" in found["none"]["findings"] and "mask is empty" in found["empty"]["findings"]
    assert "half of the lesion is air (median -1000 HU)" in found["air"]["findings"]
    assert "3 unusable, 1 doubtful, 0 usable" in capsys.readouterr().out
    assert inventory(cases, tmp_path / "again", "--on-gap", "resample")[1]["gap"]["verdict"] == "usable"


def test_each_lesion_of_a_mask_is_a_case_where_asked(tmp_path):
    write_volume(chest(grid()), tmp_path / "scan.nii.gz")
    both = ball(grid(), 8.0, (0.5, 0.3, 0.3)).array | ball(grid(), 5.0, (0.5, 0.7, 0.7)).array
    write_volume(Volume(both.astype(np.uint8), grid()), tmp_path / "mask.nii.gz")
    cases = written(tmp_path / "cases.csv", [("A", "P", "scan.nii.gz", "mask.nii.gz", 1)], "case,patient,scan,lesion,m")
    _, one = inventory(cases, tmp_path / "one")
    assert list(one) == ["A"] and "the largest of 2 lesions taken" in one["A"]["findings"]
    _, each = inventory(cases, tmp_path / "each", "--lesions", "each")
    assert list(each) == ["A#1", "A#2"] and float(each["A#1"]["lesion_ml"]) > float(each["A#2"]["lesion_ml"])
    assert each["A#1"]["verdict"] == each["A#2"]["verdict"] == "usable"


def test_labels_are_counted_by_target(tmp_path, capsys):
    write_volume(chest(grid()), tmp_path / "scan.nii.gz")
    write_volume(Volume(ball(grid()).array.astype(np.uint8), grid()), tmp_path / "mask.nii.gz")
    rows = [(f"C{n}", "P", "scan.nii.gz", "mask.nii.gz", label, n) for n, label in enumerate(("1", "0", "", "0"))]
    cases = written(tmp_path / "cases.csv", rows, "case,patient,scan,lesion,EGFR,age")
    inventory(cases, tmp_path / "out")
    said = capsys.readouterr().out
    assert "target EGFR: 1 positive, 2 negative, 1 missing of 4 cases (1 and 1 patients" in said and "age" not in said
    (tmp_path / "clinical.csv").write_text("Patient ID,KRAS\nP,Mutant\nQ,Wildtype\n")
    (tmp_path / "rules.yaml").write_text(
        f"labels:\n  table: {tmp_path / 'clinical.csv'}\n  targets:\n"
        "    KRAS: {column: KRAS, positive: Mutant, negative: Wildtype}\n"
    )
    rows.append(("C9", "Z", "scan.nii.gz", "mask.nii.gz", "", 9))
    cases = written(tmp_path / "cases.csv", rows, "case,patient,scan,lesion,EGFR,age")
    _, found = inventory(cases, tmp_path / "table", "--config", str(tmp_path / "rules.yaml"))
    said = capsys.readouterr()
    assert "target KRAS: 4 positive, 0 negative, 1 missing of 5 cases (1 and 0 patients; fewer than 10" in said.out
    assert [row["KRAS"] for row in found.values()] == ["1", "1", "1", "1", ""]


def test_the_page_stands_alone_and_shows_the_lesion(cases, tmp_path):
    import base64
    import io

    from PIL import Image

    inventory(cases, tmp_path)
    page = (tmp_path / "doctor.html").read_text()
    assert not re.search(r"(src|href)='?(?!data:)[a-z/]", page)
    pictures = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) == 2
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[0])))).astype(int)
    outlined = (pixels[..., 2] - pixels[..., 0]) > 120  # cyan on grey
    assert pixels.shape == (400, 400, 3)
    middle = outlined[134:266, 134:266]
    assert middle.sum() > 50 and not outlined[:20].any()
    rows, columns = np.nonzero(middle)
    assert abs(rows.mean() - 66) < 4 and abs(columns.mean() - 66) < 4  # the crop is centred on the lesion


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["gone.csv"], "no such manifest"),
        (["gone.csv", "--outt", "x"], "unknown option --outt; did you mean --out"),
        (["empty"], "holds no DICOM images"),
    ],
)
def test_wrong_input_is_refused_with_its_repair(argv, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert doctor(argv) == 2
    assert message in capsys.readouterr().err


def test_real_dicom_with_two_kernels_and_boxes(shared_data, tmp_path):
    folder = shared_data / "lung_dx_a0002"
    cases = written(tmp_path / "cases.csv", [("A2", "A0002", folder / "dicom", folder / "tumour_boxes_px.csv")])
    code, found = inventory(cases, tmp_path / "out")
    row = found["A2"]
    assert code == 0 and row["series_found"] == "2" and row["kernel"] == "B40f" and "B70f" in row["refused"]
    assert "slices lie 8.0 mm apart, nine of them span 72 mm" in row["findings"]
    assert row["lesion_from"] == "box" and "headers may tell" not in row["findings"]
