"""Two commands into one folder at once: the second is refused; a killed one leaves no lock that holds."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from genomic_vit.benchmark import main as benchmark
from genomic_vit.train import main as train
from genomic_vit.training.lock import FolderError, locked

FORK = multiprocessing.get_context("fork")  # they only lock and wait: no need to import torch again


def hold(folder, held):
    with locked(folder):
        held.set()
        time.sleep(600)


def come_and_go(folder, times):
    """Take the lock again and again; fail where another is met inside."""
    for _ in range(times):
        while True:
            try:
                with locked(folder):
                    os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))
                    time.sleep(0.001)
                    os.unlink(folder / "inside")
                break
            except FolderError:
                time.sleep(0.001)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path/run."""
    held = FORK.Event()
    process = FORK.Process(target=hold, args=(tmp_path / "run", held))
    process.start()
    assert held.wait(60)
    yield process
    process.kill()
    process.join()


def test_the_second_is_refused_and_told_who_holds_it(holder, tmp_path, capsys):
    run, cache = tmp_path / "run", ["--cache", str(tmp_path / "cache")]
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    said = (
        rf"run: another command is writing into it \(process {holder.pid} on \S+, since \d{{4}}-\d\d-\d\d .*\)\. Wait"
    )
    for command in (["--mode", "joint"], ["--mode", "joint", "--resume"], ["--mode", "joint", "--overwrite"]):
        assert train([*command, "--out", str(run), *cache]) == 2
        assert re.search(said, capsys.readouterr().err)
    assert benchmark(["--quick", "--out", str(run), *cache]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert not (tmp_path / "cache").exists()


def test_what_a_killed_process_left_does_not_block(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock", ".holder.json"}
    with locked(tmp_path / "run"):
        (tmp_path / "run/mine").write_text("")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine"]


def test_it_can_be_taken_again_when_it_was_given_back(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "run"):
            with pytest.raises(FolderError, match=f"process {os.getpid()} on"), locked(tmp_path / "run"):
                raise AssertionError("held twice")
            assert (tmp_path / "run/.lock").is_file()
        assert not (tmp_path / "run").exists()  # as before: nothing was written into it


def test_a_rank_of_the_environment_is_no_way_past_it(holder, tmp_path):
    """As under torchrun, MPI or Kubernetes with --devices forgotten: each process takes itself for the only one."""
    command = [sys.executable, "-m", "genomic_vit.train", "--out", str(tmp_path / "run")]
    ranked = {**os.environ, "RANK": "1", "LOCAL_RANK": "1"}
    done = subprocess.run(
        [*command, "--cache", str(tmp_path / "cache")], capture_output=True, text=True, timeout=120, env=ranked
    )
    assert done.returncode == 2
    assert f"another command is writing into it (process {holder.pid} on" in done.stderr


def test_of_many_at_once_one_gets_it(tmp_path):
    started = [FORK.Process(target=come_and_go, args=(tmp_path / "run", 20)) for _ in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0, 0, 0]
