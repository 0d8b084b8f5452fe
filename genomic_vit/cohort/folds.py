"""Which patients train and which are held out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from genomic_vit.cohort.manifest import Cohort, ManifestError
from genomic_vit.config import SplitConfig


class SplitError(ManifestError):
    """Patients cannot be split as asked; str() is the whole message, with the options of train.

    Args:
        found: what is wrong.
        repair: the rest of the message, for one who splits by SplitConfig.
        part: of the split that lacks something, "" where there is no split yet.
    """

    def __init__(self, found: str, repair: str, part: str = "") -> None:
        super().__init__(found, repair, part)
        self.found, self.part = found, part

    def __str__(self) -> str:
        return self.found + self.args[1]


@dataclass(frozen=True, eq=False)
class Split:
    """Parts of a cohort; no patient is in two of them.

    Args:
        folds: fold of each case, (case).
        train, validation, test: indices of cases.
    """

    folds: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def assign_folds(cohort: Cohort, folds: int, seed: int) -> np.ndarray:
    """Fold of each case, (case) of 0 … folds − 1: whole patients, labels spread as evenly as patients allow.

    Raises:
        SplitError: fewer patients than folds.
    """
    patients = cohort.patients
    if len(set(patients)) < folds:
        raise SplitError(
            f"{len(set(patients))} patients cannot make {folds} folds",
            f"; use --split.folds {max(2, len(set(patients)))} or fewer, or add patients.",
        )
    kinds = ["/".join("?" if np.isnan(value) else str(int(value)) for value in row) for row in cohort.labels]
    common = Counter(kinds)
    most = common.most_common(1)[0][0]
    rare = sum(count for count in common.values() if count < folds)
    # What is too rare to be in every fold is spread together, or, if even that is too little, with the commonest.
    kinds = [kind if common[kind] >= folds else ("rare" if rare >= folds else most) for kind in kinds]
    assigned = np.zeros(len(patients), dtype=int)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(patients, kinds, groups=patients)):
        assigned[held_out] = fold
    return assigned


def inner_parts(validation: float) -> int:
    """Into how many parts the patients beside the test are split, of which one is to choose by."""
    return max(2, round(1 / validation))


def split_cohort(cohort: Cohort, config: SplitConfig, seed: int) -> Split:
    """Hold one fold out for the test, and a share of the other patients for early stopping.

    Raises:
        SplitError: fewer patients than folds, or a part with one class only for a target.
    """
    return hold_out(cohort, assign_folds(cohort, config.folds, seed), config.fold, config.validation, seed)


def hold_out(cohort: Cohort, folds: np.ndarray, fold: int, validation: float, seed: int) -> Split:
    """One fold as the test part, a share of the other patients for what is chosen, the rest to learn from.

    Args:
        cohort: who.
        folds: fold of each case, (case).
        fold: the one held out.
        validation: share of the other patients.
        seed: of their choice.

    Raises:
        SplitError: too few patients for two parts to learn from and choose by, or a part with one class for a target.
    """
    test, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
    parts = inner_parts(validation)
    left = len(set(cohort.patients[rest]))
    if left < parts:
        raise SplitError(
            f"{left} patients are left to learn from and to choose by, too few for {parts} parts",
            f" (split.validation {validation:g}). Use a larger --split.validation, below 0.5, or add patients.",
            "validation",
        )
    inner = assign_folds(cohort.take(rest), parts, seed)
    split = Split(folds, train=rest[inner != 0], validation=rest[inner == 0], test=test)
    for name in ("train", "validation", "test"):
        part = cohort.take(getattr(split, name))
        for column, target in enumerate(cohort.targets):
            found = Counter(part.labels[~np.isnan(part.labels[:, column]), column].astype(int).tolist())
            if min(found[0], found[1]) == 0:
                raise SplitError(
                    f"target {target!r}: the {name} part has {found[1]} positive and {found[0]} negative cases, "
                    "both are needed",
                    f" (fold {fold} held out). Use fewer folds (--split.folds), another --seed, or add cases.",
                    name,
                )
    return split
