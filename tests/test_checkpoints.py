"""Damaged checkpoints, moved folders and full disks: said aloud, nothing lost, and the end is the same."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from genomic_vit.phantom import main as phantom
from genomic_vit.train import main as train
from genomic_vit.training.checkpoints import BEST, WholeCheckpoints, damage
from genomic_vit.training.module import StageModule
from genomic_vit.training.run_folder import RunFolder
from tests.test_resume import SMALL, written

CONTENT = {"state_dict": {f"w{i}": torch.arange(5.0) + i for i in range(3)}, "epoch": 3, "callbacks": {"path": "x"}}


class Stopped(Exception):
    """What stops a run here."""


@contextlib.contextmanager
def stopping_at(step):
    """Let the nth training step from now on fail."""
    with pytest.MonkeyPatch.context() as patch:
        known, steps = StageModule.training_step, []

        def counted(*given):
            steps.append(1)
            if len(steps) == step:
                raise Stopped
            return known(*given)

        patch.setattr(StageModule, "training_step", counted)
        with pytest.raises(Stopped):
            yield


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    assert phantom([str(folder / "phantom"), "--patients", "16", "--jobs", "1"]) == 0
    data = ["--data", str(folder / "phantom/cases.csv"), "--cache", str(folder / "cache")]
    return ["--mode", "joint", *data, *SMALL]


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train([*given, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def stopped(given, tmp_path_factory):
    """A run that stopped in its last epoch, with two epochs behind it."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with stopping_at(5):
        train([*given, "--out", str(folder)])
    return folder


@pytest.fixture
def run(stopped, tmp_path):
    """A copy of it: in another place, as users move runs."""
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def test_a_run_folder_may_be_moved_before_it_is_continued(run, given, whole):
    """Lightning alone would forget the best score there, and keep the next epoch as the best."""
    assert train([*given, "--out", str(run), "--resume"]) == 0
    assert written(run) == written(whole)
    assert sorted(path.name for path in (run / "checkpoints/joint").iterdir()) == [
        BEST,
        "done",
        "epoch_1.ckpt",
        "epoch_2.ckpt",
    ]


def test_any_byte_changed_and_any_cut_is_seen(tmp_path):
    path = tmp_path / BEST
    WholeCheckpoints().save_checkpoint(CONTENT, path)
    good = path.read_bytes()
    assert damage(path) is None
    assert str(torch.load(path, weights_only=True)) == str(CONTENT)  # the checksum behind it is in nobody's way
    for place in range(0, len(good), 11):
        path.write_bytes(good[:place] + bytes([good[place] ^ 16]) + good[place + 1 :])
        assert damage(path) == "damaged: its checksum differs"
        path.write_bytes(good[:place])
        assert damage(path) in ("damaged: its checksum differs", "cut short")
    path.unlink()
    assert damage(path) == "missing"


def spoil(path, how):
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes(255 - byte for byte in content[middle : middle + 8]) + content[middle + 8 :]
    path.write_bytes({"flipped": flipped, "cut": content[:middle], "empty": b""}[how])


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before_aloud(how, run, given, whole, caplog):
    spoil(run / "checkpoints/joint/epoch_1.ckpt", how)
    assert train([*given, "--out", str(run), "--resume"]) == 0
    assert "epoch_1.ckpt: " in caplog.text and "the run goes on from epoch 0, epoch_0.ckpt" in caplog.text
    assert written(run) == written(whole)


