"""Sites held out one by one."""

from __future__ import annotations

from collections import Counter

import numpy as np

from genomic_vit.cohort.manifest import Cohort, ManifestError


def assign_sites(cohort: Cohort, column: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Leave-one-site-out: fold of each case, (case), and the site that each fold holds out.

    Args:
        cohort: with that covariate.
        column: name of a covariate of kind category: the site of each case.

    Raises:
        ManifestError: the covariate holds numbers, one site only, a case without a site, a patient at two sites, a site
            with one patient.
    """
    (covariate,) = (covariate for covariate in cohort.covariates if covariate.name == column)
    if covariate.kind != "category":
        raise ManifestError(
            f"{column!r} is a covariate of kind {covariate.kind}, and sites have names; declare its kind as category "
            f"(labels.covariates: {{{column}: {{column: …, kind: category}}}}), or hold another column out."
        )
    if covariate.missing.any():
        raise ManifestError(f"{covariate.missing.sum()} cases have no {column!r}; fill the column to hold sites out.")
    sites = covariate.values
    patients_of = {site: set(cohort.patients[sites == site].tolist()) for site in sorted(set(sites.tolist()))}
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
