"""A run killed at any point ends as if it had not been."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genomic_vit.phantom import main as phantom
from tests.killing import POINTS

SMALL = [
    *["--slab.tile_px", "16", "--vit.patch_px", "8", "--vit.width", "16", "--vit.heads", "2", "--vit.depth", "1"],
    *["--training.epochs", "3", "--training.batch_size", "3", "--split.folds", "3", "--split.validation", "0.4"],
    *["--view.eval_stride", "9", "--device", "cpu", "--jobs", "1", "--target", "mutant"],
]
KINDS = {
    "joint": ["--mode", "joint"],
    "staged": ["--mode", "staged"],
    "stopped early": ["--mode", "joint", "--training.patience", "1", "--training.learning_rate", "0.05"],
}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    assert phantom([str(folder / "phantom"), "--patients", "16", "--jobs", "1"]) == 0
    return ["--data", str(folder / "phantom/cases.csv"), "--cache", str(folder / "cache"), *SMALL]


def logged(run):
    """(stage, epoch, name) → values that the sessions of a run logged."""
    values = {}
    for path in sorted(run.glob("logs/*/*/metrics.csv")):
        for row in csv.DictReader(path.open()):
            for name in row:
                if row[name] and name != "epoch":
                    values.setdefault((path.parent.parent.name, row["epoch"], name), set()).add(row[name])
    return values


def written(run):
    """What a run ends with, byte for byte, and all that was logged on the way."""
    return {name: (run / name).read_bytes() for name in ("model.safetensors", "predictions.csv", "metrics.json")} | {
        "logged": logged(run)
    }


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.long] * ("more" in kind)) for kind in POINTS])
def test_a_killed_run_ends_as_the_whole_run(kind, given, tmp_path):
    """Killed at each of the points, then continued by the same command; the whole run logs every value once."""
    command = [sys.executable, "-m", "tests.killing", str(tmp_path), kind, *given, *KINDS[kind.removesuffix(", more")]]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    said = subprocess.run(command, capture_output=True, text=True, env=alone, cwd=Path(__file__).parent.parent)
    assert said.returncode == 0, said.stderr
    ended = json.loads(said.stdout.splitlines()[-1])
    assert ended.pop("whole") == [0], (tmp_path / "whole.log").read_text()
    whole = written(tmp_path / "whole")
    assert all(len(values) == 1 for values in whole["logged"].values())
    wrong = {}
    for name, status in ended.items():
        if status[-1] != 0 or set(status[:-1]) != {-9}:
            wrong[name] = (status, (tmp_path / f"{name}.log").read_text()[-2000:])
        else:
            found = written(tmp_path / name)
            differ = [part for part in whole if found[part] != whole[part]]
            traces = [path.name for path in (tmp_path / name).rglob(".*")]
            if differ or traces:
                wrong[name] = (differ, traces)
    assert not wrong
    assert list(ended) == list(POINTS[kind])
