"""The commands as users call them, on a small phantom."""

import csv
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genomic_vit import read_lesion, read_scan
from genomic_vit.__main__ import COMMANDS
from genomic_vit.evaluate import main as evaluate
from genomic_vit.phantom import main as phantom
from genomic_vit.predict import main as predict
from genomic_vit.train import main as train

SMALL = [
    *["--slab.tile_px", "16", "--vit.patch_px", "8", "--vit.width", "16", "--vit.heads", "2", "--vit.depth", "2"],
    *["--training.epochs", "2", "--split.folds", "3", "--split.validation", "0.3", "--device", "cpu", "--jobs", "1"],
]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "phantom"
    assert phantom([str(folder), "--patients", "24", "--jobs", "1"]) == 0
    return folder / "cases.csv"


@pytest.fixture(scope="module")
def given(cohort, tmp_path_factory):
    return ["--data", str(cohort), "--target", "mutant", "--cache", str(tmp_path_factory.mktemp("cache")), *SMALL]


@pytest.fixture(scope="module")
def run(given, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "joint"
    assert train(["--mode", "joint", "--out", str(out), *given]) == 0
    return out


def test_a_run_folder_holds_what_a_reviewer_needs(run):
    names = {path.name for path in run.iterdir()}
    assert {
        "config.yaml",
        "split.csv",
        "predictions.csv",
        "metrics.json",
        "model.safetensors",
        "environment.json",
    } <= names
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    assert {"case", "patient", "fold", "part", "mutant", "mutant_probability"} == set(rows[0])
    split = list(csv.DictReader((run / "split.csv").open()))
    patients = [{row["patient"] for row in split if row["part"] == part} for part in ("train", "validation", "test")]
    assert not (patients[0] & patients[1] or patients[0] & patients[2] or patients[1] & patients[2])
    auc = json.loads((run / "metrics.json").read_text())["mutant"]["by_case"]["auc"]
    assert auc["low"] <= auc["value"] <= auc["high"]


def test_staged_leaves_the_vit_as_its_first_stage_left_it(given, tmp_path):
    import torch

    assert train(["--mode", "staged", "--out", str(tmp_path / "run"), *given]) == 0
    first, second = (
        torch.load(tmp_path / "run/checkpoints" / stage / "best.ckpt", weights_only=True)["state_dict"]
        for stage in ("vit", "cnn")
    )
    vit = [name for name in first if name.startswith("model.vit.")]
    assert vit and all(torch.equal(first[name], second[name]) for name in vit)
    assert any(not torch.equal(first[name], second[name]) for name in first if name.startswith("model.cnn."))


def test_predict_puts_heat_on_exactly_the_scans_grid(run, cohort, tmp_path):
    row = next(csv.DictReader(cohort.open()))
    scan, lesion = cohort.parent / row["scan"], cohort.parent / row["lesion"]
    assert predict([str(run), str(scan), "--lesion", str(lesion), "--out", str(tmp_path / "out")]) == 0
    answer = json.loads((tmp_path / "out/prediction.json").read_text())
    assert 0 <= answer["probability"]["mutant"] <= 1
    assert (tmp_path / "out/overlay.png").stat().st_size > 10_000
    volume = read_scan(scan)
    import nibabel as nib

    heat, original = nib.load(tmp_path / "out/heat.nii.gz"), nib.load(scan)
    assert heat.shape == original.shape
    np.testing.assert_allclose(heat.affine, original.affine, atol=1e-5)
    values = heat.get_fdata().transpose(2, 1, 0)
    inside = read_lesion(lesion, like=volume).array
    assert (values[inside] > 0).all()
    assert (values == 0).mean() > 0.5


def test_predict_explains_each_target_and_says_what_the_heat_is_made_of(run, cohort, tmp_path, caplog):
    import nibabel as nib

    row = next(csv.DictReader(cohort.open()))
    scan, lesion = cohort.parent / row["scan"], cohort.parent / row["lesion"]
    out = ["--out", str(tmp_path / "out"), "--relevance", "--diagnostics"]
    caplog.set_level("INFO", "genomic_vit")
    assert predict([str(run), str(scan), "--lesion", str(lesion), *out]) == 0
    assert "class-specific" in json.loads((tmp_path / "out/prediction.json").read_text())["relevance"]
    assert (tmp_path / "out/relevance_mutant.png").stat().st_size > 10_000
    image, original = nib.load(tmp_path / "out/relevance_mutant.nii.gz"), nib.load(scan)
    np.testing.assert_allclose(image.affine, original.affine, atol=1e-5)
    values = image.get_fdata()
    assert image.shape == original.shape and values.min() >= 0 and values.max() > 1
    assert not np.allclose(values, nib.load(tmp_path / "out/heat.nii.gz").get_fdata(), atol=0.1)
    assert "rows differ by at most" in caplog.text and "whole rollout: contrast" in caplog.text


def test_evaluate_scores_another_cohort_and_tells_the_run_s_own_by_their_voxels(run, cohort, tmp_path, caplog):
    given = [str(run), "--data", str(cohort), "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert evaluate([*given, "--cache", str(tmp_path)]) == 0
    parts = {row["case"]: row["part"] for row in csv.DictReader((tmp_path / "out/predictions.csv").open())}
    assert parts == {row["case"]: row["part"] for row in csv.DictReader((run / "split.csv").open())}
    learnt = sum(part != "test" for part in parts.values())
    assert 0 < learnt < len(parts) == 24
    assert f"{learnt} of 24 cases, such as " in caplog.text and "the numbers are no test of it" in caplog.text
    assert evaluate([*given, "--cache", str(tmp_path)]) == 2


def test_evaluate_names_patients_called_as_those_that_the_run_learnt_from(run, cohort, tmp_path, caplog):
    split = {row["case"]: row for row in csv.DictReader((run / "split.csv").open())}
    learnt = next(row["patient"] for row in split.values() if row["part"] == "train")
    rows = [row for row in csv.DictReader(cohort.open()) if split[row["case"]]["part"] == "test"]
    for row in rows:
        row["scan"], row["lesion"] = str(cohort.parent / row["scan"]), str(cohort.parent / row["lesion"])

    def evaluated(name):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        given = ["--data", str(tmp_path / f"{name}.csv"), "--out", str(tmp_path / name), "--jobs", "1"]
        caplog.clear()
        assert evaluate([str(run), *given, "--cache", str(tmp_path)]) == 0
        return caplog.text

    assert "trained with" not in evaluated("held_out")  # what it never learnt from
    rows[0]["patient"] = learnt
    said = evaluated("alike")
    assert f"1 patients, such as {learnt}, have the names of patients that this run was trained with" in said
    assert "no test of it" not in said


def test_train_says_that_a_scan_is_held_out_under_another_name_and_nothing_where_none_is(
    cohort, given, tmp_path, caplog
):
    rows = list(csv.DictReader(cohort.open()))
    for row in rows:
        row["scan"], row["lesion"] = str(cohort.parent / row["scan"]), str(cohort.parent / row["lesion"])

    def trained(name, rows):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        caplog.clear()
        asked = [*given, "--data", str(tmp_path / f"{name}.csv"), "--training.epochs", "1"]
        assert train(["--mode", "joint", "--out", str(tmp_path / name), *asked]) == 0
        return caplog.text

    said = "held-out numbers may be too good"
    assert said not in trained("sound", rows)
    copies = []
    for number in range(5):  # labels of both kinds: some of them lie in other parts than their original
        copy = tmp_path / f"copy{number}.nii.gz"
        copy.write_bytes(Path(rows[0]["scan"]).read_bytes())
        copies.append(
            rows[0] | {"case": f"c{number}", "patient": f"Q{number}", "scan": str(copy), "mutant": number % 2}
        )
    told = trained("leaky", rows + copies)
    assert said in told and "give such cases the same patient name, or remove all but one" in told
    assert "scans of two names have the same pixels: " in told and "(patient 'Q" in told


def test_a_finished_run_is_not_overwritten_unasked(run, given, capsys):
    before = (run / "metrics.json").read_bytes()
    assert train(["--mode", "joint", "--out", str(run), *given]) == 2
    assert "already holds a run; pass --resume, --overwrite, or another --out" in capsys.readouterr().err
    assert (run / "metrics.json").read_bytes() == before
    assert train(["--mode", "joint", "--out", str(run), *given, "--resume", "--seed", "5"]) == 2
    assert "cannot resume with other settings: seed" in capsys.readouterr().err


def test_all_bad_cases_are_listed_before_anything_is_written(cohort, given, tmp_path, capsys):
    rows = list(csv.DictReader(cohort.open()))
    for row in rows:
        row["scan"], row["lesion"] = str(cohort.parent / row["scan"]), str(cohort.parent / row["lesion"])
    rows[1]["scan"], rows[4]["lesion"] = "gone.nii.gz", "lost.nii.gz"
    other = tmp_path / "cases.csv"
    with other.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    bad = ["--mode", "joint", "--out", str(tmp_path / "run"), *given, "--data", str(other)]
    assert train(bad) == 2
    said = capsys.readouterr().err
    assert "2 of 24 cases cannot be used" in said and "gone.nii.gz" in said and "lost.nii.gz" in said
    assert not (tmp_path / "run").exists()
    assert train([*bad, "--skip-bad"]) == 0
    left_out = list(csv.DictReader((tmp_path / "run/excluded.csv").open()))
    assert [row["case"] for row in left_out] == [rows[1]["case"], rows[4]["case"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--target", "mutan"], "no target column 'mutan'.*did you mean 'mutant'"),
        (["--split.folds", "25"], "24 patients cannot make 25 folds"),
        (["--data", "nowhere.csv"], "nowhere.csv: no such manifest"),
        (["--vit.widht", "8"], "unknown option --vit.widht; did you mean --vit.width"),
        (["--vit.width", "15"], "vit.width 15 must be a multiple of vit.heads 2"),
    ],
)
def test_wrong_input_is_refused_with_its_repair(change, message, given, tmp_path, capsys):
    import re

    assert train(["--mode", "joint", "--out", str(tmp_path / "run"), *given, *change]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_unknown_key_in_a_config_file_is_refused(tmp_path, capsys):
    (tmp_path / "my.yaml").write_text("vit:\n  dept: 3\n")
    assert train(["--config", str(tmp_path / "my.yaml")]) == 2
    assert "unknown setting vit.dept; did you mean vit.depth?" in capsys.readouterr().err


def test_damaged_or_strange_weights_are_refused(run, cohort, tmp_path, capsys):
    import shutil

    row = next(csv.DictReader(cohort.open()))
    scan, lesion = str(cohort.parent / row["scan"]), str(cohort.parent / row["lesion"])
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    out = ["--lesion", lesion, "--out", str(tmp_path / "out")]
    (copy / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:1000])
    assert predict([str(copy), scan, *out]) == 2
    assert "model.safetensors: damaged" in capsys.readouterr().err
    shutil.copy(run / "model.safetensors", copy)
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("depth: 2", "depth: 3").replace("width: 16", "width: 32"))
    assert predict([str(copy), scan, *out]) == 2
    assert "does not fit config.yaml" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["genomic_vit", *[f"genomic_vit.{n}" for n in COMMANDS]])
