"""Slabs as batches of stacks: one random stack a case in training, all strided stacks in evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from genomic_vit.config import ViewConfig
from genomic_vit.data.entry import PreparedSlab
from genomic_vit.data.grid import STACK_SLICES, stack_starts
from genomic_vit.data.shares import SharedBatches
from genomic_vit.data.slab import Slab


class Batch(NamedTuple):
    """Stacks with what is known of them.

    Args:
        hu: (b 9 y x).
        lesion: true in the lesion, (b 9 y x); a byte a pixel, until it is on the device.
        labels: 0, 1, or NaN where missing, (b t).
        case: index of each stack's case in the dataset, (b).
    """

    hu: Float[Tensor, "b slice y x"]
    lesion: Bool[Tensor, "b slice y x"]
    labels: Float[Tensor, "b t"]
    case: Int[Tensor, " b"]


def window(hu: Float[Tensor, "*shape"], window_hu: tuple[float, float]) -> Float[Tensor, "*shape"]:
    """HU mapped linearly so that the window is [0, 1], clipped outside."""
    low, high = window_hu
    return ((hu - low) / (high - low)).clamp(0, 1)


class RandomStacks(Dataset):
    """One random stack of nine a case; every start in the slab is as likely, the last too.

    Args:
        slabs: one a case.
        labels: (case t), NaN where missing.
        seed: numbers that fix the draw (run, stage, epoch); the same give the same stacks in any order of access.
    """

    def __init__(self, slabs: Sequence[Slab | PreparedSlab], labels: np.ndarray, seed: Sequence[int]) -> None:
        self.slabs, self.labels, self.seed = slabs, labels, list(seed)

    def __len__(self) -> int:
        return len(self.slabs)

    def __getitem__(self, index: int) -> Batch:
        return _one(self.__getitems__([index]))

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A whole batch at once."""
        return _gather(self.slabs, self.labels, [(index, self._start(index)) for index in indices])

    def _start(self, index: int) -> int:
        generator = np.random.default_rng([*self.seed, index])
        return int(generator.integers(self.slabs[index].geometry.shape[0] - STACK_SLICES + 1))


class AllStacks(Dataset):
    """Every strided stack of every case, so that each slice of each slab is seen.

    Args:
        slabs: one a case.
        labels: (case t), NaN where missing.
        view: gives the stride.
    """

    def __init__(self, slabs: Sequence[Slab | PreparedSlab], labels: np.ndarray, view: ViewConfig) -> None:
        self.slabs, self.labels = slabs, labels
        self.stacks = [
            (case, start)
            for case, slab in enumerate(slabs)
            for start in stack_starts(slab.geometry.shape[0], view.eval_stride)
        ]

    def __len__(self) -> int:
        return len(self.stacks)

    def __getitem__(self, index: int) -> Batch:
        return _one(self.__getitems__([index]))

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A whole batch at once."""
        return _gather(self.slabs, self.labels, [self.stacks[index] for index in indices])


def loader(
    dataset: Dataset,
    batch_size: int,
    shuffle: Sequence[int] | None = None,
    rank: int = 0,
    world: int = 1,
    *,
    pinned: bool = False,
) -> DataLoader:
    """Batches of a dataset of stacks; one process's share of each where several share them.

    Args:
        dataset: RandomStacks or AllStacks.
        batch_size: stacks a batch, of all processes. A last batch of one is dropped from training: batch norm needs
            two.
        shuffle: numbers that fix a random order; None keeps the order and drops nothing.
        rank, world: this process, and how many there are. A share may be empty.
        pinned: put batches into page-locked memory, from which a GPU fetches them while the host goes on.
    """
    order = range(len(dataset)) if shuffle is None else FixedShuffle(len(dataset), shuffle)
    batches = SharedBatches(order, batch_size, rank, world, drop_lone=shuffle is not None)
    own = torch.Generator()  # an iterator draws a seed for workers: not from the generator that dropout draws from
    return DataLoader(dataset, batch_sampler=batches, generator=own, collate_fn=_as_it_is, pin_memory=pinned)


class FixedShuffle(Sampler[int]):
    """A random order of a dataset that is the same however often it is asked for.

    A resumed epoch makes its iterator twice; a loader's own shuffle would then give another order than the whole run's.

    Args:
        length: of the dataset.
        seed: numbers that fix the order.
    """

    def __init__(self, length: int, seed: Sequence[int]) -> None:
        self.length, self.seed = length, int(np.random.SeedSequence(list(seed)).generate_state(1)[0])

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(self.length, generator=torch.Generator().manual_seed(self.seed)).tolist()


def _gather(slabs: Sequence[Slab | PreparedSlab], labels: np.ndarray, stacks: Sequence[tuple[int, int]]) -> Batch:
    """The stacks at (case, start), copied once each from where the slabs lie (memory maps, as a rule)."""
    shape = (len(stacks), STACK_SLICES, *slabs[0].geometry.shape[1:])
    hu, lesion = np.empty(shape, np.float32), np.empty(shape, np.bool_)
    for place, (case, start) in enumerate(stacks):
        slab = slabs[case]
        hu[place] = slab.hu[start : start + STACK_SLICES]
        lesion[place] = slab.lesion[start : start + STACK_SLICES]
    case = np.array([case for case, _ in stacks], dtype=np.int64)
    return Batch(
        torch.from_numpy(hu),
        torch.from_numpy(lesion),
        torch.as_tensor(labels[case], dtype=torch.float32),
        torch.from_numpy(case),
    )


def _one(batch: Batch) -> Batch:
    return Batch(*(part[0] for part in batch))


def _as_it_is(batch: Batch) -> Batch:
    return batch
