"""Attention in blocks: which matrices and which of their rows at a time, in what memory, and by which thread."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK_ROWS = 128
BLOCK_BYTES = {"cpu": 2**20, "cuda": 2**28}  # of one block; on a CPU of each thread, which should have it in cache
LARGE = 2**24  # entries of attention from which threads are worth being started: some 70 ms of one core, forward

Item = TypeVar("Item")
_ONE_CALL = threading.Lock()


class Place(NamedTuple):
    """Some of the matrices (b h): all heads of some images, or some heads of one. `q[place]` are those of q (b h n e).

    Args:
        images: of the batch.
        heads: of each.
    """

    images: slice
    heads: slice


class Rooms:
    """Memory that each block is written into over the one before: to fetch fresh memory takes as long as a softmax."""

    def __init__(self) -> None:
        self.held: list[Tensor] = []

    def like(self, kind: Tensor, count: int, *shape: int) -> list[Tensor]:
        """`count` tensors of this shape, of `kind`'s dtype and device; what was in them is anything."""
        size = math.prod(shape)
        if len(self.held) < count or self.held[0].numel() < size or self.held[0].dtype != kind.dtype:
            self.held = [kind.new_empty(size) for _ in range(count)]
        return [room[:size].view(shape) for room in self.held[:count]]


def attention_of(
    asking: Float[Tensor, "bh rows e"], keys: Float[Tensor, "bh n e"], scale: float, rooms: Rooms
) -> Float[Tensor, "bh rows n"]:
    """Attention of a block of queries, until the next block. It lies in the second of two rooms; the first is free."""
    scores, attention = rooms.like(asking, 2, *asking.shape[:2], keys.shape[1])
    scores.baddbmm_(asking, keys.transpose(1, 2), beta=0, alpha=scale)  # beta = 0: what was there is not read
    return torch.softmax(scores, dim=-1, out=attention)


def flat(part: Float[Tensor, "b h ..."]) -> Float[Tensor, "bh ..."]:
    """Images and heads on one axis, contiguous, which products read faster than columns of q, k and v side by side."""
    return part.flatten(0, 1).contiguous()


def row_blocks(stop: int, start: int = 0) -> list[slice]:
    """The rows of a matrix from `start` on, a block after the other, all of about one size."""
    rows = stop - start
    return groups_of(stop, -(-rows // max(-(-rows // BLOCK_ROWS), 1)), start)


def groups_of(stop: int, size: int, start: int = 0) -> list[slice]:
    """Slices of `size`, the last one of what is left."""
    return [slice(at, min(at + size, stop)) for at in range(start, stop, max(size, 1))]


def places_of(q: Float[Tensor, "b h n e"]) -> tuple[list[Place], bool]:
    """All matrices, as many at a place as a block's bytes allow, and whether each thread takes places of its own.

    They do on a CPU where attention is large and there is a matrix for every thread. Else all threads share a place.
    """
    if torch.compiler.is_compiling():  # the batch may be symbolic there
        return [Place(slice(None), slice(None))], False
    images, heads, tokens, _width = q.shape
    threads = torch.get_num_threads() if q.device.type == "cpu" else 1
    side_by_side = 1 < threads <= images * heads and images * heads * tokens**2 >= LARGE
    most = min(at_once(tokens, q), -(-images * heads // threads)) if side_by_side else at_once(tokens, q) * threads
    some_images, some_heads = groups_of(images, max(most // heads, 1)), groups_of(heads, min(most, heads))
    return [Place(image, head) for image in some_images for head in some_heads], side_by_side


def images_of(q: Float[Tensor, "b h n e"]) -> list[slice]:
    """All images, as many at once as a block's bytes allow with all their heads."""
    if torch.compiler.is_compiling():
        return [slice(None)]
    threads = torch.get_num_threads() if q.device.type == "cpu" else 1
    return groups_of(q.shape[0], at_once(q.shape[1] * q.shape[2], q) * threads)


def at_once(row_length: int, like: Tensor) -> int:
    """How many matrices, or images whose heads lie in one row of `row_length`, fill a block."""
    block_bytes = min(BLOCK_ROWS, row_length) * row_length * like.element_size()
    return max(BLOCK_BYTES.get(like.device.type, BLOCK_BYTES["cuda"]) // block_bytes, 1)


def each(work: Callable[[Item, Rooms], None], items: Sequence[Item], side_by_side: bool) -> None:
    """`work(item, rooms)` for every item, one after the other, or as many at once as torch has threads.

    An operation of torch spreads itself over all threads, each time in another way, and what one core wrote the next
    operation reads on another. That is cheap where cores share a cache, and a quarter of the time of attention's
    backward pass where they do not (ARCHITECTURE.md). Side by side each thread does all operations of an item alone.
    torch.profiler and modes of torch such as its counter of operations belong to a thread and do not see them there;
    after `torch.set_num_threads(1)` `places_of` has all done in the thread that calls.

    Side by side, torch's number of threads is 1 meanwhile, for the whole process: another thread that asks torch for
    something for the first time in its life meanwhile keeps that 1. Calls from several threads wait for one another.

    Args:
        work: writes where no other item does, and needs neither autograd nor autocast.
        items: in any order.
        side_by_side: what `places_of` said.
    """
    if not side_by_side:
        rooms = Rooms()
        for item in items:
            work(item, rooms)
        return
    left = iter(items)  # of which each next() is one worker's
    off_graph = torch.inference_mode if torch.is_inference_mode_enabled() else torch.no_grad

    def some(_worker: int) -> None:
        torch.get_num_threads()  # the first such call of a thread sets its number
        torch.set_num_threads(1)
        rooms = Rooms()
        with off_graph():
            for item in left:
                work(item, rooms)

    with _ONE_CALL:
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)  # what MKL goes by is one number for the whole process
            with ThreadPoolExecutor(threads) as pool:
                try:
                    list(pool.map(some, range(threads)))
                finally:
                    deque(left, 0)  # after an interrupt nobody should go on
        finally:
            torch.set_num_threads(threads)
