"""The mean over several targets, each patient drawn once for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from genomic_vit.cohort.manifest import Cohort
from genomic_vit.evaluation.metrics import auc, interval, patient_weights, resampled
from genomic_vit.evaluation.rows import Rows, result_row


def macro_rows(of_targets: Sequence[Rows], reference: str, seed: int) -> list[dict]:
    """Mean AUC over targets with an interval from patients drawn once for all of them, and paired differences.

    Args:
        of_targets: rows of every target, of the same arms, none of which is withheld.
        reference: arm that the others are compared with, where it is among them.
        seed: of the bootstrap.
    """
    everyone = np.concatenate([rows.patients for rows in of_targets])
    names, first, row = np.unique(everyone, return_index=True, return_inverse=True)
    some = np.zeros(len(names), dtype=bool)
    np.logical_or.at(some, row, np.concatenate([rows.label for rows in of_targets]) > 0)
    fold = np.concatenate([rows.fold for rows in of_targets])[first]
    drawn = patient_weights(names, some, seed, strata=fold if of_targets[0].within_folds else None)
    value: dict[str, list[float]] = {name: [] for name in of_targets[0].probability}
    samples: dict[str, list[np.ndarray]] = {name: [] for name in value}
    for rows in of_targets:
        ranked, weights = partial(auc, strata=rows.strata), drawn[:, np.searchsorted(names, rows.patients)]
        for name, p in rows.probability.items():
            value[name].append(float(ranked(rows.label, p, np.ones((1, len(p))))[0]))
            samples[name].append(resampled(ranked, rows.label, p, weights))
    means = {name: np.mean(each, axis=0) for name, each in samples.items()}
    told = [result_row(name, "auc", float(np.mean(value[name])), *interval(means[name])) for name in value]
    for name in value:
        if name != reference and reference in value:
            gap = float(np.mean(value[name]) - np.mean(value[reference]))
            told.append(result_row(name, "auc_difference", gap, *interval(means[name] - means[reference])))
    return told


def macro_withheld(reasons: Mapping[str, str | None]) -> str | None:
    """Why there is no mean: targets (name → reason or None) that are withheld; a mean of the others is another."""
    return "; ".join(f"{target}: {reason}" for target, reason in reasons.items() if reason) or None


def macro_counts(cohort: Cohort, member: np.ndarray, unit: str) -> dict[str, int]:
    """Patients, cases, and positive ones (patients or cases), where a label of one target at least is known."""
    labels = cohort.labels[member]
    known, positive = ~np.isnan(labels).all(axis=1), (labels == 1).any(axis=1)
    patients = cohort.patients[member]
    found = len(set(patients[positive].tolist())) if unit == "patient" else int(positive.sum())
    return {"patients": len(set(patients[known].tolist())), "cases": int(known.sum()), "positive": found}
