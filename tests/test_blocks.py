"""Which thread does what, and that it all is done."""

import threading
import time

import pytest
import torch

from genomic_vit.models import blocks
from genomic_vit.models.blocks import each, places_of, row_blocks


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.parametrize("side_by_side", [True, False])
def test_every_item_is_done_once_off_the_graph(two_threads, side_by_side):
    done, caller = [], threading.get_ident()
    leaf = torch.ones(3, requires_grad=True)

    def work(item: int, rooms: blocks.Rooms) -> None:
        (room,) = rooms.like(leaf, 1, 3)
        torch.mul(leaf.detach(), item, out=room)
        done.append((item, room.sum().item(), torch.get_num_threads(), threading.get_ident() == caller))

    with torch.no_grad():
        each(work, range(9), side_by_side)
    assert sorted(item for item, *_ in done) == list(range(9))
    assert all(total == 3 * item for item, total, *_ in done)
    assert {(threads, here) for *_, threads, here in done} == ({(1, False)} if side_by_side else {(2, True)})


def test_workers_learn_nothing_of_autograd_and_write_into_what_inference_mode_made(two_threads):
    modes = []
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            out = torch.zeros(4)

            def work(item: int, _rooms: blocks.Rooms, out: torch.Tensor = out) -> None:
                modes.append(torch.is_grad_enabled())
                out[item] += item

            each(work, range(4), True)
        assert out.tolist() == [0, 1, 2, 3]
    assert not any(modes)


def test_an_error_of_a_worker_reaches_the_caller_and_threads_are_given_back(two_threads):
    def work(item: int, _rooms: blocks.Rooms) -> None:
        if item == 3:
            raise ValueError("item three")

    with pytest.raises(ValueError, match="item three"):
        each(work, range(9), True)


@pytest.mark.parametrize(("images", "heads", "tokens"), [(1, 6, 2305), (3, 6, 577), (16, 4, 145), (2, 3, 4), (1, 1, 9)])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_places_are_all_matrices_once(images, heads, tokens, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        places, side_by_side = places_of(torch.empty(images, heads, tokens, 1))
    finally:
        torch.set_num_threads(before)
    count = torch.zeros(images, heads)
    for place in places:
        count[place] += 1
        whole = count[place].shape[1] == heads
        assert whole or count[place].shape[0] == 1  # all heads of some images, or some heads of one
    assert torch.equal(count, torch.ones(images, heads))
    large = images * heads * tokens**2 >= blocks.LARGE
    assert side_by_side == (large and 1 < threads <= images * heads)


@pytest.mark.parametrize(("stop", "start"), [(2305, 0), (2305, 768), (9, 8), (128, 0), (129, 0)])
def test_rows_are_in_blocks_of_about_one_size(stop, start):
    found = row_blocks(stop, start)
    assert [row for block in found for row in range(block.start, block.stop)] == list(range(start, stop))
    sizes = [block.stop - block.start for block in found]
    assert max(sizes) <= blocks.BLOCK_ROWS and len(found) == -(-(stop - start) // blocks.BLOCK_ROWS)


def test_after_an_interrupt_nobody_goes_on(two_threads):
    began = []

    def work(item: int, _rooms: blocks.Rooms) -> None:
        began.append(item)
        if item == 2:
            raise KeyboardInterrupt
        time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt):
        each(work, range(100), True)
    assert len(began) < 50


def test_callers_in_several_threads_wait_for_one_another(two_threads):
    running, most = [], []

    def work(item: int, _rooms: blocks.Rooms) -> None:
        running.append(item)
        most.append(len(running))
        time.sleep(0.002)
        running.remove(item)

    callers = [threading.Thread(target=each, args=(work, range(10 * i, 10 * i + 10), True)) for i in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(most) == 30 and max(most) <= 2


def test_rooms_are_of_the_dtype_asked_for():
    rooms = blocks.Rooms()
    for dtype in (torch.float32, torch.float64, torch.float32):
        found = rooms.like(torch.empty(0, dtype=dtype), 2, 3, 4)
        assert [room.dtype for room in found] == [dtype] * 2 and found[0].shape == (3, 4)


def test_places_of_one_image_are_for_all_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        places, side_by_side = places_of(torch.empty(1, 12, 1400, 1))
    finally:
        torch.set_num_threads(before)
    assert side_by_side and len(places) >= 6
