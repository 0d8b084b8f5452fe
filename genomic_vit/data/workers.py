"""One function over many items in worker processes, here or on a cluster; a dying worker loses its own item alone."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import joblib
from joblib import Parallel, delayed
from joblib.externals.loky import ProcessPoolExecutor

from genomic_vit.config import UserError
from genomic_vit.data.stale import sweep

PATIENCE_S = 20  # for a cluster to answer
MARKS = ".running-"  # folders of marks begin so
Engine = Literal["loky", "ray", "dask"]
Item, Result = TypeVar("Item"), TypeVar("Result")


class EngineError(UserError):
    """The engine asked for cannot be had."""


@dataclass(frozen=True)
class Lost:
    """What stands in the place of a result whose process died, whenever it was tried."""

    reason: str


def run_each(
    function: Callable[[Item], Result], items: Sequence[Item], *, engine: Engine, jobs: int, folder: Path
) -> Iterator[tuple[int, Result | Lost]]:
    """(index, result) of every item, in the order in which they are done.

    A worker that starts an item leaves a mark in `folder` until it has done it. When a worker dies, the marks name the
    items that may have killed it: each is tried once more in a process of its own, and the rest go on.

    Args:
        function: must not raise; importable wherever the workers run.
        items: light, they travel.
        engine: loky (processes here), ray or dask (the cluster that RAY_ADDRESS or DASK_SCHEDULER_ADDRESS names, else
            one of `jobs` workers here).
        jobs: processes; -1 takes all cores. 1 with loky runs here, in this process.
        folder: can be written, and is the same place for all workers.

    Raises:
        EngineError: the engine is not installed, or its cluster cannot be reached.
    """
    left = dict.fromkeys(range(len(items)))
    sweep(folder, f"{MARKS}*")
    with tempfile.TemporaryDirectory(dir=folder, prefix=MARKS) as marks, _backend(engine, jobs), _term_as_interrupt():
        marked = partial(_marked, function, marks)
        while left:
            work = (delayed(marked)(index, items[index]) for index in tuple(left))
            try:
                with closing(Parallel(return_as="generator_unordered")(work)) as done:
                    for index, result in done:
                        del left[index]
                        yield index, result
            except Exception as problem:  # not the function's: it raises none
                suspects = [index for name in os.listdir(marks) if (index := int(name)) in left]
                for index in sorted(suspects) or list(left)[:1]:
                    del left[index]
                    yield index, _alone(function, items[index], problem)


@contextmanager
def _term_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does, its workers too: loky's outlive a killed parent."""
    in_main = threading.current_thread() is threading.main_thread()  # no other may set what a signal does
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _marked(function: Callable[[Item], Result], marks: str, index: int, item: Item) -> tuple[int, Result]:
    mark = Path(marks, str(index))
    with suppress(OSError):  # the item matters, not its mark
        mark.touch()
    result = function(item)
    with suppress(OSError):
        mark.unlink()
    return index, result


def _alone(function: Callable[[Item], Result], item: Item, problem: Exception) -> Result | Lost:
    with ProcessPoolExecutor(max_workers=1) as process:
        try:
            return process.submit(function, item).result()
        except Exception:
            return Lost(
                f"the process that prepared it was killed, alone too ({type(problem).__name__}), most likely for want "
                "of memory; look at the size of its scan, or prepare it on a machine with more memory"
            )


@contextmanager
def _backend(engine: Engine, jobs: int) -> Iterator[None]:
    if engine == "loky":
        with warnings.catch_warnings(), joblib.parallel_config(backend="loky", n_jobs=jobs):
            warnings.filterwarnings("ignore", "A worker stopped while")  # and was replaced; importing torch is no leak
            yield
    elif engine == "dask":
        with _dask_client(jobs) as client, joblib.parallel_config(backend=_dask_backend(client)):
            yield
    else:
        with _ray(), joblib.parallel_config(backend="ray", n_jobs=jobs):
            yield


def _dask_backend(client):
    """joblib's, except that a task whose worker died ends in its error; joblib 1.6 would wait for it for ever."""
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):
        def submit(self, func, callback=None):
            future = super().submit(func, callback)
            future.add_done_callback(lambda done: done.exception() and callback(done.exception()))
            return future

        def retrieve_result_callback(self, out):
            if isinstance(out, Exception):
                raise out
            return super().retrieve_result_callback(out)

    return Backend(client=client)


@contextmanager
def _dask_client(jobs: int):
    try:
        import dask
        import distributed
    except ImportError as problem:
        raise _not_installed("dask", problem) from problem
    try:
        client = distributed.get_client()  # the caller's own
    except ValueError:
        client = None
    if client is not None:
        yield client
        return
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    here = {} if address else {"n_workers": _count(jobs), "threads_per_worker": 1, "dashboard_address": None}
    try:
        with dask.config.set({"distributed.scheduler.allowed-failures": 0}):  # what killed a worker is tried alone
            client = distributed.Client(address, timeout=PATIENCE_S, **here)
    except (OSError, TimeoutError) as problem:
        raise EngineError(
            f"--engine dask: no scheduler at {address} ({problem}); check DASK_SCHEDULER_ADDRESS."
        ) from problem
    with client:
        yield client


@contextmanager
def _ray() -> Iterator[None]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as problem:
        raise _not_installed("ray", problem) from problem
    register_ray()
    own = not ray.is_initialized()
    if own:
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)  # or where RAY_ADDRESS says
        except ConnectionError as problem:
            raise EngineError(f"--engine ray: {problem}; check RAY_ADDRESS.") from problem
    try:
        yield
    finally:
        if own:
            ray.shutdown()


def _count(jobs: int) -> int:
    return joblib.cpu_count() if jobs < 1 else jobs


def _not_installed(name: str, problem: ImportError) -> EngineError:
    return EngineError(
        f"--engine {name}: not installed ({problem}); pip install 'genomic_vit[{name}]', or leave --engine out."
    )
