"""Which stacks of each batch a process has: batches are the same however many processes work on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch.utils.data import Sampler


class Share(NamedTuple):
    """One process's stacks of one batch.

    Args:
        first, stop: its stacks, counted in the batch; none where they are equal.
        whole: stacks in the batch, those of all processes.
    """

    first: int
    stop: int
    whole: int

    @property
    def mine(self) -> slice:
        """Its part of whatever is drawn for the whole batch."""
        return slice(self.first, self.stop)


def share_of(whole: int, rank: int, world: int) -> Share:
    """The share of process `rank` of `world` in a batch: consecutive stacks, as many as others have or one less."""
    return Share(whole * rank // world, whole * (rank + 1) // world, whole)


class SharedBatches(Sampler[list[int]]):
    """One process's share of every batch; nothing is left out or doubled to make the shares even.

    Args:
        order: of the dataset; it may give another one each time it is asked.
        batch_size: stacks in a batch, those of all processes.
        rank, world: this process, and how many there are.
        drop_lone: leave a last batch of one stack out.
    """

    def __init__(self, order: Sampler[int] | Sequence[int], batch_size: int, rank: int, world: int, *, drop_lone: bool):
        self.order, self.batch_size, self.rank, self.world = order, batch_size, rank, world
        length = len(order)
        self.length = length - 1 if drop_lone and length > batch_size and length % batch_size == 1 else length

    def __len__(self) -> int:
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.order)
        for number in range(len(self)):
            share = self.share(number)
            start = number * self.batch_size
            yield order[start + share.first : start + share.stop]

    def share(self, number: int) -> Share:
        """Of batch `number` of an epoch, from 0."""
        return share_of(min(self.batch_size, self.length - number * self.batch_size), self.rank, self.world)
