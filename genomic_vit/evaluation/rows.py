"""What a comparison counts, one row a patient or a case, the same for all arms; and what it tells, one a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genomic_vit.cohort.manifest import Cohort
from genomic_vit.evaluation.metrics import by_patient
from genomic_vit.evaluation.out_of_fold import OutOfFold


@dataclass(frozen=True, eq=False)
class Rows:
    """What is compared: one row a patient or a case, the same for all arms.

    Args:
        label: 0 or 1, (row).
        patients: (row).
        probability, decided: arm → (row); decided is 1 where called positive.
        per_seed: arm → (seed row) of probabilities.
        fold: (row).
        cases: how many cases stand behind the rows.
        within_folds: whether rows are ranked within their fold alone, as where sites are held out: each network is
            calibrated to the share of positives of its own training sites, so that ranked together the patients of a
            site rich in positives come last.
    """

    label: np.ndarray
    patients: np.ndarray
    probability: dict[str, np.ndarray]
    decided: dict[str, np.ndarray]
    per_seed: dict[str, np.ndarray]
    fold: np.ndarray
    cases: int
    within_folds: bool = False

    @property
    def strata(self) -> np.ndarray | None:
        """Within which rows are ranked, (row); None ranks all together."""
        return self.fold if self.within_folds else None

    @property
    def ranked(self) -> np.ndarray:
        """Rows that have a pair to be ranked in, bool (row): all, or those of folds with both classes."""
        if not self.within_folds:
            return np.ones(len(self.label), dtype=bool)
        positive, negative = (np.unique(self.fold[self.label == kind]) for kind in (1, 0))
        return np.isin(self.fold, np.intersect1d(positive, negative))


def make_rows(
    cohort: Cohort,
    arms: Sequence[OutOfFold],
    folds: np.ndarray,
    member: np.ndarray,
    column: int,
    unit: str,
    *,
    within_folds: bool = False,
) -> Rows:
    """Rows of the member cases (bool (case), their labels known) for one target; unit patient or case."""
    label, patients = cohort.labels[member, column], cohort.patients[member]

    def unite(values: np.ndarray) -> np.ndarray:
        return by_patient(values, label, patients)[0] if unit == "patient" else values

    probability = {arm.arm: unite(arm.mean[member, column]) for arm in arms}
    threshold = {arm.arm: unite(arm.mean_threshold[member, column]) for arm in arms}
    per_seed = {arm.arm: np.stack([unite(one[member, column]) for one in arm.probability]) for arm in arms}
    fold = unite(folds[member].astype(float)).round().astype(int)
    cases = len(label)
    if unit == "patient" and cases:
        _, label, patients = by_patient(label, label, patients)
    decided = {name: (p >= threshold[name]).astype(float) for name, p in probability.items()}
    return Rows(label, patients, probability, decided, per_seed, fold, cases, within_folds)


def result_row(
    arm: str,
    metric: str,
    value: float,
    low: float,
    high: float,
    *,
    p: float = np.nan,
    p_holm: float = np.nan,
    note: str = "",
) -> dict:
    """One number of a comparison, as a row of results.csv."""
    return {
        "arm": arm, "metric": metric, "value": float(value), "low": float(low), "high": float(high),
        "p": p, "p_holm": p_holm, "note": note,
    }  # fmt: skip
