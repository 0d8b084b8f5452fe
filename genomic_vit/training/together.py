"""What processes that train together do once for all of them, and how they are started."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import lightning as L
import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback

from genomic_vit.config import UserError
from genomic_vit.training.finite import LossError
from genomic_vit.training.machine import ACCELERATORS, MachineError, Processes
from genomic_vit.training.quiet import quiet

PREPARING = timedelta(days=7)  # how long the others wait at most, while the first prepares
Result = TypeVar("Result")


class Together:
    """This process among those that train together.

    SLURM and torchrun start all of them; otherwise the first starts the others of its machine, by the command it was
    started with itself, and only once there is something to train on. Those find here that they are not the first.

    Args:
        processes: how many.
        device: auto, cpu, cuda or mps.

    Raises:
        MachineError: they cannot be started as asked.
    """

    def __init__(self, processes: Processes, device: str) -> None:
        self._fabric: L.Fabric | None = None
        self._control: dist.ProcessGroup | None = None
        self._processes = processes
        if processes.world == 1:
            return
        try:
            with quiet():
                self._fabric = L.Fabric(
                    accelerator=ACCELERATORS[device],
                    devices=processes.devices,
                    num_nodes=processes.num_nodes,
                    strategy="ddp",
                )
        except (ValueError, RuntimeError, MisconfigurationException) as cause:
            raise _cannot(cause) from cause
        if not self.first:
            logging.getLogger("genomic_vit").setLevel(logging.ERROR)  # said once is enough

    @property
    def first(self) -> bool:
        """Whether this is the process that prepares, writes and tests."""
        return self._fabric is None or self._fabric.global_rank == 0

    def once(self, work: Callable[[], Result]) -> Result:
        """What `work` gives in the first process, told to all; the others wait for it, and end where it fails.

        Raises:
            whatever `work` raises, in the first process.
            SystemExit: 0, in the others.
            MachineError: the processes cannot be started.
        """
        if self._fabric is None:
            return work()
        if not self.first or _all_are_started():
            self._join()
        told: list = [None]
        if self.first:
            try:
                told = [(work(),)]
            except BaseException:
                if self._control is not None:
                    dist.broadcast_object_list(told, group=self._control)
                raise
            if self._control is None:
                self._join()
        dist.broadcast_object_list(told, group=self._control)
        if told[0] is None:
            raise SystemExit(0)  # the first says why
        return told[0][0]

    def on_other_nodes(self, work: Callable[[], object]) -> None:
        """`work` in one process of every machine but the first, whose folders may not be the first's; the others wait.

        Raises:
            UserError: of `work`, where it fails; and in the first process.
            SystemExit: 0, in the others.
        """
        if self._fabric is None or self._processes.num_nodes == 1:
            return
        problem = None
        if self._fabric.local_rank == 0 and not self.first:
            try:
                work()
            except UserError as found:
                problem = f"machine {self._fabric.node_rank}: {found}"
        problems: list[str | None] = [None] * self._fabric.world_size
        dist.all_gather_object(problems, problem, group=self._control)
        if any(problems):
            if self.first:
                raise MachineError("; ".join(problem for problem in problems if problem))
            raise SystemExit(0)

    @contextmanager
    def said_once(self) -> Iterator[None]:
        """Of what ends the training in all processes, only the first speaks.

        Raises:
            LossError, KeyboardInterrupt: as the block does, in the first process.
            MachineError: in the first, where another process is gone.
            SystemExit: 0, in the others.
        """
        try:
            yield
        except (LossError, KeyboardInterrupt):
            if self.first:
                raise
            raise SystemExit(0) from None
        except RuntimeError as cause:
            if self._fabric is None or not (isinstance(cause, dist.DistError) or "gloo" in str(cause)):
                raise
            if self.first:
                raise MachineError(
                    "another process of this training has ended (killed, or out of memory), and so has this one. What "
                    "was written is whole: give the same command again with --resume."
                ) from cause
            raise SystemExit(0) from None

    def _join(self) -> None:
        try:
            with quiet():
                self._fabric.launch()
        except (ValueError, MisconfigurationException) as cause:
            raise _cannot(cause) from cause
        if (joined := dist.get_world_size()) != self._processes.world:
            raise MachineError(
                f"{joined} process(es) were started for this training, but --devices {self._processes.devices} on "
                f"--num-nodes {self._processes.num_nodes} is {self._processes.world}. Start as many, or give both as "
                "they were started."
            )
        self._control = dist.new_group(backend="gloo", timeout=PREPARING)


class TermAsInterrupt(Callback):
    """SIGTERM ends the training as Ctrl-C does.

    With several processes Lightning 2.6 answers it with a broadcast that the others know nothing of, and all hang.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After Lightning has set its own answer; when it ends, it puts back what was there before."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)


def _all_are_started() -> bool:
    """Whether someone else (SLURM, torchrun, a first process) starts the processes."""
    by_first = LightningEnvironment().creates_processes_externally
    return by_first or SLURMEnvironment.detect() or TorchElasticEnvironment.detect()


def _cannot(cause: Exception) -> MachineError:
    return MachineError(f"the processes cannot be started as asked: {' '.join(str(cause).split())}")
