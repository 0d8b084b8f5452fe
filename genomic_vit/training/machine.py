"""What a run asks of the machine, looked at before anything is prepared."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import torch
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from genomic_vit.config import TrainingConfig, UserError

ACCELERATORS = {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}  # our names of devices, and Lightning's


class MachineError(UserError):
    """This machine cannot train as asked; the message says what was asked, what there is, and what to do."""


@dataclass(frozen=True)
class Processes:
    """How many processes train together, one a device. What they make does not depend on it, so it is no config.

    Args:
        devices: on each machine.
        num_nodes: machines; on all of them the command is started by SLURM, torchrun or hand, as Lightning has it.
        strategy: of Lightning; auto takes one process alone, or ddp.
    """

    devices: int = 1
    num_nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"

    @property
    def world(self) -> int:
        """All of them."""
        return self.devices * self.num_nodes


@dataclass(frozen=True)
class Started:
    """What starts all processes of a training.

    Args:
        by: its name.
        variable: of the environment, which holds how many it started.
        how: how it is asked for devices, machines and processes.
    """

    by: str
    variable: str
    how: str

    @property
    def world(self) -> int:
        """How many it started."""
        return int(os.environ[self.variable])

    def start(self, processes: Processes) -> str:
        """The words that start as many as these."""
        return self.how.format(processes.devices, processes.num_nodes, processes.world)


ALONE = Processes()


def best_device(name: str) -> torch.device:
    """The torch device of a config's or command's `device`; auto takes CUDA, then MPS, then the CPU.

    Raises:
        MachineError: it is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, has in there.items() if has))
    if not there.get(name, True):
        without = " (torch was installed without CUDA)" if name == "cuda" and torch.version.cuda is None else ""
        raise MachineError(f"--device {name}: this machine has none{without}; take --device auto or --device cpu.")
    return torch.device(name)


def check_processes(processes: Processes, training: TrainingConfig, device: torch.device) -> None:
    """Raise MachineError unless the devices are there, and SLURM or torchrun started as many processes as asked for."""
    for word, value in (("--devices", processes.devices), ("--num-nodes", processes.num_nodes)):
        if value < 1:
            raise MachineError(f"{word} is {value}; it must be at least 1.")
    there = {"cuda": torch.cuda.device_count, "cpu": os.cpu_count}.get(device.type, lambda: 1)() or 1
    if processes.devices > there:
        kind = {"cuda": "GPU(s)", "cpu": "CPU core(s)"}.get(device.type, f"{device.type} device(s)")
        raise MachineError(
            f"--devices {processes.devices}: this machine has {there} {kind}; take --devices {there}, or another "
            "--device."
        )
    started = _started()
    by_hand = "MASTER_ADDR" in os.environ and "NODE_RANK" in os.environ
    if processes.num_nodes > 1 and started is None and not by_hand:
        raise MachineError(
            f"--num-nodes {processes.num_nodes}: nothing says where the other machines are. Start the command on each "
            "of them with srun (SLURM) or torchrun, or set MASTER_ADDR, MASTER_PORT and NODE_RANK on each."
        )
    if started is not None and started.world != processes.world:
        raise MachineError(
            f"--devices {processes.devices} on --num-nodes {processes.num_nodes} is {processes.world} process(es), but "
            f"{started.by} counts {started.world} ({started.variable}). Give --devices and --num-nodes as they were "
            f"started, or start as many as that: {started.start(processes)} genomic_vit.train ..."
        )
    if processes.world > training.batch_size:
        raise MachineError(
            f"training.batch_size is {training.batch_size}, of all {processes.world} processes together; give each at "
            f"least one stack: --training.batch_size {processes.world} or more, or fewer --devices."
        )
    if processes.strategy == "fsdp":
        _check_fsdp(training, device)


def _started() -> Started | None:
    """What started this process; None where it was neither SLURM nor torchrun. Lightning looks in the same order."""
    if TorchElasticEnvironment.detect():
        return Started("torchrun", "WORLD_SIZE", "torchrun --nnodes={1} --nproc-per-node={0} -m")
    if SLURMEnvironment.detect():
        return Started("SLURM", "SLURM_NTASKS", "srun --nodes={1} --ntasks={2} --ntasks-per-node={0} python -m")
    return None


def _check_fsdp(training: TrainingConfig, device: torch.device) -> None:
    if device.type != "cuda":
        raise MachineError(f"--strategy fsdp needs GPUs, and this run is on a {device.type}; take ddp, or auto.")
    if training.average:
        raise MachineError(
            f"--strategy fsdp, as Lightning has it, cannot average weights (training.average is {training.average:g}); "
            "set --training.average 0, or take ddp."
        )
    if training.precision == "64":
        raise MachineError("--strategy fsdp, as Lightning has it, cannot compute in precision 64; take 32, or ddp.")


def check_arithmetic(training: TrainingConfig, device: torch.device) -> None:
    """Raise MachineError unless `device` computes in the precision asked for, and compiles where that is asked.

    Where 16-mixed is asked of a CPU, Lightning quietly takes bf16-mixed: another run than its config would say.
    """
    if training.precision == "16-mixed" and device.type == "cpu":
        raise MachineError(
            "training.precision is 16-mixed, which needs a GPU, and this run is on a CPU; take bf16-mixed or 32."
        )
    if training.compile:
        _check_compiler(device)


def _check_compiler(device: torch.device) -> None:
    """Compile a sine: a machine without a compiler is told in seconds, not after all cases were prepared."""
    try:
        torch.compile(torch.sin)(torch.zeros(1, device=device))
    except Exception as cause:  # the compiler's own errors have no class in common
        reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        wanted = "a C++ compiler (g++)" if device.type == "cpu" else "a C compiler (gcc) and Triton"
        raise MachineError(
            f"--compile: torch.compile does not work on this machine ({reason}). On a {device.type} it needs "
            f"{wanted}: install it, name it in the environment variable CXX, or leave --compile out."
        ) from cause
