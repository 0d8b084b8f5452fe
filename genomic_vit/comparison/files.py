"""What a benchmark found, as files to read: the report with its pictures, and every prediction."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from genomic_vit.comparison.part import Part
from genomic_vit.evaluation.inference import slab_heat
from genomic_vit.evaluation.overlay import draw_overlay
from genomic_vit.evaluation.report import Findings, example_arm, pick_examples, render_report
from genomic_vit.training.machine import best_device
from genomic_vit.training.run_folder import RunError, RunFolder
from genomic_vit.training.whole import write_text

log = logging.getLogger(__name__)


def write_report(found: Findings, out: Path, *, is_quick: bool = False) -> Path:
    """Write report.html into `out`, with heat examples chosen by rule; returns its path."""
    with tempfile.TemporaryDirectory() as pictures:
        examples = draw_examples(found, out, Path(pictures))
        environment = json.loads((out / "environment.json").read_text(encoding="utf-8"))
        settings = (out / "config.yaml").read_text(encoding="utf-8")
        page = render_report(found, examples, environment, settings, is_quick=is_quick)
    write_text(out / "report.html", page)
    return out / "report.html"


def draw_examples(found: Findings, out: Path, folder: Path) -> list[tuple[str, Path]]:
    """(caption, PNG) of the best, median and worst held-out case by the network that held it out, first seed.

    Where such a network can no longer be read, its example is left out, with a warning.
    """
    config, cohort, name = found.config, found.prepared.cohort, example_arm(found.config)
    shown = [arm for arm in found.arms if arm.arm == name]
    if not shown:
        return []
    device, told = best_device(config.run.device), []
    for rule, case in pick_examples(shown[0], cohort.labels[:, 0], column=0):
        part = Part(shown[0].arm, int(found.folds[case]), config.seeds[0])
        slab = found.prepared.slabs[case]
        try:
            model = RunFolder(part.folder(out)).load_model(device)
        except RunError as problem:  # numbers are worth more than a picture
            log.warning("the report lacks the %s example of heat: %s: %s", rule, part, problem)
            continue
        _, heat = slab_heat(model, slab, config.run.view, device)
        answer, label = shown[0].mean[case, 0], int(cohort.labels[case, 0])
        caption = f"{rule}: case {cohort.cases[case].case}, {cohort.targets[0]} {label}, probability {answer:.2f}"
        draw_overlay(slab, heat, config.run.view.window_hu, caption, folder / f"{rule}.png")
        told.append((caption, folder / f"{rule}.png"))
    return told


def write_predictions(found: Findings, path: Path) -> None:
    """One row a case and target: fold, label, then each arm's probability and threshold."""
    cohort, frames = found.prepared.cohort, []
    for column, target in enumerate(cohort.targets):
        label = cohort.labels[:, column]
        frame = pd.DataFrame(
            {
                "case": [case.case for case in cohort.cases],
                "patient": cohort.patients,
                "fold": found.folds,
                "target": target,
                "label": pd.array([None if np.isnan(value) else int(value) for value in label], dtype="Int64"),
            }
        )
        for arm in found.arms:
            frame[arm.arm] = arm.mean[:, column].round(6)
            frame[f"{arm.arm} threshold"] = arm.mean_threshold[:, column].round(6)
        frames.append(frame)
    pd.concat(frames, ignore_index=True).to_csv(path, index=False)
