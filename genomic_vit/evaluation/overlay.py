"""The picture for people: nine slices with heat and lesion outline."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from genomic_vit.data.grid import STACK_SLICES
from genomic_vit.data.slab import Slab

HEAT_FLOOR = 1.0  # the even share: below it nothing is painted


def draw_overlay(slab: Slab, heat: np.ndarray, window_hu: tuple[float, float], title: str, path: Path) -> None:
    """Draw nine slices through the lesion, without and with heat, as radiologists see them (patient's right at left).

    Args:
        slab: the slices.
        heat: on the slab, (z y x), 1.0 the even share.
        window_hu: grey values shown.
        title: the answer, in words.
        path: PNG to write.
    """
    start = middle_stack(slab.lesion)
    top = float(max(np.percentile(heat, 99.5), HEAT_FLOOR + 0.05))
    figure = Figure(figsize=(12.4, 7.2), layout="constrained", facecolor="black")
    figure.suptitle(title, color="white", fontsize=13)
    left, right, bar = figure.subfigures(1, 3, width_ratios=(1, 1, 0.16))
    for part, name in ((left, "scan"), (right, "scan, heat and lesion outline")):
        part.set_facecolor("black")
        part.suptitle(name, color="0.8", fontsize=11)
        axes = part.subplots(3, 3, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
        for place, axis in enumerate(reversed(range(STACK_SLICES))):  # superior first, as on a light box
            _draw_slice(axes.flat[place], slab, heat if part is right else None, start + axis, window_hu, top)
    bar.set_facecolor("black")
    colours = ScalarMappable(Normalize(HEAT_FLOOR, top), "inferno")
    scale = bar.colorbar(colours, cax=bar.add_axes((0.1, 0.15, 0.22, 0.66)))
    scale.set_label("attention rollout, 1 = even share", color="white")
    scale.ax.tick_params(colors="white")
    part_path = path.with_name("." + path.name)
    figure.savefig(part_path, format="png", dpi=110)
    part_path.replace(path)


def middle_stack(lesion: np.ndarray) -> int:
    """First slice of the nine whose middle is nearest to the lesion's centre of area; lesion (z y x)."""
    area = lesion.sum(axis=(1, 2))
    centre = float((np.arange(len(area)) * area).sum() / area.sum())
    return int(np.clip(round(centre - STACK_SLICES // 2), 0, len(area) - STACK_SLICES))


def _draw_slice(axis, slab: Slab, heat: np.ndarray | None, z: int, window_hu: tuple[float, float], top: float) -> None:
    pixel_mm = float(slab.geometry.spacing_mm[1])
    side_mm = pixel_mm * slab.hu.shape[1]
    extent = (0, side_mm, side_mm, 0)
    axis.imshow(slab.hu[z], cmap="gray", vmin=window_hu[0], vmax=window_hu[1], extent=extent, interpolation="bicubic")
    if heat is not None:
        strength = np.clip((heat[z] - HEAT_FLOOR) / (top - HEAT_FLOOR), 0, 1)
        axis.imshow(
            heat[z],
            cmap="inferno",
            vmin=HEAT_FLOOR,
            vmax=top,
            alpha=0.6 * strength,
            extent=extent,
            interpolation="bilinear",
        )
        if slab.lesion[z].any():
            centres = (np.arange(slab.hu.shape[1]) + 0.5) * pixel_mm
            axis.contour(centres, centres, slab.lesion[z].astype(float), levels=[0.5], colors="cyan", linewidths=1.2)
    s_mm = slab.geometry.to_lps(np.array([z, (slab.hu.shape[1] - 1) / 2, (slab.hu.shape[2] - 1) / 2]))[2]
    axis.text(0.03, 0.97, f"S {s_mm:.1f} mm", color="white", fontsize=7, va="top", transform=axis.transAxes)
    if z == middle_stack(slab.lesion):
        bar_mm = 10 if side_mm < 80 else 20
        axis.plot([side_mm * 0.05, side_mm * 0.05 + bar_mm], [side_mm * 0.93] * 2, color="white", linewidth=2)
        axis.text(side_mm * 0.05, side_mm * 0.9, f"{bar_mm} mm", color="white", fontsize=7)
    for place, letter in (((0.01, 0.5), "R"), ((0.93, 0.5), "L")):
        axis.text(*place, letter, color="0.7", fontsize=7, transform=axis.transAxes, va="center")
    axis.set_axis_off()


def describe(targets: tuple[str, ...], probability: np.ndarray) -> str:
    """One line of answers: target and probability."""
    return ",  ".join(
        f"{t}: probability {p:.2f}" for t, p in zip(targets, probability, strict=True) if not math.isnan(p)
    )
