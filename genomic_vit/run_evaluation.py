"""A trained network against the labels of a cohort: its own held-out cases, or another hospital's."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from genomic_vit.config import LabelsConfig, RunConfig
from genomic_vit.data.cache import cache_folder
from genomic_vit.data.prepare import Prepared
from genomic_vit.data.workers import Engine
from genomic_vit.evaluation.inference import case_probabilities
from genomic_vit.evaluation.metrics import score_cohort
from genomic_vit.models.genomic_vit import GenomicViT
from genomic_vit.run import Bar, prepare_cohort, read_as
from genomic_vit.training.machine import best_device
from genomic_vit.training.run_folder import RunError, RunFolder, write_predictions
from genomic_vit.training.split_file import met_before
from genomic_vit.training.whole import write_text

LEARNT = ("train", "validation")
log = logging.getLogger(__name__)


def evaluate_run(
    run: Path,
    data: Path,
    out: Path,
    *,
    labels: tuple[str | None, str | None] = (None, None),
    reading: Mapping[str, object] = MappingProxyType({}),
    overwrite: bool = False,
    skip_bad: bool = False,
    cache: Path | None = None,
    jobs: int = -1,
    engine: Engine = "loky",
    device: str = "auto",
    bar: Bar | None = None,
) -> dict:
    """Score a run's model on another cohort; writes predictions.csv, metrics.json, excluded.csv into `out`.

    Cases that the run was trained with are told by their voxels, and patients by their names: a warning says so.

    Args:
        run: run folder.
        data: manifest with the run's target columns.
        out: folder to write.
        labels: text that means positive and negative in `data`; None takes the run's.
        reading: settings of `lesion` and `on_gap` that differ from the run's.
        overwrite, skip_bad, cache, jobs, engine, bar: as `train_run`.
        device: auto, cpu, cuda or mps.

    Raises:
        UserError: run or cohort cannot be used, or `out` holds an evaluation.
    """
    if (out / "metrics.json").exists() and not overwrite:
        raise RunError(f"{out}: already holds metrics.json; pass --overwrite, or another --out.")
    folder, place = RunFolder(run), best_device(device)
    trained = folder.read_config()
    model = folder.load_model(place)
    positive, negative = labels if any(labels) else (trained.positive, trained.negative)
    config = replace(
        trained,
        data=str(data),
        target=",".join(trained.targets),
        positive=positive,
        negative=negative,
        labels=LabelsConfig(),  # the run's table knows nothing of these patients
    )
    config = read_as(config, reading)
    prepared = prepare_cohort(config, cache or cache_folder(), skip_bad=skip_bad, jobs=jobs, engine=engine, bar=bar)
    probability, metrics = evaluate_cohort(model, prepared, config, place)
    out.mkdir(parents=True, exist_ok=True)
    parts = _met(folder, prepared)
    write_predictions(out / "predictions.csv", prepared.cohort, probability, np.full(len(probability), ""), parts)
    prepared.write_excluded(out)
    write_text(out / "metrics.json", json.dumps(metrics, indent=2))
    return metrics


def _met(folder: RunFolder, prepared: Prepared) -> np.ndarray:
    """The part of the run that each case is in, said aloud where it is none to be tested by."""
    if not folder.split.is_file():
        return np.full(len(prepared.slabs), "external")
    parts, patients = met_before(folder.split, prepared)
    learnt = [case.case for case, part in zip(prepared.cohort.cases, parts, strict=True) if part in LEARNT]
    if learnt:
        log.warning(
            "%d of %d cases, such as %s, are the scans and lesions that this run was trained with: the numbers are no "
            "test of it. Leave out the cases that predictions.csv calls train or validation.",
            len(learnt),
            len(parts),
            learnt[0],
        )
    elif patients:
        log.warning(
            "%d patients, such as %s, have the names of patients that this run was trained with. If they are the same "
            "people the numbers are too good; leave those out.",
            len(patients),
            patients[0],
        )
    return np.array(parts)


def evaluate_cohort(
    model: GenomicViT, prepared: Prepared, config: RunConfig, device: torch.device
) -> tuple[np.ndarray, dict]:
    """Probabilities (case t) and metrics of a cohort, lesion diameter alone beside them."""
    cohort = prepared.cohort
    probability = case_probabilities(model, prepared.slabs, config.view, device)
    metrics = score_cohort(probability, cohort.labels, cohort.patients, cohort.targets, config.seed)
    _add_diameter_alone(metrics, prepared, config.seed)
    return probability, metrics


def _add_diameter_alone(metrics: dict, prepared: Prepared, seed: int) -> None:
    """Beside each target's metrics, what the lesion's diameter alone gives on the cases whose lesion was outlined."""
    cohort = prepared.cohort
    diameter_mm = np.array([slab.diameter_mm for slab in prepared.slabs])
    unknown = np.isnan(diameter_mm)
    if unknown.any():
        log.warning(
            "%d of %d lesions were not outlined (points, boxes, lungs): their diameter is unknown, "
            "and 'lesion diameter alone' leaves them out",
            unknown.sum(),
            len(unknown),
        )
    labels = np.where(unknown[:, None], np.nan, cohort.labels)
    scores = np.repeat(diameter_mm[:, None], len(cohort.targets), axis=1)
    alone = score_cohort(scores, labels, cohort.patients, cohort.targets, seed, only=("auc",))
    for target, report in metrics.items():
        if "by_case" in report:
            kept = ("by_case", "by_patient") if report["counts"] == alone[target]["counts"] else tuple(alone[target])
            report["diameter_alone"] = {part: alone[target][part] for part in kept}
