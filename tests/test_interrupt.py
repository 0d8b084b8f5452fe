"""Ctrl-C, and what comes after."""

import csv
import shlex
import signal
import subprocess
import sys
import time
from functools import partial

from safetensors.numpy import load_file

from genomic_vit.phantom import main as phantom
from genomic_vit.train import main as train

EPOCHS = 12
SMALL = [
    *["--slab.tile_px", "16", "--vit.patch_px", "8", "--vit.width", "16", "--vit.heads", "2", "--vit.depth", "2"],
    *["--training.epochs", str(EPOCHS), "--training.patience", str(EPOCHS), "--split.folds", "3"],
    *["--split.validation", "0.3", "--device", "cpu", "--jobs", "1", "--mode", "joint", "--target", "mutant"],
]


def logged(run):
    """(epoch, name) → value of all that the sessions of a run logged, the later where an epoch was begun twice."""
    values = {}
    for path in sorted(run.glob("logs/joint/*/metrics.csv")):
        for row in csv.DictReader(path.open()):
            values |= {(int(row["epoch"]), name): row[name] for name in row if row[name] and name != "epoch"}
    return values


def test_a_run_stopped_by_ctrl_c_continues_to_where_the_whole_run_ends(tmp_path):
    assert phantom([str(tmp_path / "phantom"), "--patients", "24", "--jobs", "1"]) == 0
    given = ["--data", str(tmp_path / "phantom/cases.csv"), "--cache", str(tmp_path / "cache"), *SMALL]
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    assert train([*given, "--out", str(whole)]) == 0

    command = [sys.executable, "-m", "genomic_vit.train", *given, "--out", str(stopped)]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job would pass deafness on
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    deadline = time.monotonic() + 120
    while not (stopped / "checkpoints/joint/epoch_0.ckpt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert not (stopped / "metrics.json").exists()
    again = next(line for line in said.splitlines() if line.startswith("continue with: "))
    assert again.endswith("--resume")

    arguments = shlex.split(again.removeprefix("continue with: "))[3:]
    assert train(arguments) == 0
    assert logged(stopped) == logged(whole)  # every loss of every epoch: the kept weights may be of an early one
    assert {epoch for epoch, _ in logged(whole)} == set(range(EPOCHS))
    ours, theirs = load_file(stopped / "model.safetensors"), load_file(whole / "model.safetensors")
    differ = {n: float(abs(ours[n] - theirs[n]).max()) for n in theirs if not (ours[n] == theirs[n]).all()}
    assert not differ
    assert train(arguments) == 0  # a finished run resumed says its result again
