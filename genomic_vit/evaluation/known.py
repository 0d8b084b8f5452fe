"""What the software knows of the items of a reporting checklist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from genomic_vit import __version__
from genomic_vit.cohort.folds import inner_parts
from genomic_vit.data.prepare import Prepared
from genomic_vit.evaluation.metrics import REPLICATES
from genomic_vit.evaluation.plan import BenchmarkConfig


def learnt_from(config: BenchmarkConfig) -> str:
    """Which patients an arm learns from: not the same for networks and for the other arms."""
    parts = inner_parts(config.run.split.validation)
    return (
        f"All arms are tested on the same held-out patients. Of the others networks learn from {parts - 1} in {parts}; "
        "the rest chooses the epoch, calibration and threshold. Arms without a network learn from all of the others "
        f"({parts / (parts - 1):.2f} times as many) and take calibration and threshold from them: models by scores of "
        "a cross-validation among them, size as it is."
    )


def _weights(config: BenchmarkConfig) -> str:
    """What networks begin with."""
    seeds = ", ".join(map(str, config.seeds))
    if config.run.model.pretrained is None:
        return f"Random, fixed by the seeds {seeds}."
    file = Path(config.run.model.pretrained).name
    return f"Of the ViT those of {file} (what they were trained on: author); others random, fixed by the seeds {seeds}."


def known_answers(
    config: BenchmarkConfig,
    prepared: Prepared,
    fold_names: tuple[str, ...],
    environment: Mapping[str, str],
    arms: Sequence[str] | None = None,
) -> dict[str, str]:
    """Name → text for the {names} of `checklist.ITEMS`; `arms` are those that were compared, None for all asked for."""
    cohort, slab, view, training = prepared.cohort, config.run.slab, config.run.view, config.run.training
    missing = [
        f"{name}: {int(np.isnan(column).sum())}" for name, column in zip(cohort.targets, cohort.labels.T, strict=True)
    ]
    gone = [f"{c.name}: {int(c.missing.sum())}" for c in cohort.covariates]
    patients = len(set(cohort.patients.tolist()))
    split = (
        f"sites of {config.site} held out one by one"
        if config.site
        else f"{len(fold_names)} folds, stratified by target"
    )
    heat = [name for name in (config.arms if arms is None else arms) if name.startswith(("heat-", "swap-"))]
    return {
        "goal": "Comparison of models on the same patients. Whether exploratory or confirmatory, and what for: author.",
        "preparation": (
            f"Slices around the lesion, {slab.tile_px} × {slab.tile_px} pixels of at least "
            f"{slab.crop_mm / slab.tile_px:.2f} mm, {view.window_hu[0]:g} to {view.window_hu[1]:g} HU as 0 to 1, "
            "nine consecutive slices as one picture."
        ),
        "subgroups": ", ".join(config.subgroups) or "none",
        "covariates": ", ".join(c.name for c in cohort.covariates) or "none",
        "missing": (
            f"Missing labels ({'; '.join(missing)}) are left out of loss and metrics, never taken as negative. "
            f"Missing covariates ({'; '.join(gone) or 'none declared'}): the training part's median, or a category."
        ),
        "size": f"{len(cohort.cases)} cases of {patients} patients.",
        "partitions": (f"By patient: {split}. {learnt_from(config)} Checked across folds: see flow of cases."),
        "software": f"genomic_vit {__version__}",
        "environment": "; ".join(f"{name} {value}" for name, value in environment.items()),
        "weights": _weights(config),
        "training": (
            f"At most {training.epochs} epochs, AdamW, peak learning rate {training.learning_rate:g}, batches of "
            f"{training.batch_size}; the epoch of least loss on inner cases is kept."
        ),
        "ensembling": f"Mean over {len(config.seeds)} seeds in every arm."
        if len(config.seeds) > 1
        else "None (one seed).",
        "imbalance": (
            "Positives weigh negatives / positives in the networks' loss; recalibrated on inner cases."
            if training.balance
            else "Not weighed; recalibrated on inner cases."
        ),
        "statistics": (
            f"Intervals: {REPLICATES} bootstrap samples of patients, stratified by label. Differences: paired, and "
            "DeLong with cases summed by patient (Obuchowski), Holm over arms. Labels permuted over patients. "
            "Intervals are not corrected for several comparisons."
            + (" Rankings, samples and permutations within each held-out site." if config.site else "")
        ),
        "robustness": (
            f"Sites of {config.site} held out one by one."
            if config.site
            else "Spread over folds and seeds; sites were not held out."
        ),
        "differences": (
            f"Each tested site of {config.site} gives nothing to learn from: see flow of cases. How sites differ in "
            "setting, eligibility, outcome and predictors: author."
            if config.site
            else "Folds of one cohort, dealt by chance: no systematic ones. Against other cohorts: author."
        ),
        "explanation": (
            "Attention rollout; share and hottest point in the lesion against chance; heat replaced: "
            f"{', '.join(heat) or 'not in this comparison'}."
        ),
    }