def test_help_is_quick(command):
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)  # its own work, not the wait for a busy machine
        said = subprocess.run([sys.executable, "-m", command, "--help"], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert "genomic_vit" in said.stdout
    assert min(times) < 1.5


def relabelled(cohort, path, **columns):
    """The manifest at `cohort` with more columns, one value a row, and absolute paths."""
    rows = list(csv.DictReader(cohort.open()))
    for index, row in enumerate(rows):
        row["scan"], row["lesion"] = str(cohort.parent / row["scan"]), str(cohort.parent / row["lesion"])
        row.update({name: values[index] for name, values in columns.items()})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_several_targets_with_missing_labels(cohort, given, tmp_path):
    other = ["1", "0", ""] * 8
    manifest = relabelled(cohort, tmp_path / "cases.csv", other=other)
    out = tmp_path / "run"
    assert (
        train(["--mode", "joint", "--out", str(out), *given, "--data", str(manifest), "--target", "mutant,other"]) == 0
    )
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert {"mutant", "mutant_probability", "other", "other_probability"} <= set(rows[0])
    assert all(row["other_probability"] for row in rows) and any(row["other"] == "" for row in rows)
    counts = json.loads((out / "metrics.json").read_text())["other"]["counts"]
    tested = [row for row in rows if row["part"] == "test"]
    assert counts["missing"] == sum(row["other"] == "" for row in tested)
    assert counts["cases"] + counts["missing"] == len(tested)


def test_text_labels_by_declaration(cohort, given, tmp_path, caplog):
    words = {"1": "Mutant", "0": "Wildtype"}
    text = [words[row["mutant"]] for row in csv.DictReader(cohort.open())]
    text[0] = "Not collected"
    manifest = relabelled(cohort, tmp_path / "cases.csv", EGFR=text)
    asked = ["--mode", "joint", "--out", str(tmp_path / "run"), *given, "--data", str(manifest), "--target", "EGFR"]
    assert train(asked) == 2
    assert not (tmp_path / "run").exists()
    assert train([*asked, "--positive", "Mutant", "--negative", "Wildtype"]) == 0
    assert "taken as missing: 1 Not collected" in caplog.text


def test_one_class_only_is_refused(cohort, given, tmp_path, capsys):
    manifest = relabelled(cohort, tmp_path / "cases.csv", same=["1"] * 24)
    asked = ["--mode", "joint", "--out", str(tmp_path / "run"), *given, "--data", str(manifest), "--target", "same"]
    assert train(asked) == 2
    assert "target 'same' has 24 positive and 0 negative patients" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_predict_reads_a_dicom_folder(run, shared_data, tmp_path):
    import SimpleITK as sitk

    from genomic_vit import Volume, write_volume

    for folder in sorted({path.parent for path in (shared_data / "lung_dx_a0002").rglob("*.dcm")}):
        series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    (tmp_path / "scan").mkdir()
    for name in names:
        (tmp_path / "scan" / name.rsplit("/", 1)[-1]).symlink_to(name)
    scan = read_scan(tmp_path / "scan")
    middle = scan.geometry.to_lps((np.array(scan.geometry.shape) - 1) / 2)
    ball = np.linalg.norm(scan.geometry.positions_mm() - middle, axis=-1) < 15
    write_volume(Volume(ball, scan.geometry), tmp_path / "mask.nrrd")
    given = ["--lesion", str(tmp_path / "mask.nrrd"), "--out", str(tmp_path / "out")]
    assert predict([str(run), str(tmp_path / "scan"), *given]) == 0
    assert read_scan_grid(tmp_path / "out/heat.nii.gz").same_as(scan.geometry)


def read_scan_grid(path):
    """Geometry of an image that is no scan."""
    import nibabel as nib

    from genomic_vit import Geometry

    affine = np.diag([-1, -1, 1, 1]) @ nib.load(path).affine
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    direction = (affine[:3, :3] / spacing_mm)[:, ::-1]
    return Geometry(nib.load(path).shape[::-1], spacing_mm[::-1], affine[:3, 3], direction)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--vit.depth", "many"], "error: --vit.depth is many; a whole number is needed"),
        (["--vit.dropout", "x"], "error: --vit.dropout is x; a number with a dot for decimals is needed"),
        (["--augment.flips", "perhaps"], "error: --augment.flips is perhaps; true or false is needed"),
        (["--mode", "both"], "error: --mode is both; one of joint, staged is needed"),
        (["--config", "none.yaml"], "none.yaml: no such config file; check the path"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(change, message, tmp_path, capsys):
    import re

    try:
        code = train([*change, "--out", str(tmp_path / "run")])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_second_prediction_leaves_no_relevance_of_the_first(run, cohort, tmp_path):
    rows = [*csv.DictReader(cohort.open())][:2]
    for row, more in zip(rows, (["--relevance"], []), strict=True):
        scan, lesion = cohort.parent / row["scan"], cohort.parent / row["lesion"]
        assert predict([str(run), str(scan), "--lesion", str(lesion), "--out", str(tmp_path / "out"), *more]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"prediction.json", "heat.nii.gz", "overlay.png"}


def test_an_empty_config_file_is_refused_in_words(tmp_path, capsys):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert train(["--config", str(tmp_path / "empty.yaml"), "--out", str(tmp_path / "run")]) == 2
    assert "empty.yaml: holds no settings; write some" in capsys.readouterr().err


def test_predict_answers_for_each_lesion_and_for_a_point(run, cohort, tmp_path, capsys):
    from genomic_vit import Volume, write_volume

    row = next(csv.DictReader(cohort.open()))
    scan, lesion = cohort.parent / row["scan"], cohort.parent / row["lesion"]
    volume = read_scan(scan)
    one = read_lesion(lesion, like=volume).array
    centre = np.argwhere(one).mean(axis=0)
    far = np.array(one.shape) / 2 + 0.8 * (np.array(one.shape) / 2 - centre)  # mirrored through the scan's middle
    away = np.abs(np.stack(np.indices(one.shape), axis=-1) - far) * volume.geometry.spacing_mm
    write_volume(Volume(one | (np.linalg.norm(away, axis=-1) < 3), volume.geometry), tmp_path / "two.nii.gz")
    out = tmp_path / "out"
    given = [str(run), str(scan), "--lesion", str(tmp_path / "two.nii.gz"), "--out", str(out)]
    assert predict([*given, "--lesions", "each"]) == 0
    assert "lesion 1: {" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"1", "2"}
    assert all((out / name / "heat.nii.gz").exists() for name in "12")
    x, y, z = volume.geometry.to_lps(centre)
    point, frame = (f"{x},{y},{z}", "lps") if x < 0 else (f"{-x},{-y},{z}", "ras")  # a minus is no option
    assert predict([str(run), str(scan), "--lesion", point, "--frame", frame, "--out", str(tmp_path / "point")]) == 0
    assert json.loads((tmp_path / "point/prediction.json").read_text())["lesion_extent"] == "point"
