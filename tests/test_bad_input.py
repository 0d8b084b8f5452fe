"""Wrong input through the commands: exit code 2, a message that says what to do, nothing left half written."""

import csv
import re

import nibabel as nib
import numpy as np
import pytest

from genomic_vit import Geometry, Volume, write_volume
from genomic_vit.cohort.folds import Split
from genomic_vit.cohort.manifest import read_manifest
from genomic_vit.config_tree import from_tree
from genomic_vit.data.case import Reading
from genomic_vit.data.prepare import prepare
from genomic_vit.evaluate import main as evaluate
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.predict import main as predict
from genomic_vit.train import main as train
from genomic_vit.training.run_folder import RunFolder
from tests.scans import ball, chest, grid_of

GRID = grid_of(shape=(12, 40, 44))
AWAY = Geometry(GRID.shape, GRID.spacing_mm, GRID.origin_mm + 500, GRID.direction)
TINY = {"slab": {"tile_px": 16}, "vit": {"width": 16, "heads": 2, "depth": 1}, "device": "cpu"}
OPTIONS = ["--slab.tile_px", "16", "--vit.width", "16", "--vit.heads", "2", "--vit.depth", "1", "--device", "cpu"]


def with_nan(path):
    hu = chest(GRID).array.copy()
    hu[0, 0, :3] = np.nan
    write_volume(Volume(hu, GRID), path)


def four_dimensional(path):
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 2), np.float32), np.eye(4)), path)


