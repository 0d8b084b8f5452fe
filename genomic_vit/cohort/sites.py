"""What is held out in a comparison: sites one by one, or one of several folds."""

from __future__ import annotations

from collections import Counter

import numpy as np

from genomic_vit.cohort.folds import Split, assign_folds
from genomic_vit.cohort.manifest import Cohort, ManifestError


def assign_sites(cohort: Cohort, column: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Leave-one-site-out: fold of each case, (case), and the site that each fold holds out.

    Args:
        cohort: with that covariate.
        column: name of a covariate of kind category: the site of each case.

    Raises:
        ManifestError: one site only, a case without a site, a patient at two sites, a site with one patient.
    """
    (sites,) = (covariate.values for covariate in cohort.covariates if covariate.name == column)
    patients_of = {site: set(cohort.patients[sites == site].tolist()) for site in sorted(set(sites.tolist()))}
    if "" in patients_of:
        raise ManifestError(f"{int((sites == '').sum())} cases have no {column!r}; fill the column to hold sites out.")
    if len(patients_of) < 2:
        raise ManifestError(f"{column!r} names one site only ({sites[0]!r}); two are needed to hold one out.")
    visited = Counter(patient for patients in patients_of.values() for patient in patients)
    roamers = [patient for patient, count in visited.items() if count > 1]
    if roamers:
        raise ManifestError(
            f"{len(roamers)} patients have cases at several sites of {column!r} ({', '.join(map(repr, roamers[:5]))}); "
            "a patient must be held out whole. Give each patient one site."
        )
    lone = [site for site, patients in patients_of.items() if len(patients) == 1]
    if lone:
        raise ManifestError(
            f"site {lone[0]!r} of {column!r} has one patient; it cannot be held out alone. Merge it with another site, "
            "or leave the patient out."
        )
    return np.searchsorted(list(patients_of), sites), tuple(patients_of)


def hold_out(cohort: Cohort, folds: np.ndarray, fold: int, validation: float, seed: int) -> Split:
    """One fold as the test part, a share of the other patients for what is chosen, the rest to learn from.

    Args:
        cohort: who.
        folds: fold of each case, (case).
        fold: the one held out.
        validation: share of the other patients.
        seed: of their choice.

    Raises:
        ManifestError: a part with one class only for a target.
    """
    test, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
    parts = max(2, round(1 / validation))
    inner = assign_folds(cohort.take(rest), parts, seed)
    split = Split(folds, train=rest[inner != 0], validation=rest[inner == 0], test=test)
    for name in ("train", "validation", "test"):
        part = cohort.take(getattr(split, name))
        for column, target in enumerate(cohort.targets):
            found = Counter(part.labels[~np.isnan(part.labels[:, column]), column].astype(int).tolist())
            if min(found[0], found[1]) == 0:
                raise ManifestError(
                    f"target {target!r}: the {name} part has {found[1]} positive and {found[0]} negative cases, "
                    f"both are needed (fold {fold} held out). Use fewer folds, another --seed, or add cases."
                )
    return split
