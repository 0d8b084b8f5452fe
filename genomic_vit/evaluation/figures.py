"""The report's figures as SVG text: forest plot, ROC, calibration, decision curves."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genomic_vit.evaluation.calibration import calibration_bins
from genomic_vit.evaluation.decision import THRESHOLDS, act_on_all, net_benefit
from genomic_vit.evaluation.roc import roc
from genomic_vit.evaluation.rows import Rows

COLOURS = ("#0b3c5d", "#d1495b", "#2e933c", "#edae49", "#66717e", "#7b4ea3", "#00798c", "#8c510a", "#b04f9c", "#1a1a1a")
STYLES = ("-", "--", "-.", ":")  # told apart on black-and-white paper too
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "genomic_vit",  # the same figure is the same file
}


def forest_plot(table: pd.DataFrame, reference: str, *, within_folds: bool = False) -> str:
    """AUC of each arm with its interval.

    Args:
        table: columns arm, value, low, high, in the order to draw.
        reference: arm whose value is drawn as a line.
        within_folds: whether these are AUCs within sites.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.7 + 0.27 * len(table)), layout="constrained")
        axis = figure.subplots()
        places = np.arange(len(table))[::-1]
        is_reference = (table["arm"] == reference).to_numpy()
        for place, row, main in zip(places, table.itertuples(), is_reference, strict=True):
            colour = COLOURS[1] if main else COLOURS[0]
            axis.plot([row.low, row.high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
            axis.plot(row.value, place, "s", color=colour, markersize=5)
            axis.text(
                1.02, place, f"{row.value:.3f} ({row.low:.3f}–{row.high:.3f})", transform=axis.get_yaxis_transform(),
                va="center", fontsize=8, family="monospace",
            )  # fmt: skip
        axis.axvline(0.5, color="0.6", linewidth=0.8, linestyle=":")
        if is_reference.any():
            axis.axvline(float(table["value"][is_reference].iloc[0]), color=COLOURS[1], linewidth=0.8, alpha=0.5)
        axis.set_yticks(places, table["arm"])
        axis.set_ylim(-0.7, len(table) - 0.3)
        axis.set_xlim(min(0.4, float(table["low"].min()) - 0.02), 1.005)
        axis.set_xlabel(f"AUROC{' within sites' if within_folds else ''}, 95 % interval (dotted: chance)")
        return _svg(figure)


def curves(rows: Rows, arms: Mapping[str, str]) -> str:
    """ROC, calibration and decision curves side by side.

    Args:
        rows: of one target.
        arms: those to draw, name → label.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(10.2, 4.1), layout="constrained")
        axes = figure.subplots(1, 3)
        for number, (arm, label) in enumerate(arms.items()):
            line = {
                "color": COLOURS[number % len(COLOURS)],
                "linestyle": STYLES[number % len(STYLES)],
                "linewidth": 1.4,
            }
            _draw_arm(axes, rows, arm, label, line)
        _finish(axes, rows)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
        return _svg(figure)


def _draw_arm(axes: np.ndarray, rows: Rows, arm: str, name: str, line: dict) -> None:
    label, probability = rows.label, rows.probability[arm]
    axes[0].plot(*roc(label, probability, rows.strata), label=name, **line)
    mean, share, _ = calibration_bins(label, probability, bins=min(10, max(3, len(label) // 20)))
    axes[1].plot(mean, share, marker="o", markersize=3, **line)
    axes[2].plot(THRESHOLDS, net_benefit(label, probability, np.ones((1, len(label))))[0], **line)


def _finish(axes: np.ndarray, rows: Rows) -> None:
    curve = "ROC within sites" if rows.within_folds else "ROC"
    for axis, title in zip(axes, (curve, "Calibration", "Decision curve"), strict=True):
        axis.set_title(title, fontsize=10, loc="left")
    for axis, x, y in (
        (axes[0], "1 − specificity", "sensitivity"),
        (axes[1], "mean probability of a bin", "share of positives in it"),
    ):
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, zorder=0)
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y, aspect="equal")
    rate, everyone = float(rows.label.mean()), act_on_all(rows.label)
    _decision_frame(axes[2], rate, everyone)


def _decision_frame(axis: Axes, rate: float, everyone: np.ndarray) -> None:
    axis.plot(THRESHOLDS, everyone, color="0.6", linewidth=0.8)
    axis.axhline(0, color="0.2", linewidth=0.8)
    axis.text(0.02, -0.02 * rate, "act on none", va="top", fontsize=7, color="0.3")
    crossing = min(0.9, rate * 0.55)
    axis.text(
        crossing, float(np.interp(crossing, THRESHOLDS, everyone)), " act on all", fontsize=7, color="0.4", va="bottom"
    )
    axis.set(xlim=(0, 1), ylim=(-0.25 * rate, 1.1 * rate), xlabel="threshold probability", ylabel="net benefit")


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
