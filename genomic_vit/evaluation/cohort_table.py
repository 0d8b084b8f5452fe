"""Who was compared, in tables of text."""

from __future__ import annotations

import numpy as np

from genomic_vit.cohort.labels import Covariate
from genomic_vit.cohort.manifest import Cohort
from genomic_vit.data.prepare import Prepared

MOST_KINDS = 12  # categories listed; the rest are summed up
MOST_LISTED = 20  # unusable cases, and kinds of notes, listed in the flow


def describe_cohort(prepared: Prepared) -> list[list[str]]:
    """Rows of (what, all, positive, negative) of the first target: counts, lesions, sampling, declared covariates."""
    cohort, slabs = prepared.cohort, prepared.slabs
    label = cohort.labels[:, 0]
    groups = [np.ones(len(label), dtype=bool), label == 1, label == 0]
    numbers = {
        "lesion diameter, mm": np.array([slab.diameter_mm for slab in slabs]),
        "slices of a slab": np.array([len(slab.hu) for slab in slabs], dtype=float),
        "slice distance, mm": np.array([slab.geometry.spacing_mm[0] for slab in slabs]),
        "pixel of a slab, mm": np.array([slab.geometry.spacing_mm[1] for slab in slabs]),
    }
    rows = [["cases", *(str(int(group.sum())) for group in groups)]]
    rows.append(["patients", *(str(len(set(cohort.patients[group].tolist()))) for group in groups)])
    rows += [[name, *(_quartiles(values[group]) for group in groups)] for name, values in numbers.items()]
    for covariate in cohort.covariates:
        if covariate.kind == "number":
            rows.append([covariate.name, *(_quartiles(covariate.values[group].astype(float)) for group in groups)])
        else:
            rows += _shares(covariate, groups)
    return rows


def describe_flow(prepared: Prepared, unlabelled: int) -> list[tuple[str, int, str]]:
    """Rows of (what, cases, reason or example): from the manifest to what is compared, and what was noted in reading.

    Args:
        prepared: the cohort.
        unlabelled: cases of the manifest without any label.
    """
    cohort, excluded = prepared.cohort, prepared.excluded
    used = round(sum(1 / getattr(slab, "siblings", 1) for slab in prepared.slabs))
    rows = [("rows of the manifest", used + len(excluded) + unlabelled, "")]
    if unlabelled:
        rows.append(("without any label", unlabelled, "left out"))
    rows += [("not usable", 1, f"{case}: {reason}") for case, reason in excluded[:MOST_LISTED]]
    if len(excluded) > MOST_LISTED:
        rows.append(("not usable, more", len(excluded) - MOST_LISTED, "excluded.csv names them all"))
    rows.append(("compared", len(cohort.cases), f"of {len(set(cohort.patients.tolist()))} patients"))
    notes = prepared.notes_alike()
    rows += [("of these, noted", cases, f"such as {first}: {note}") for cases, first, note in notes[:MOST_LISTED]]
    if len(notes) > MOST_LISTED:
        rows.append(("kinds of notes, more", len(notes) - MOST_LISTED, "notes.csv has them all"))
    return rows


def cohort_note(cohort: Cohort) -> str:
    """Whom the columns of `describe_cohort` count: the first target's, cases without its label, patients of both."""
    target, label = cohort.targets[0], cohort.labels[:, 0]
    told = [f"Positive and negative are of {target}, the first target."] if len(cohort.targets) > 1 else []
    unknown = int(np.isnan(label).sum())
    if unknown:
        told.append(f"Cases without a label of {target}, in neither column: {unknown}.")
    both = len(set(cohort.patients[label == 1].tolist()) & set(cohort.patients[label == 0].tolist()))
    if both:
        told.append(f"Patients with both positive and negative cases, counted in both columns: {both}.")
    return " ".join(told)


def describe_folds(cohort: Cohort, folds: np.ndarray, names: tuple[str, ...]) -> list[list[str]]:
    """Rows of (held out, patients, cases, and for each target its cases: positive / negative / missing)."""
    rows = []
    for fold, name in enumerate(names):
        here = folds == fold
        row = [name, str(len(set(cohort.patients[here].tolist()))), str(int(here.sum()))]
        for label in cohort.labels[here].T:
            row.append(" / ".join(str(int(some.sum())) for some in (label == 1, label == 0, np.isnan(label))))
        rows.append(row)
    return rows


def _quartiles(values: np.ndarray) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return "–"
    low, middle, high = np.percentile(known, [25, 50, 75])
    missing = f" [{len(values) - len(known)}]" if len(known) < len(values) else ""
    return f"{middle:.4g} ({low:.4g}–{high:.4g}){missing}"


def _shares(covariate: Covariate, groups: list[np.ndarray]) -> list[list[str]]:
    known = covariate.values[~covariate.missing]
    kinds, counts = np.unique(known.astype(str), return_counts=True)
    listed = kinds[np.argsort(-counts, kind="stable")][:MOST_KINDS]
    rows = [
        [f"{covariate.name}: {kind}", *(_share(covariate, group, covariate.values == kind) for group in groups)]
        for kind in listed
    ]
    if len(kinds) > MOST_KINDS:
        other = ~np.isin(covariate.values.astype(str), listed) & ~covariate.missing
        rows.append(
            [f"{covariate.name}: {len(kinds) - MOST_KINDS} others", *(_share(covariate, g, other) for g in groups)]
        )
    if covariate.missing.any():
        rows.append([f"{covariate.name}: missing", *(str(int((covariate.missing & group).sum())) for group in groups)])
    return rows


def _share(covariate: Covariate, group: np.ndarray, member: np.ndarray) -> str:
    known, count = int((group & ~covariate.missing).sum()), int((group & member).sum())
    return f"{count} ({100 * count / known:.0f} %)" if known else "–"
