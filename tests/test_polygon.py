"""Filling outlines: against matplotlib's point in path, and by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path

from genomic_vit.imaging.polygon import fill_even_odd

SQUARE = np.array([(1.5, 1.5), (1.5, 5.5), (5.5, 5.5), (5.5, 1.5)])


def inside(outline, shape):
    """Even–odd by matplotlib, at pixel centres."""
    centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 2)
    closed = np.concatenate([outline, outline[:1]])
    return Path(closed).contains_points(centres).reshape(shape)


def distance(outline, shape):
    """Of each pixel centre to the nearest edge."""
    centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)[..., None, :]
    start, edge = outline, np.roll(outline, -1, axis=0) - outline
    along = (((centres - start) * edge).sum(-1) / (edge**2).sum(-1)).clip(0, 1)
    return np.linalg.norm(centres - start - along[..., None] * edge, axis=-1).min(-1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), points=st.integers(3, 9), several=st.integers(1, 3))
def test_random_outlines_fill_as_matplotlib_does(seed, points, several):
    rng = np.random.default_rng(seed)
    outlines = [rng.uniform(-4, 24, size=(points, 2)) for _ in range(several)]  # they cross themselves and one another
    wanted = np.zeros((18, 21), dtype=bool)
    for outline in outlines:
        wanted ^= inside(outline, wanted.shape)
    found = fill_even_odd(outlines, wanted.shape)
    clear = np.min([distance(outline, wanted.shape) for outline in outlines], axis=0) > 0.02
    assert clear.mean() > 0.8 and np.array_equal(found[clear], wanted[clear])


def test_an_inner_outline_is_a_hole_whichever_way_it_runs():
    inner = np.array([(2.5, 2.5), (2.5, 4.5), (4.5, 4.5), (4.5, 2.5)])
    for outlines in ([SQUARE, inner], [SQUARE, inner[::-1]], [inner, SQUARE[::-1]]):
        filled = fill_even_odd(outlines, (8, 8))
        assert filled.sum() == 16 - 4 and not filled[3:5, 3:5].any()


def test_a_hole_joined_by_a_channel_is_a_hole():
    hole = np.array([(3.2, 2.5), (4.5, 2.5), (4.5, 4.5), (2.5, 4.5), (2.5, 2.5), (3.2, 2.5)])
    keyhole = np.concatenate([SQUARE, [(3.2, 1.5)], hole, [(3.2, 1.5)]])
    assert np.array_equal(fill_even_odd([keyhole], (8, 8)), fill_even_odd([SQUARE, hole[1:5]], (8, 8)))


def test_outlines_traced_through_pixel_centres_give_their_mask_back():
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:7, 3:6] = mask[4, 6] = True
    traced = np.array([(2, 3), (2, 4), (2, 5), (3, 5), (4, 6), (5, 5), (6, 5), (6, 4), (6, 3), (5, 3), (4, 3), (3, 3)])
    assert np.array_equal(fill_even_odd([traced], (9, 9)), mask)
    assert np.array_equal(fill_even_odd([traced[::-1].astype(float)], (9, 9)), mask)


def test_what_lies_outside_the_picture_is_cut_off():
    assert np.array_equal(np.argwhere(fill_even_odd([SQUARE - 4], (8, 8))), [[0, 0], [0, 1], [1, 0], [1, 1]])
    assert not fill_even_odd([SQUARE + 20], (8, 8)).any()
