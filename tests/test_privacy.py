"""Nothing a run leaves on disk or says carries a patient's name, birth date or accession number."""

import csv
import gzip
import logging
import re

import pytest
from pydicom.dataset import Dataset

from genomic_vit import write_volume
from genomic_vit.evaluate import main as evaluate
from genomic_vit.imaging.scan import open_scan
from genomic_vit.predict import main as predict
from genomic_vit.train import main as train
from tests.dicoms import ct_header, lung, write_series
from tests.scans import ball, grid_of

PLANTED = {
    "PatientName": "Quackenbush^Ottoline",
    "PatientID": "MRN-8842617",
    "PatientBirthDate": "19031127",
    "AccessionNumber": "ACC7391846",
    "OtherPatientIDs": "OTHER-5512",
    "PatientAddress": "Nowhereweg 17",
    "ReferringPhysicianName": "Zwetschgenbaum^Y",
    "InstitutionName": "Spital Hinterwald",
    "StudyID": "STUDY-93517",
}
WORDS = [part for value in PLANTED.values() for part in re.split(r"[\^ ]", value) if len(part) > 2]
SMALL = [
    *["--slab.tile_px", "16", "--vit.patch_px", "8", "--vit.width", "16", "--vit.heads", "2", "--vit.depth", "1"],
    *["--training.epochs", "1", "--split.folds", "2", "--split.validation", "0.4", "--device", "cpu", "--jobs", "1"],
]


def header(number: int) -> Dataset:
    data = ct_header(series=number, frame=number)
    for keyword, value in PLANTED.items():
        setattr(data, keyword, value)
    data.SeriesDescription = "Thorax fuer Quackenbush"  # free text is where names hide
    data.ImageComments = "Ottoline, MRN-8842617"
    return data


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Sixteen patients under pseudonyms; one scan is refused, so that its reasons are written too."""
    folder, grid = tmp_path_factory.mktemp("export"), grid_of(shape=(12, 40, 40))
    rows = []
    for number in range(17):
        scan = folder / f"scan-{number:02}"
        skip = (lambda image, k: k != 5) if number == 16 else None
        write_series(scan, lung(grid), edit=skip, header=header(number + 1))
        lesion = write_volume(ball(grid, 5.0), folder / f"lesion-{number:02}.nrrd")
        rows.append((f"case-{number:02}", f"pseudonym-{number:02}", scan.name, lesion.name, number % 2))
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("case", "patient", "scan", "lesion", "mutant"), *rows])
    return folder / "cases.csv"


def traces(folder):
    """(file, word) wherever a planted word stands in a file's name or bytes, in plain, UTF-16 or compressed form."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        content += gzip.decompress(content) if path.suffix == ".gz" else b""
        content += path.name.encode()
        for word in WORDS:
            if word.encode() in content or word.encode("utf-16-le") in content:
                found.append((path.name, word))
    return found


def test_the_search_finds_what_is_planted(manifest):
    assert {word for _, word in traces(manifest.parent)} == set(WORDS)


def test_free_text_is_shown_without_the_names_in_it(manifest):
    assert open_scan(manifest.parent / "scan-00").facts["description"] == "Thorax fuer ***"


def test_no_output_of_a_run_carries_an_identifier(manifest, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    run, place = tmp_path / "run", ["--cache", str(tmp_path / "cache")]
    given = ["--data", str(manifest), "--target", "mutant", *place, *SMALL]
    assert train(["--out", str(run), *given]) == 2  # says why, case by case
    assert train(["--out", str(run), *given, "--skip-bad"]) == 0
    scan, lesion = manifest.parent / "scan-00", manifest.parent / "lesion-00.nrrd"
    assert predict([str(run), str(scan), "--lesion", str(lesion), "--out", str(tmp_path / "predict")]) == 0
    other = [str(run), "--data", str(manifest), "--out", str(tmp_path / "evaluate"), "--jobs", "1", *place]
    assert evaluate([*other, "--skip-bad"]) == 0
    said = tmp_path / "said.txt"
    said.write_text("".join(capfd.readouterr()) + caplog.text)
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"prediction.json", "heat.nii.gz", "overlay.png", "predictions.csv", "excluded.csv", "split.csv"} <= written
    assert len(list((tmp_path / "cache/slabs").glob("*.npy"))) == 16 and "case-16" in said.read_text()
    assert traces(tmp_path) == []
