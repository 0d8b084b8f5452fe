"""A dying worker takes nobody else's item with it, whatever runs the workers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genomic_vit.data.workers import EngineError, Lost, run_each


def work(item):
    """Numbers are squared; a word kills the process that meets it."""
    time.sleep(0.02)
    if isinstance(item, str):
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item, os.getpid()


def work_once_killed(item):
    """Kills the first process that meets it; the next one finds the file and passes."""
    trace, number = item
    if not Path(trace).exists():
        Path(trace).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.fixture(params=["loky", "dask", "ray"])
def engine(request):
    if request.param == "dask":
        pytest.importorskip("distributed")
    if request.param == "ray":
        pytest.importorskip("ray")
    return request.param


def test_all_items_are_done_in_other_processes(engine, tmp_path):
    results = dict(run_each(work, range(12), engine=engine, jobs=2, folder=tmp_path))
    assert {index: square for index, (square, _) in results.items()} == {n: n * n for n in range(12)}
    assert os.getpid() not in {process for _, process in results.values()}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("deadly", [(0,), (5,), (3, 4, 11)])
def test_only_the_item_that_kills_its_worker_is_lost(deadly, tmp_path):
    items = ["death" if n in deadly else n for n in range(12)]
    results = dict(run_each(work, items, engine="loky", jobs=2, folder=tmp_path))
    assert sorted(results) == list(range(12))
    lost = {index for index, result in results.items() if isinstance(result, Lost)}
    assert lost == set(deadly)
    assert all(results[n][0] == n * n for n in range(12) if n not in deadly)
    assert "was killed, alone too" in results[deadly[0]].reason


@pytest.mark.parametrize(("name", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_only_the_item_that_kills_its_cluster_worker_is_lost(name, module, tmp_path):
    pytest.importorskip(module)
    items = ["death" if n == 4 else n for n in range(9)]
    results = dict(run_each(work, items, engine=name, jobs=2, folder=tmp_path))
    assert sorted(results) == list(range(9))
    assert {index for index, result in results.items() if isinstance(result, Lost)} == {4}


def test_an_item_that_survives_alone_is_not_lost(tmp_path):
    items = [(str(tmp_path / f"trace-{n}"), n) for n in range(3)]
    results = dict(run_each(work_once_killed, items, engine="loky", jobs=2, folder=tmp_path))
    assert results == {0: 0, 1: 1, 2: 2}


def test_one_job_stays_in_this_process(tmp_path):
    results = dict(run_each(work, range(3), engine="loky", jobs=1, folder=tmp_path))
    assert {process for _, process in results.values()} == {os.getpid()}


HELD = []


def grow(item):
    """From its second item on keeps 350 MB, as a worker does that trains; loky looks once a second, first after one."""
    HELD.append(b"x" * 350_000_000 if len(HELD) == 1 else b"")
    time.sleep(1.1)
    return item


def test_a_worker_that_grows_is_replaced_without_alarm(tmp_path, recwarn):
    assert len(dict(run_each(grow, range(8), engine="loky", jobs=2, folder=tmp_path))) == 8
    assert not [str(said.message) for said in recwarn]


def linger(folder):
    """Says which process this is, and stays busy."""
    Path(folder, f"{os.getpid()}.pid").touch()
    time.sleep(60)


def test_workers_end_with_the_process_that_is_told_to_end(tmp_path):
    program = (
        "from pathlib import Path; from tests.test_workers import linger, run_each\n"
        f"list(run_each(linger, [{str(tmp_path)!r}] * 2, engine='loky', jobs=2, folder=Path({str(tmp_path)!r})))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(workers := [path.stem for path in tmp_path.glob("*.pid")]) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=30) != 0
    while any(Path("/proc", worker).exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("name", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_that_is_not_installed_is_refused(name, module, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineError, match=rf"--engine {name}: not installed .*pip install 'genomic_vit\[{name}\]'"):
        list(run_each(work, range(2), engine=name, jobs=2, folder=tmp_path))


def test_a_scheduler_that_does_not_answer_is_named(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:1")
    monkeypatch.setattr("genomic_vit.data.workers.PATIENCE_S", 1)
    with pytest.raises(EngineError, match=r"no scheduler at tcp://127.0.0.1:1 .*DASK_SCHEDULER_ADDRESS"):
        list(run_each(work, range(2), engine="dask", jobs=2, folder=tmp_path))
