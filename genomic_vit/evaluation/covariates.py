"""Covariates that cannot be used, or that give the answer away."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from genomic_vit.cohort.labels import Covariate
from genomic_vit.cohort.manifest import Cohort, ManifestError
from genomic_vit.evaluation.baselines import fit_and_score
from genomic_vit.evaluation.features import covariate_table
from genomic_vit.evaluation.metrics import auc

GIVES_AWAY = 0.98  # AUC of one covariate alone from which it is taken for the target under another name
log = logging.getLogger(__name__)


def check_covariates(cohort: Cohort, covariates: Sequence[Covariate], folds: np.ndarray, seed: int) -> list[str]:
    """Warnings, also logged, of covariates that alone tell a target almost perfectly.

    Args:
        cohort: with labels.
        covariates: those that arms learn from.
        folds: (case); a covariate is judged out of fold, so that a column of names is not mistaken for the target.
        seed: of the models.

    Raises:
        ManifestError: a covariate has one known value only, or none.
    """
    for covariate in covariates:
        known = covariate.values[~covariate.missing]
        if len(set(known.tolist())) < 2:
            raise ManifestError(
                f"covariate {covariate.name!r} {_constant(covariate, known)}. Remove it from clinical and acquisition, "
                "or give it another column."
            )
    warnings = []
    for covariate in covariates:
        for column, target in enumerate(cohort.targets):
            known, given = _alone(cohort, covariate, column, folds, seed)
            if max(known, given) > GIVES_AWAY:
                as_value = f", missing in {covariate.missing.sum()} cases and given to the arms as a value,"
                said, value = ("", known) if known > GIVES_AWAY else (as_value, given)
                warnings.append(
                    f"covariate {covariate.name!r}{said} alone tells {target!r} with AUC {value:.3f}, out of fold: it "
                    "may be the target under another name, or known only after it. Leave it out unless it is "
                    "known before."
                )
    for warning in warnings:
        log.warning("%s", warning)
    return warnings


def _constant(covariate: Covariate, known: np.ndarray) -> str:
    """What is wrong with a covariate of one known value or none."""
    if not len(known):
        return "is missing in every case: it can tell nothing"
    if not covariate.missing.any():
        return f"is {known[0]!s} in every case: it can tell nothing"
    return (
        f"is {known[0]!s} wherever it is known and missing in {covariate.missing.sum()} cases: it tells no more than "
        "whether it was recorded. If an empty cell means another value, write that"
    )


def _alone(cohort: Cohort, covariate: Covariate, column: int, folds: np.ndarray, seed: int) -> tuple[float, float]:
    """AUC of one covariate where it is known, and in all cases, what is missing given as arms are given it.

    Numbers count in the better direction, their median where missing; categories out of fold, "missing" among them.
    """
    label = cohort.labels[:, column]
    if covariate.kind == "number":
        score = covariate.values.astype(float)
        score = np.where(covariate.missing, np.nanmedian(score), score)
    else:
        table, score = covariate_table([covariate]), np.full(len(label), np.nan)
        for fold in np.unique(folds):
            learning, testing = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            _, score[testing] = fit_and_score("logistic", table, label, cohort.patients, learning, testing, seed)
    labelled = ~np.isnan(label)
    found = [_auc(label[rows], score[rows]) for rows in (labelled & ~covariate.missing, labelled)]
    return tuple(max(value, 1 - value) if covariate.kind == "number" else value for value in found)


def _auc(label: np.ndarray, score: np.ndarray) -> float:
    """AUC of labelled cases; 0.5 where they are of one class."""
    if not 0 < label.sum() < len(label):
        return 0.5
    return float(auc(label, score, np.ones((1, len(label))))[0])
