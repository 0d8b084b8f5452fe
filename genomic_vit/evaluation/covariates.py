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
        ManifestError: a covariate has one value only, or none.
    """
    for covariate in covariates:
        known = covariate.values[~covariate.missing]
        if len(set(known.tolist())) < 2:
            found = f"is {known[0]!s} in every case" if len(known) else "is missing in every case"
            raise ManifestError(
                f"covariate {covariate.name!r} {found}: it can tell nothing. Remove it from clinical and acquisition, "
                "or give it another column."
            )
    warnings = []
    for covariate in covariates:
        for column, target in enumerate(cohort.targets):
            alone = _alone(cohort, covariate, column, folds, seed)
            if alone > GIVES_AWAY:
                warnings.append(
                    f"covariate {covariate.name!r} alone tells {target!r} with AUC {alone:.3f}, out of fold: it may be "
                    "the target under another name, or known only after it. Leave it out unless it is known before."
                )
    for warning in warnings:
        log.warning("%s", warning)
    return warnings


def _alone(cohort: Cohort, covariate: Covariate, column: int, folds: np.ndarray, seed: int) -> float:
    """AUC of one covariate, in the better direction for a number, out of fold for a category."""
    label = cohort.labels[:, column]
    known = ~np.isnan(label) & ~covariate.missing
    y, once = label[known], np.ones((1, int(known.sum())))
    if not 0 < y.sum() < len(y):
        return 0.5
    if covariate.kind == "number":
        value = float(auc(y, covariate.values[known].astype(float), once)[0])
        return max(value, 1 - value)
    table, score = covariate_table([covariate]), np.full(len(label), np.nan)
    for fold in np.unique(folds):
        learning, testing = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        _, score[testing] = fit_and_score("logistic", table, label, cohort.patients, learning, testing, seed)
    return float(auc(y, score[known], once)[0])
