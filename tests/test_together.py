"""The command in two processes gives what it gives in one; what cannot be started is refused before any work."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.numpy import load_file

from genomic_vit.config import TrainingConfig
from genomic_vit.phantom import main as phantom
from genomic_vit.train import main as train
from genomic_vit.training.machine import MachineError, Processes, check_processes
from genomic_vit.training.together import Together

SMALL = [
    *["--slab.tile_px", "16", "--vit.patch_px", "8", "--vit.width", "16", "--vit.heads", "2", "--vit.depth", "2"],
    *["--split.folds", "3", "--split.validation", "0.3", "--device", "cpu", "--jobs", "1", "--training.epochs", "3"],
    *["--training.batch_size", "5", "--training.lesion_weight", "0.5"],  # five: no even shares
]
SAME = ["--vit.dropout", "0", "--cnn.dropout", "0", "--precision", "64"]  # masks differ, and rounding grows


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Options of a run on 24 patients with two targets, the second of them unknown in a third of the cases."""
    folder = tmp_path_factory.mktemp("cohort")
    assert phantom([str(folder), "--patients", "24", "--jobs", "1"]) == 0
    rows = list(csv.DictReader((folder / "cases.csv").open()))
    with (folder / "two.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "other"])
        writer.writeheader()
        writer.writerows(row | {"other": "10"[i % 2] if i % 3 else ""} for i, row in enumerate(rows))
    data = ["--data", str(folder / "two.csv"), "--target", "mutant,other", "--cache", str(folder / "cache")]
    return [*data, *SMALL]


def in_two(arguments):
    """What the command in two processes ended with."""
    command = [sys.executable, "-m", "genomic_vit.train", "--devices", "2", *arguments]
    one_thread, root = {**os.environ, "OMP_NUM_THREADS": "1"}, Path(__file__).parents[1]
    return subprocess.run(command, capture_output=True, text=True, env=one_thread, timeout=300, cwd=root)


def logged(run):
    """(stage, epoch, name) → value, the later where an epoch was begun twice."""
    values = {}
    for path in sorted(run.glob("logs/*/session_*/metrics.csv")):
        for row in csv.DictReader(path.open()):
            told = {name: float(value) for name, value in row.items() if value and name not in ("epoch", "step")}
            values |= {(path.parents[1].name, int(row["epoch"]), name): value for name, value in told.items()}
    return values


def assert_same(ours, theirs):
    """Two runs logged the same losses and ended with the same weights and predictions."""
    losses, wanted = logged(ours), logged(theirs)
    assert losses.keys() == wanted.keys() and len(losses) == 2 * 3 + 3 * 3 + 2 * 3  # of vit, of cnn, by validation
    for key, value in wanted.items():
        assert losses[key] == pytest.approx(value, abs=1e-10), key
    weights, right = load_file(ours / "model.safetensors"), load_file(theirs / "model.safetensors")
    for name, value in right.items():
        np.testing.assert_allclose(weights[name], value, atol=1e-6, err_msg=name)
    told, expected = (list(csv.DictReader((run / "predictions.csv").open())) for run in (ours, theirs))
    assert [row["case"] for row in told] == [row["case"] for row in expected]
    for row, right in zip(told, expected, strict=True):
        assert float(row["mutant_probability"]) == pytest.approx(float(right["mutant_probability"]), abs=2e-6)


def test_two_processes_end_where_one_does_and_one_goes_on_from_them(given, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    asked = [*given, *SAME, "--mode", "staged"]
    assert train([*asked, "--out", str(one)]) == 0
    done = in_two([*asked, "--out", str(two)])
    assert done.returncode == 0, done.stderr[-3000:]
    for said in ("stage 1 of 2", "stage 2 of 2", "held-out mutant", "run folder"):
        assert (done.stderr + done.stdout).count(said) == 1
    assert_same(two, one)
    assert (two / "split.csv").read_bytes() == (one / "split.csv").read_bytes()
    held_out = [row["case"] for row in csv.DictReader((two / "split.csv").open()) if row["part"] != "train"]
    predicted = [row["case"] for row in csv.DictReader((two / "predictions.csv").open())]
    assert sorted(predicted) == sorted(held_out)
    counts = json.loads((two / "metrics.json").read_text())["mutant"]["counts"]
    assert counts["cases"] == sum(row["part"] == "test" for row in csv.DictReader((two / "split.csv").open()))

    for name in ("metrics.json", "predictions.csv", "model.safetensors", "checkpoints/cnn/done"):
        (two / name).unlink()
    max((two / "checkpoints/cnn").glob("epoch_*.ckpt")).unlink()  # as if killed in the second stage's last epoch
    assert train([*asked, "--out", str(two), "--resume"]) == 0
    assert_same(two, one)


@pytest.mark.long
def test_a_loss_that_is_not_finite_stops_both_and_is_said_once(given, tmp_path):
    done = in_two([*given, "--out", str(tmp_path / "run"), "--training.learning_rate", "1e36"])
    assert done.returncode == 2
    assert done.stderr.count("the loss is NaN or infinite") == 1 and "Traceback" not in done.stderr
    assert re.search(r"Cases of the batch: (\w+, ){4}\w+\.", done.stderr)  # those of both
    assert not list((tmp_path / "run").glob("checkpoints/*/*.ckpt"))


@pytest.mark.long
@pytest.mark.parametrize("whom", ["first", "other"])
def test_a_process_that_is_ended_ends_all_and_says_how_to_go_on(whom, given, tmp_path):
    run = tmp_path / "run"
    words = [*given, "--out", str(run), "--training.epochs", "500", "--devices", "2"]
    command, root = [sys.executable, "-m", "genomic_vit.train", *words], Path(__file__).parents[1]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    deadline = time.monotonic() + 200
    while not list(run.glob("checkpoints/joint/epoch_*.ckpt")):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    others = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    os.kill(first.pid if whom == "first" else int(others[0]), signal.SIGTERM if whom == "first" else signal.SIGKILL)
    said = first.communicate(timeout=120)[1]
    assert first.returncode == (130 if whom == "first" else 2), said[-2000:]
    assert ("--resume" in said) and "Traceback" not in said
    assert ("another process of this training has ended" in said) == (whom == "other")


@pytest.mark.long
def test_an_error_found_in_preparing_is_said_once_and_starts_nobody(given, tmp_path):
    done = in_two([*given, "--out", str(tmp_path / "run"), "--target", "mutan"])
    assert done.returncode == 2
    assert done.stderr.count("no target column 'mutan'") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--devices", "5000"], r"--devices 5000: this machine has \d+ CPU core\(s\); take --devices \d+, or"),
        (["--devices", "0"], "--devices is 0; it must be at least 1"),
        (["--num-nodes", "2"], r"--num-nodes 2: nothing says where .* with srun \(SLURM\) or torchrun, or set MASTER"),
        (["--strategy", "fsdp"], "--strategy fsdp needs GPUs, and this run is on a cpu; take ddp, or auto"),
        (["--devices", "2", "--training.batch_size", "1"], "batch_size is 1, of all 2 processes together; give each"),
    ],
)
def test_what_cannot_be_started_is_refused_before_any_work(words, message, tmp_path, capsys):
    places = ["--device", "cpu", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]
    assert train([*places, *words]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


SLURM = {"NTASKS": "1", "JOB_NAME": "train", "JOB_ID": "7", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
SLURM = {f"SLURM_{name}": value for name, value in SLURM.items()}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "7", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("told", "words", "message"),
    [
        (
            SLURM,  # sbatch and plain python
            ["--devices", "2"],
            r"--devices 2 on --num-nodes 1 is 2 process\(es\), but SLURM counts 1 \(SLURM_NTASKS\)\. Give .* as they "
            r"were started, or start as many as that: srun --nodes=1 --ntasks=2 --ntasks-per-node=2 python -m geno",
        ),
        (
            SLURM | {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "1"},  # srun, no --devices
            [],
            r"--devices 1 on .* is 1 process.*, but SLURM counts 2 .*: srun --nodes=1 --ntasks=1 --ntasks-per-node=1",
        ),
        (
            TORCHRUN,
            [],
            r"but torchrun counts 2 \(WORLD_SIZE\)\. .*: torchrun --nnodes=1 --nproc-per-node=1 -m genomic_vit.train",
        ),
        (
            TORCHRUN | SLURM,  # torchrun in an allocation: it is torchrun that started them
            ["--num-nodes", "3"],
            r"but torchrun counts 2 .*: torchrun --nnodes=3 --nproc-per-node=1 -m genomic_vit.train",
        ),
    ],
)
def test_another_number_than_was_started_is_refused_before_any_work(
    told, words, message, tmp_path, capsys, monkeypatch
):
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    places = ["--device", "cpu", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]
    assert train([*places, *words]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_as_many_as_were_started_are_taken(monkeypatch):
    for name, value in (TORCHRUN | SLURM).items():
        monkeypatch.setenv(name, value)
    check_processes(Processes(2), TrainingConfig(), torch.device("cpu"))
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    check_processes(Processes(1), TrainingConfig(), torch.device("cpu"))


def test_fewer_that_join_than_were_asked_for_are_not_trained_with(monkeypatch):
    """As where something else than SLURM and torchrun starts them, and Lightning knows it."""

    def joined_alone(fabric):
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)

    monkeypatch.setattr("lightning.Fabric.launch", joined_alone)
    together = Together(Processes(2), "cpu")
    try:
        with pytest.raises(
            MachineError, match=r"1 process\(es\) were started .* --devices 2 on --num-nodes 1 is 2\. St"
        ):
            together.once(lambda: None)
    finally:
        dist.destroy_process_group()


def test_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_processes(Processes(2), TrainingConfig(), torch.device("cuda"))
    with pytest.raises(MachineError, match=r"--devices 3: this machine has 2 GPU\(s\); take --devices 2"):
        check_processes(Processes(3), TrainingConfig(), torch.device("cuda"))


def test_fsdp_says_what_it_cannot_do():
    with pytest.raises(MachineError, match=r"cannot average weights \(training.average is 0.99\).*average 0, or"):
        check_processes(Processes(1, 1, "fsdp"), TrainingConfig(), torch.device("cuda"))
    with pytest.raises(MachineError, match="cannot compute in precision 64; take 32, or ddp"):
        check_processes(Processes(1, 1, "fsdp"), TrainingConfig(average=0, precision="64"), torch.device("cuda"))
    check_processes(Processes(1, 1, "fsdp"), TrainingConfig(average=0), torch.device("cuda"))
