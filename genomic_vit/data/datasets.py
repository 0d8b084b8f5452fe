"""Slabs as batches of stacks: one random stack a case in training, all strided stacks in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genomic_vit.config import ViewConfig
from genomic_vit.data.grid import STACK_SLICES, stack_starts
from genomic_vit.data.slab import Slab


class Batch(NamedTuple):
    """Stacks with what is known of them.

    Args:
        hu: (b 9 y x).
        lesion: 1 in the lesion, 0 outside, (b 9 y x).
        labels: 0, 1, or NaN where missing, (b t).
        case: index of each stack's case in the dataset, (b).
    """

    hu: Float[Tensor, "b slice y x"]
    lesion: Float[Tensor, "b slice y x"]
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

    def __init__(self, slabs: Sequence[Slab], labels: np.ndarray, seed: Sequence[int]) -> None:
        self.slabs, self.labels, self.seed = slabs, labels, list(seed)

    def __len__(self) -> int:
        return len(self.slabs)

    def __getitem__(self, index: int) -> Batch:
        slab = self.slabs[index]
        generator = np.random.default_rng([*self.seed, index])
        return _item(slab, int(generator.integers(len(slab.hu) - STACK_SLICES + 1)), self.labels[index], index)


class AllStacks(Dataset):
    """Every strided stack of every case, so that each slice of each slab is seen.

    Args:
        slabs: one a case.
        labels: (case t), NaN where missing.
        view: gives the stride.
    """

    def __init__(self, slabs: Sequence[Slab], labels: np.ndarray, view: ViewConfig) -> None:
        self.slabs, self.labels = slabs, labels
        self.stacks = [
            (case, start) for case, slab in enumerate(slabs) for start in stack_starts(len(slab.hu), view.eval_stride)
        ]

    def __len__(self) -> int:
        return len(self.stacks)

    def __getitem__(self, index: int) -> Batch:
        case, start = self.stacks[index]
        return _item(self.slabs[case], start, self.labels[case], case)


def loader(dataset: Dataset, batch_size: int, shuffle: Sequence[int] | None = None) -> DataLoader:
    """Batches of a dataset of stacks.

    Args:
        dataset: RandomStacks or AllStacks.
        batch_size: stacks a batch. A last batch of one is dropped from training: batch norm needs two.
        shuffle: numbers that fix a random order; None keeps the order and drops nothing.
    """
    generator = None
    if shuffle is not None:
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(list(shuffle)).generate_state(1)[0]))
    lone = shuffle is not None and len(dataset) > batch_size and len(dataset) % batch_size == 1
    return DataLoader(dataset, batch_size, shuffle=shuffle is not None, generator=generator, drop_last=lone)


def _item(slab: Slab, start: int, labels: np.ndarray, case: int) -> Batch:
    run = slice(start, start + STACK_SLICES)
    return Batch(
        torch.from_numpy(slab.hu[run]),
        torch.from_numpy(slab.lesion[run].astype(np.float32)),
        torch.as_tensor(labels, dtype=torch.float32),
        torch.tensor(case),
    )
