"""What a run asks of the machine, looked at before anything is prepared."""

from __future__ import annotations

import torch

from genomic_vit.config import TrainingConfig, UserError


class MachineError(UserError):
    """This machine cannot train as asked; the message says what was asked, what there is, and what to do."""


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