def truncated(path):
    write_volume(chest(GRID), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD = {  # which file, how it is spoilt, what is said of it
    "missing": ("scan", lambda path: path.unlink(), "scan.nii.gz: no such file or folder; check the path"),
    "unreadable": ("scan", lambda path: path.write_text("x"), "scan.nii.gz: cannot be read .*copy or convert it again"),
    "truncated": ("scan", truncated, "scan.nii.gz: cannot be read .*copy or convert it again"),
    "4-D": ("scan", four_dimensional, r"shape \(4, 5, 6, 2\), one 3-D volume is needed; save the single volume"),
    "NaN": ("scan", with_nan, "3 of 21120 voxels are NaN or infinite; .*replace them by -1024"),
    "not CT": ("scan", lambda path: write_volume(Volume(ball(GRID).array * 255.0, GRID), path), "not a chest CT in HU"),
    "missing mask": ("mask", lambda path: path.unlink(), "mask.nii.gz: no such file or folder; check the path"),
    "empty mask": (
        "mask",
        lambda path: write_volume(Volume(np.zeros(GRID.shape, dtype=bool), GRID), path),
        "the mask is empty .*draw the lesion, or name another file",
    ),
    "mask elsewhere": (
        "mask",
        lambda path: write_volume(ball(AWAY), path),
        "0% of the lesion lies in the scan, at least half is needed.*another series or have lost its origin",
    ),
}


def good_case(folder):
    folder.mkdir()
    write_volume(chest(GRID), folder / "scan.nii.gz")
    write_volume(ball(GRID), folder / "mask.nii.gz")


def manifest(folder, names):
    """cases.csv of the case folders `names`, a patient each, with alternating labels."""
    rows = [(name, name, f"{name}/scan.nii.gz", f"{name}/mask.nii.gz", i % 2) for i, name in enumerate(names)]
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("case", "patient", "scan", "lesion", "mutant"), *rows])
    return folder / "cases.csv"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with fresh weights."""
    folder = tmp_path_factory.mktemp("run")
    for name in "abcd":
        good_case(folder / name)
    cohort = read_manifest(manifest(folder, "abcd"), ("mutant",))
    run = RunFolder(folder / "run")
    split = Split(np.zeros(4, dtype=int), *(np.array(part) for part in ([0, 1], [2], [3])))
    config = from_tree(TINY, "here")
    prepared = prepare(cohort, Reading.of(config), cache=folder / "cache", jobs=1)
    run.start(config, prepared, split, None)
    run.save_model(build_model(config))
    return run.path


@pytest.mark.parametrize("what", BAD)
def test_predict_refuses(what, run, tmp_path, capsys):
    which, spoil, message = BAD[what]
    good_case(tmp_path / "case")
    spoil(tmp_path / f"case/{which}.nii.gz")
    scan, mask = (str(tmp_path / f"case/{name}.nii.gz") for name in ("scan", "mask"))
    assert predict([str(run), scan, "--lesion", mask, "--out", str(tmp_path / "out")]) == 2
    assert re.search(f"^error: .*{message}", capsys.readouterr().err, re.DOTALL)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def spoilt(tmp_path):
    """A manifest of eight good cases and one of every bad kind."""
    good = [f"good{i}" for i in range(8)]
    for name in (*good, *BAD):
        good_case(tmp_path / name)
    for name, (which, spoil, _) in BAD.items():
        spoil(tmp_path / name / f"{which}.nii.gz")
    return manifest(tmp_path, (*good, *BAD))


def test_train_and_evaluate_list_every_bad_case_before_they_write(run, spoilt, tmp_path, capsys):
    given = ["--data", str(spoilt), "--cache", str(tmp_path / "cache"), "--jobs", "1", "--out", str(tmp_path / "out")]
    for command, more in ((train, ["--target", "mutant", *OPTIONS]), (evaluate, [])):
        before = [str(run)] if command is evaluate else []
        assert command([*before, *given, *more]) == 2
        said = capsys.readouterr().err
        assert (
            f"{len(BAD)} of {8 + len(BAD)} cases cannot be used; mend them, or leave them out with --skip-bad" in said
        )
        for name, (_, _, message) in BAD.items():
            assert re.search(rf"^  {name}: .*{message}", said, re.MULTILINE), name
        assert "good" not in said
        assert not (tmp_path / "out").exists()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name.startswith(".")]


def test_evaluate_drops_bad_cases_when_asked_and_writes_which_and_why(run, spoilt, tmp_path):
    given = ["--data", str(spoilt), "--cache", str(tmp_path / "cache"), "--jobs", "1", "--out", str(tmp_path / "out")]
    assert evaluate([str(run), *given, "--skip-bad"]) == 0
    left_out = {row["case"]: row["reason"] for row in csv.DictReader((tmp_path / "out/excluded.csv").open())}
    assert set(left_out) == set(BAD)
    assert all(re.search(message, left_out[name]) for name, (_, _, message) in BAD.items())
    assert len(list(csv.DictReader((tmp_path / "out/predictions.csv").open()))) == 8


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace("lesion", "mask", 1), "cases.csv: no column 'lesion'; found: case, patient"),
        (lambda text: text.replace("good1,good1", "good0,good1"), r"stand in several rows \('good0'\); every lesion"),
        (
            lambda text: text.replace("mask.nii.gz,1", "mask.nii.gz,0"),
            "'mutant' has 0 positive and 4 negative patients",
        ),
        (lambda text: text.replace("mutant", "EGFR"), "no target column 'mutant'; found: .*add the column, or name"),
    ],
)
def test_a_bad_manifest_is_refused_by_train_and_evaluate(spoil, message, run, tmp_path, capsys):
    path = manifest(tmp_path, [f"good{i}" for i in range(4)])
    path.write_text(spoil(path.read_text()))
    given = ["--data", str(path), "--out", str(tmp_path / "out")]
    for argv in ((train, [*given, "--target", "mutant", *OPTIONS]), (evaluate, [str(run), *given])):
        command, words = argv
        assert command(words) == 2
        assert re.search(message, capsys.readouterr().err)
        assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    path = manifest(tmp_path, "ab")
    assert evaluate([str(tmp_path), "--data", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "holds no run (no config.yaml); give the folder that train made" in capsys.readouterr().err
    assert train(["--out", str(tmp_path), "--overwrite", *OPTIONS]) == 2
    assert "exists, but is not a run folder; give an empty or new folder with --out" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text() == "mine"
