"""What the processes of one training say to each other; alone, a process talks to itself."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

Told = TypeVar("Told")


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if world() > 1 else 0


def total(part: Tensor) -> Tensor:
    """The sum over all processes, off the graph; on a GPU nothing waits for it."""
    if world() == 1:
        return part.detach()
    whole = part.detach().clone()
    dist.all_reduce(whole)
    return whole


def learnt_total(part: Tensor) -> Tensor:
    """The sum over all processes, on the graph: a gradient comes back as the sum of what each process makes of it."""
    return _Total.apply(part)


def mean_everywhere(summed: Tensor, known: Tensor) -> Tensor:
    """A process's part of the mean over what is known in all processes; 0 where nothing is known in any.

    The mean of the parts, which DDP takes of their gradients, is the mean over all that is known, however unevenly it
    lies.

    Args:
        summed: over what is known here.
        known: the number of it.
    """
    return summed / total(known).clamp(min=1) * world()


def gathered(mine: Told) -> list[Told]:
    """What every process has, in order of rank. Anything that pickles; tensors should be on the CPU."""
    if world() == 1:
        return [mine]
    everything: list[Told] = [mine] * world()
    dist.all_gather_object(everything, mine)
    return everything


class _Total(Function):
    @staticmethod
    def forward(ctx, part: Tensor) -> Tensor:
        return total(part)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return total(gradient)
