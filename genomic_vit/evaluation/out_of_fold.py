"""From the scores of parts to one calibrated probability a case that no model trained on, in every arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from genomic_vit.cohort.manifest import Cohort
from genomic_vit.evaluation.arms import ARMS, trained_for
from genomic_vit.evaluation.calibration import OperatingPoint, choose_operating_point
from genomic_vit.evaluation.metrics import by_patient

INNER, OUTER = "inner", "test"  # scores to choose by, scores to report


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What one arm says of every case, from models that did not see its patient.

    Args:
        arm: name.
        probability: calibrated on the inner parts, (seed case t).
        threshold: chosen there too, (seed case t).
    """

    arm: str
    probability: np.ndarray
    threshold: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """The arm's answer: the mean over seeds, (case t)."""
        return self.probability.mean(axis=0)

    @property
    def mean_threshold(self) -> np.ndarray:
        """From where it is called positive, (case t)."""
        return self.threshold.mean(axis=0)


def collect(
    arm: str, parts: Mapping[tuple[int, int], pd.DataFrame], cohort: Cohort, seeds: Sequence[int], unit: str
) -> OutOfFold | None:
    """Calibrate an arm's scores fold by fold and put them together; None where a case has none.

    A swapped arm is calibrated as the network it swaps heat in: only what the CNN is given differs.

    Args:
        arm: name.
        parts: (seed, fold) → scores.csv of the arm that was trained: columns arm, part, case and one a target.
        cohort: who.
        seeds: of the benchmark.
        unit: patient or case, what the operating point is chosen on.
    """
    place = {case.case: index for index, case in enumerate(cohort.cases)}
    shape = (len(seeds), len(cohort.cases), len(cohort.targets))
    probability, threshold = np.full(shape, np.nan), np.full(shape, np.nan)
    for (seed, _fold), scores in parts.items():
        inner = scores[(scores["part"] == INNER) & (scores["arm"] == trained_for(ARMS[arm]))]
        tested = scores[(scores["part"] == OUTER) & (scores["arm"] == arm)]
        rows = tested["case"].map(place).to_numpy()
        for column, target in enumerate(cohort.targets):
            point = _operating_point(inner, target, column, place, cohort, unit)
            at = (list(seeds).index(seed), rows, column)
            probability[at] = point.calibrate(tested[target].to_numpy(dtype=float))
            threshold[at] = point.threshold
    return None if np.isnan(probability).any() else OutOfFold(arm, probability, threshold)


def _operating_point(
    inner: pd.DataFrame, target: str, column: int, place: dict[str, int], cohort: Cohort, unit: str
) -> OperatingPoint:
    rows, score = inner["case"].map(place).to_numpy(), inner[target].to_numpy(dtype=float)
    label = cohort.labels[rows, column]
    known = ~np.isnan(label) & ~np.isnan(score)
    score, label = score[known], label[known]
    if unit == "patient":
        score, label, _ = by_patient(score, label, cohort.patients[rows][known])
    return choose_operating_point(score, label)
