"""The command benchmark: a cohort on disk compared from end to end, and what it refuses with the repair."""

import csv
import shutil

import numpy as np
import pytest

from genomic_vit import read_scan
from genomic_vit.benchmark import main as benchmark
from genomic_vit.imaging.volume import Volume
from genomic_vit.imaging.write import write_volume
from tests.benchmark_cohort import bright_cohort


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """The cohort of 12 patients on disk."""
    folder, prepared = tmp_path_factory.mktemp("cohort"), bright_cohort(12)
    with (folder / "cases.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "patient", "scan", "lesion", "mutant", "kernel"])
        for i, (case, slab) in enumerate(zip(prepared.cohort.cases, prepared.slabs, strict=True)):
            write_volume(Volume(slab.hu, slab.geometry), folder / f"s{i}.nii.gz")
            write_volume(Volume(slab.lesion, slab.geometry), folder / f"l{i}.nii.gz")
            label = int(prepared.cohort.labels[i, 0])
            writer.writerow([case.case, case.patient, f"s{i}.nii.gz", f"l{i}.nii.gz", label, "AB"[i % 2]])
    return folder / "cases.csv"


def experiment(folder, manifest, text=""):
    path = folder / "small.yaml"
    path.write_text(
        f"run:\n  data: {manifest}\n  target: mutant\n  device: cpu\n  slab: {{tile_px: 16}}\n"
        "  view: {eval_flips: false}\n  vit: {patch_px: 8, width: 16, heads: 2, depth: 2}\n"
        "  training: {epochs: 2}\n  split: {validation: 0.3}\n"
        "  labels: {covariates: {kernel: {column: kernel}}}\n"
        f"arms: [joint, cnn, size, site]\nfolds: 2\nacquisition: [kernel]\nminimum: 4\n{text}"
    )
    return path


def test_the_command_compares_reports_and_keeps(manifest, tmp_path, capsys):
    given = [str(experiment(tmp_path, manifest)), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    assert benchmark([*given, "--jobs", "1", "--quick"]) == 0
    said = capsys.readouterr().out
    assert "mutant, one row a patient" in said and "site" in said
    assert "the same CNN trained without heat (cnn)" in said
    page = (tmp_path / "out/report.html").read_text()
    assert "Of 12 cases the scans were compared, whatever was outlined in them" in page
    assert "A rehearsal" in page and (tmp_path / "out/results.csv").is_file()
    assert not (tmp_path / "out/study.joblib").exists()
    assert benchmark([*given, "--jobs", "1", "--quick", "--reference", "cnn"]) == 0


@pytest.mark.parametrize(
    ("text", "change", "message"),
    [
        ("", ["--arms", "[joint,radiomics_lr]"], "unknown arm 'radiomics_lr'; did you mean 'radiomics-lr'?"),
        ("subgroup: []\n", [], "unknown setting subgroup; did you mean subgroups?"),
        ("", ["--run.vit.widht", "8"], "unknown option --run.vit.widht; did you mean --run.vit.width?"),
        ("", ["--folds", "13"], "12 patients cannot make 13 folds; use --folds 12 or fewer, or add patients."),
        ("", ["--split.folds", "3"], "run.split.folds and run.split.fold are the benchmark's: set folds instead"),
        ("", ["--seed", "3"], "unknown option --seed; did you mean --seeds?"),
        ("", ["--positive", "yes"], "positive is 'yes' and negative is None; give both"),
        ("", ["--subgroups", "[age<3]"], "there is no covariate 'age' (declared: kernel); declare it in run.labels"),
    ],
)
def test_the_command_refuses_with_the_repair(text, change, message, manifest, tmp_path, capsys):
    path = experiment(tmp_path, manifest, text)
    given = [str(path), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--jobs", "1"]
    assert benchmark([*given, *change]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_stops_at_a_scan_of_another_name_with_another_outline(manifest, tmp_path, capsys):
    """Copies of a scan, outlined elsewhere; labels put them in the other fold than their original."""
    folder = tmp_path / "cohort"
    shutil.copytree(manifest.parent, folder)
    geometry = read_scan(folder / "s2.nii.gz").geometry
    with (folder / "cases.csv").open("a", newline="") as file:
        for number in range(3):
            shutil.copy(folder / "s2.nii.gz", folder / f"copy{number}.nii.gz")
            outline = np.zeros(geometry.shape, dtype=bool)
            outline[number + 1 : number + 4, 2 + number : 6 + number, 9:13] = True
            write_volume(Volume(outline, geometry), folder / f"moved{number}.nii.gz")
            row = [f"copy{number}", f"Q{number}", f"copy{number}.nii.gz", f"moved{number}.nii.gz", number % 2, "A"]
            csv.writer(file).writerow(row)
    path = experiment(tmp_path, folder / "cases.csv")
    given = [str(path), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--jobs", "1"]
    assert benchmark(given) == 2
    said = capsys.readouterr().err
    assert "leaks between folds; give such cases the same patient name, or remove all but one" in said
    assert "scans of two names have the same pixels: " in said and "(patient 'Q" in said
    assert not (tmp_path / "out" / "parts").exists()
