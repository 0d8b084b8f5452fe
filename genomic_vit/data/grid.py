"""Nine slices as one picture, and back. Works on numpy arrays and tensors alike."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from einops import rearrange

STACK_SLICES = 9
GRID_SIDE = 3
Array = TypeVar("Array")


def to_grid(stack: Array) -> Array:
    """Stack (… 9 y x) to grid (… H W), row-major: slice 0 at the upper left, slice 2 at the upper right."""
    return rearrange(stack, "... (r c) y x -> ... (r y) (c x)", r=GRID_SIDE, c=GRID_SIDE)


def from_grid(grid: Array) -> Array:
    """Grid (… H W) back to stack (… 9 y x); the exact inverse of `to_grid`."""
    return rearrange(grid, "... (r y) (c x) -> ... (r c) y x", r=GRID_SIDE, c=GRID_SIDE)


def stack_starts(slices: int, stride: int) -> list[int]:
    """First slices of the stacks of nine that together see every one of `slices`; the last stack ends the slab.

    Raises:
        ValueError: fewer than nine slices, or a stride that would leave slices unseen.
    """
    if slices < STACK_SLICES or not 1 <= stride <= STACK_SLICES:
        raise ValueError(f"stack_starts: {slices} slices with stride {stride}; at least 9 slices, stride 1 to 9 needed")
    last = slices - STACK_SLICES
    return [*range(0, last, stride), last]


def cut_stacks(slab: np.ndarray, starts: list[int]) -> np.ndarray:
    """Stacks (s 9 y x) of a slab (z y x), one for each start."""
    return np.stack([slab[start : start + STACK_SLICES] for start in starts])


def join_stacks(stacks: np.ndarray, starts: list[int], slices: int) -> np.ndarray:
    """Slab (z y x) of stacks (s 9 y x): the mean wherever several cover a slice."""
    total = np.zeros((slices, *stacks.shape[2:]), dtype=np.float64)
    count = np.zeros((slices, 1, 1))
    for stack, start in zip(stacks, starts, strict=True):
        total[start : start + STACK_SLICES] += stack
        count[start : start + STACK_SLICES] += 1
    return (total / np.maximum(count, 1)).astype(np.float32)
