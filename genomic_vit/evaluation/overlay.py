"""The picture for people: nine slices with heat and lesion outline."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from genomic_vit.data.grid import GRID_SIDE, STACK_SLICES
from genomic_vit.data.picture import middle_stack
from genomic_vit.data.slab import Slab

HEAT_FLOOR = 1.0  # the even share: below it nothing is painted
TILE_IN, GAP_IN, PANEL_GAP_IN, EDGE_IN, HEAD_IN, BAR_IN = 1.95, 0.03, 0.2, 0.1, 0.8, 1.15
WIDTH_IN = 2 * EDGE_IN + 2 * (3 * TILE_IN + 2 * GAP_IN) + PANEL_GAP_IN + BAR_IN
HEIGHT_IN = HEAD_IN + 3 * TILE_IN + 2 * GAP_IN + EDGE_IN
OUTLINED = [withStroke(linewidth=2, foreground="black")]  # white letters stay readable on bright tissue


def draw_overlay(
    slab: Slab,
    heat: np.ndarray,
    window_hu: tuple[float, float],
    title: str,
    path: Path,
    *,
    caption: str = "scan, lesion outline, and where the network looked",
    scale: str = "attention rollout (1 = even share)",
) -> None:
    """Draw nine slices through the lesion, without and with heat, as radiologists see them (patient's right at left).

    Args:
        slab: the slices.
        heat: on the slab, (z y x), 1.0 the even share.
        window_hu: grey values shown.
        title: the answer, in words.
        path: PNG to write.
        caption: above the slices with heat.
        scale: what the colours mean.
    """
    start = middle_stack(slab.lesion)
    top = float(max(np.percentile(heat[start : start + STACK_SLICES], 99.5), HEAT_FLOOR + 0.05))
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), facecolor="black")
    figure.text(0.5, 1 - 0.25 / HEIGHT_IN, title, color="white", fontsize=14, ha="center", va="center")
    for panel, name in enumerate(("scan", caption)):
        left_in = EDGE_IN + panel * (3 * TILE_IN + 2 * GAP_IN + PANEL_GAP_IN)
        middle_in = left_in + 1.5 * TILE_IN + GAP_IN
        figure.text(
            middle_in / WIDTH_IN, 1 - 0.6 / HEIGHT_IN, name, color="0.85", fontsize=11, ha="center", va="center"
        )
        for place in range(STACK_SLICES):
            axis = _tile_axes(figure, left_in, place)
            z = start + STACK_SLICES - 1 - place  # superior first, as on a light box
            _draw_slice(axis, slab, heat if panel else None, z, window_hu, top)
            if place == STACK_SLICES - GRID_SIDE:
                _draw_ruler(axis, slab)
    _draw_colours(figure, top, scale)
    part_path = path.with_name("." + path.name)
    figure.savefig(part_path, format="png", dpi=110, facecolor="black")
    part_path.replace(path)


def describe(targets: tuple[str, ...], probability: np.ndarray) -> str:
    """One line of answers: target and probability."""
    return ",  ".join(
        f"{t}: probability {p:.2f}" for t, p in zip(targets, probability, strict=True) if not math.isnan(p)
    )


def _tile_axes(figure: Figure, left_in: float, place: int) -> Axes:
    row, column = divmod(place, GRID_SIDE)
    x_in = left_in + column * (TILE_IN + GAP_IN)
    y_in = EDGE_IN + (GRID_SIDE - 1 - row) * (TILE_IN + GAP_IN)
    return figure.add_axes((x_in / WIDTH_IN, y_in / HEIGHT_IN, TILE_IN / WIDTH_IN, TILE_IN / HEIGHT_IN))


def _draw_slice(
    axis: Axes, slab: Slab, heat: np.ndarray | None, z: int, window_hu: tuple[float, float], top: float
) -> None:
    side_mm = _side_mm(slab)
    extent = (0, side_mm, side_mm, 0)
    axis.imshow(slab.hu[z], cmap="gray", vmin=window_hu[0], vmax=window_hu[1], extent=extent, interpolation="bicubic")
    if heat is not None:
        strength = np.clip((heat[z] - HEAT_FLOOR) / (top - HEAT_FLOOR), 0, 1)
        colours = {"cmap": "inferno", "vmin": HEAT_FLOOR, "vmax": top}
        axis.imshow(heat[z], **colours, alpha=0.6 * strength, extent=extent, interpolation="bilinear")
        if slab.lesion[z].any():
            centres = (np.arange(slab.hu.shape[1]) + 0.5) * side_mm / slab.hu.shape[1]
            axis.contour(centres, centres, slab.lesion[z].astype(float), levels=[0.5], colors="cyan", linewidths=1.2)
    middle = (np.array(slab.hu.shape) - 1) / 2
    s_mm = float(slab.geometry.to_lps(np.array([z, middle[1], middle[2]]))[2])
    _letter(axis, 0.03, 0.97, f"{'S' if s_mm >= 0 else 'I'} {abs(s_mm):.1f} mm", va="top")
    _letter(axis, 0.02, 0.5, "R")
    _letter(axis, 0.98, 0.5, "L", ha="right")
    axis.set_axis_off()


def _draw_ruler(axis: Axes, slab: Slab) -> None:
    side_mm = _side_mm(slab)
    bar_mm = 10 if side_mm < 80 else 20
    ends = [side_mm * 0.05, side_mm * 0.05 + bar_mm]
    axis.plot(ends, [side_mm * 0.94] * 2, color="white", linewidth=2.5, path_effects=[withStroke(linewidth=4.5)])
    _letter(axis, 0.05, 0.12, f"{bar_mm} mm")


def _draw_colours(figure: Figure, top: float, meaning: str) -> None:
    left_in, height_in = WIDTH_IN - BAR_IN + 0.05, 3 * TILE_IN
    axis = figure.add_axes(
        (left_in / WIDTH_IN, (EDGE_IN + 0.1 * height_in) / HEIGHT_IN, 0.2 / WIDTH_IN, 0.8 * height_in / HEIGHT_IN)
    )
    scale = figure.colorbar(ScalarMappable(Normalize(HEAT_FLOOR, top), "inferno"), cax=axis)
    scale.set_label(meaning, color="white", fontsize=10)
    scale.ax.tick_params(colors="white", labelsize=9)
    scale.outline.set_edgecolor("0.5")


def _letter(axis: Axes, x: float, y: float, text: str, *, ha: str = "left", va: str = "center") -> None:
    axis.text(
        x, y, text, color="white", fontsize=8, ha=ha, va=va, transform=axis.transAxes, path_effects=OUTLINED
    )  # fmt: skip


def _side_mm(slab: Slab) -> float:
    return float(slab.geometry.spacing_mm[1]) * slab.hu.shape[1]
