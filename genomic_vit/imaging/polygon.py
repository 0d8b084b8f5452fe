"""Which pixels lie within closed outlines, by the even–odd rule."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

ON_LINE_PX = 0.01  # a centre this near an outline lies on it: coordinates are written with few decimals


def fill_even_odd(outlines: Iterable[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels (bool `[row column]`) whose centre an odd number of outlines encloses, or which lie on an outline.

    Pixel (r, c) has its centre at (r, c). An outline within another is thus a hole. Centres on the line count as
    inside, whichever way the outline runs: writers that trace pixel centres then get their own mask back.

    Args:
        outlines: each (point, 2) of row, column, closed from its last point to its first.
        shape: rows, columns.
    """
    rows, columns = shape
    toggles = np.zeros((rows, columns + 1), dtype=np.int32)
    on_line = np.zeros(shape, dtype=bool)
    for outline in outlines:
        start, end = np.asarray(outline, dtype=np.float64), np.roll(outline, -1, axis=0)
        low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
        row, at = _crossings(start, end, np.ceil(low), np.ceil(high) - 1)  # half open: a corner is crossed once
        kept = (row >= 0) & (row < rows)
        np.add.at(toggles, (row[kept], np.ceil(at[kept]).clip(0, columns).astype(int)), 1)
        for axis in (0, 1):  # the line as seen along rows and along columns, so that no slope slips through
            _mark_line(on_line if axis == 0 else on_line.T, start[:, [axis, 1 - axis]], end[:, [axis, 1 - axis]])
    return (toggles.cumsum(axis=1)[:, :columns] % 2 == 1) | on_line


def _crossings(
    start: np.ndarray, end: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whole rows from `first` to `last` that each edge passes, and the column at which it does."""
    counts = (last - first + 1).clip(0).astype(int)
    edge = np.repeat(np.arange(len(start)), counts)
    step = np.arange(len(edge)) - np.repeat(counts.cumsum() - counts, counts)
    row = first[edge].astype(int) + step
    rise = end[edge, 0] - start[edge, 0]
    along = np.divide(row - start[edge, 0], rise, out=np.zeros(len(edge)), where=rise != 0)
    return row, start[edge, 1] + along * (end[edge, 1] - start[edge, 1])


def _mark_line(on_line: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    row, at = _crossings(start, end, np.ceil(low - ON_LINE_PX), np.floor(high + ON_LINE_PX))
    column = at.round().astype(int)
    kept = np.abs(at - column) <= ON_LINE_PX
    kept &= (row >= 0) & (row < on_line.shape[0]) & (column >= 0) & (column < on_line.shape[1])
    on_line[row[kept], column[kept]] = True