def test_with_no_sound_checkpoint_a_pretrained_run_begins_with_its_file_again(given, whole, tmp_path):
    given = [*given, "--model.pretrained", str(whole / "model.safetensors")]
    assert train([*given, "--out", str(tmp_path / "whole")]) == 0
    with stopping_at(3):
        train([*given, "--out", str(tmp_path / "run")])
    spoil(tmp_path / "run/checkpoints/joint/epoch_0.ckpt", "cut")
    assert train([*given, "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert written(tmp_path / "run") == written(tmp_path / "whole")


def test_with_no_sound_checkpoint_the_stage_begins_again(run, given, whole, caplog):
    for path in (run / "checkpoints/joint").glob("epoch_*.ckpt"):
        spoil(path, "cut")
    assert train([*given, "--out", str(run), "--resume"]) == 0
    assert caplog.text.count("; the stage begins again") == 2
    assert written(run) == written(whole)


@pytest.mark.parametrize("how", ["flipped", "missing"])
def test_without_a_sound_best_checkpoint_nothing_is_trained_and_the_advice_helps(how, run, given, whole, capsys):
    best = run / "checkpoints/joint" / BEST
    best.unlink() if how == "missing" else spoil(best, how)
    assert train([*given, "--out", str(run), "--resume"]) == 2
    said = capsys.readouterr().err
    assert f"{best}: {'missing' if how == 'missing' else 'damaged: its checksum differs'}, and the best weights" in said
    assert f"delete the folder {best.parent} and give the same command again, train's with --resume" in said
    shutil.rmtree(best.parent)
    assert train([*given, "--out", str(run), "--resume"]) == 0
    assert written(run) == written(whole)


@contextlib.contextmanager
def small_disk(folder, *options):
    """A file system in memory mounted at `folder`; the test is skipped where that is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command here")
def test_a_disk_that_fills_during_a_checkpoint_costs_nothing(given, whole, tmp_path, capsys):
    """Room for best.ckpt and one epoch's, and half a checkpoint more."""
    size = sum((whole / "checkpoints/joint" / name).stat().st_size for name in (BEST, "epoch_1.ckpt"))
    room = size + (whole / "checkpoints/joint" / BEST).stat().st_size // 2
    with small_disk(tmp_path / "disk", f"size={room}") as disk:
        run = disk / "run"
        assert train([*given, "--out", str(run)]) == 2
        said = capsys.readouterr().err
        assert f"error: {run}/checkpoints/joint/" in said and "cannot be written (No space left on device)" in said
        assert "Make room" in said and "give the same command again, train's with --resume" in said
        assert damage(run / "checkpoints/joint" / BEST) is None
        assert damage(run / "checkpoints/joint/epoch_0.ckpt") is None
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        assert train([*given, "--out", str(run), "--resume"]) == 0
        assert written(run) == written(whole)


@pytest.mark.parametrize("name", ["epoch_2.ckpt", "model.safetensors", "metrics.json"])
def test_a_file_that_finds_no_room_leaves_the_others_whole(name, run, given, whole, capsys, monkeypatch):
    """As above where nothing can be mounted, and for what is written after training."""
    known = os.replace

    def full(source, target):
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        known(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert train([*given, "--out", str(run), "--resume"]) == 2
    said = capsys.readouterr().err
    assert str(run) in said and "cannot be written (No space left on device)" in said and "--resume" in said
    assert not (run / name).exists() and not list(run.rglob(".*"))
    monkeypatch.undo()
    assert train([*given, "--out", str(run), "--resume"]) == 0
    assert written(run) == written(whole)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command here")
def test_a_run_or_cache_folder_on_a_disk_that_takes_no_writes(given, tmp_path, capsys):
    with small_disk(tmp_path / "disk", "ro") as disk:
        assert train([*given, "--out", str(disk / "run")]) == 2
        said = capsys.readouterr().err
        assert f"{disk}/run: cannot be written (Read-only file system); give a folder that can be with --out" in said
        assert train([*given, "--out", str(tmp_path / "run"), "--cache", str(disk / "cache")]) == 2
        said = capsys.readouterr().err
        assert f"{disk}/cache: prepared slabs cannot be kept here (Read-only file system)" in said
        assert not (tmp_path / "run").exists()


def test_a_run_or_cache_folder_below_a_file(given, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert train([*given, "--out", str(tmp_path / "file/run")]) == 2
    assert "file/run: cannot be written (Not a directory)" in capsys.readouterr().err
    assert train([*given, "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "file/cache")]) == 2
    assert "prepared slabs cannot be kept here (Not a directory)" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / "run").exists()


def test_overwriting_may_be_stopped_halfway(given, whole, tmp_path, monkeypatch):
    run = Path(shutil.copytree(whole, tmp_path / "run"))

    known = shutil.rmtree

    def stop(path, *others, **named):
        if Path(path).parent == run:
            raise Stopped
        known(path, *others, **named)

    monkeypatch.setattr(shutil, "rmtree", stop)
    with pytest.raises(Stopped):
        train([*given, "--out", str(run), "--overwrite"])
    assert (run / "config.yaml").exists() and not (run / "split.csv").exists()  # a run's folder, of no run that began
    monkeypatch.undo()
    assert train([*given, "--out", str(run), "--resume"]) == 0
    assert written(run) == written(whole)


def test_resume_asks_which_run(run, given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train([*given, "--resume"]) == 2
    assert "--resume needs --out, the folder of the run to continue.\n" in capsys.readouterr().err
    shutil.move(run, tmp_path / "runs/joint-20260102-030405")
    assert train([*given, "--resume"]) == 2
    assert "continue; not complete here: runs/joint-20260102-030405.\n" in capsys.readouterr().err


def test_another_cohort_is_refused_before_anything_is_trained(run, given, whole, tmp_path, capsys):
    manifest = Path(given[given.index("--data") + 1])
    text = manifest.read_text()
    lines = text.splitlines()
    try:
        manifest.write_text("\n".join(lines[:-1]) + "\n")
        assert train([*given, "--out", str(run), "--resume"]) == 2
        name = lines[-1].split(",")[0]
        said = capsys.readouterr().err
        assert f"error: {run}: cannot resume with another cohort: 1 case ({name}) gone" in said
    finally:
        manifest.write_text(text)
    assert train([*given, "--out", str(run), "--resume"]) == 0
    assert written(run) == written(whole)


def test_another_environment_is_told(run, given, caplog):
    file = run / "environment.json"
    now = json.loads(file.read_text())
    file.write_text(json.dumps(now | {"torch": "1.0", "cpu": "abacus, 1 logical cores", "memory": "1 GiB"}))
    assert train([*given, "--out", str(run), "--resume"]) == 0
    differ = f"cpu abacus, 1 logical cores, now {now['cpu']}; torch 1.0, now {torch.__version__}"
    assert f"{run}: began with {differ}; it goes on, but may not end bit for bit" in caplog.text


def test_another_number_of_threads_and_other_kernels_are_told(run, caplog):
    file, threads = run / "environment.json", torch.get_num_threads()
    began = json.loads(file.read_text())
    kernels = torch.backends.cpu.get_cpu_capability()
    assert (began["threads"], began["vectors"]) == (str(threads), kernels)
    RunFolder(run).compare_environment()
    assert not caplog.text
    file.write_text(json.dumps(began | {"threads": "96", "vectors": "ABACUS"}))
    RunFolder(run).compare_environment()
    assert (
        f"began with vectors ABACUS, now {kernels}; threads 96, now {threads}; it goes on, but may not" in caplog.text
    )


def test_a_complete_run_says_so_and_gives_its_metrics(run, given, whole, capsys, caplog, monkeypatch):
    assert train([*given, "--out", str(run), "--resume"]) == 0
    out = capsys.readouterr().out
    first = out[out.index("held-out") :].splitlines()
    caplog.set_level("INFO", "genomic_vit")
    monkeypatch.setattr("genomic_vit.run_training.prepare_cohort", None)  # nothing is prepared, let alone trained
    assert train([*given, "--out", str(run), "--resume"]) == 0
    assert "this run is complete; nothing is left to do. The cohort was not looked at: the numbers" in caplog.text
    assert capsys.readouterr().out.splitlines() == first[:-1]
    assert first[0].startswith("held-out mutant: AUC") and first[-1].startswith("try next: ")
