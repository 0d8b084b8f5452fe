"""Both classes in every part of every fold, counted as arms are compared, or a refusal that says what to change."""

import dataclasses

import numpy as np
import pytest

from genomic_vit.evaluation.held_out import FoldError, check_parts, plan_folds
from genomic_vit.evaluation.plan import BenchmarkConfig
from tests.benchmark_cohort import bright_cohort, small_run

CONFIG = BenchmarkConfig(run=small_run(), arms=("size",), reference="size", folds=2)


def both_in_each_patient(patients=16, negative=0):
    """Two lesions a patient, one positive and one not; the last `negative` patients have no positive one."""
    cohort = bright_cohort(patients, lesions=2).cohort
    labels = np.tile([[1.0], [0.0]], (patients, 1))
    labels[2 * (patients - negative) :] = 0
    return dataclasses.replace(cohort, labels=labels)


def checked(config, cohort):
    folds, names = plan_folds(config, cohort)
    check_parts(config, cohort, folds, names)


COUNTED = "positive where any of their cases is; at least"


def test_patients_who_are_all_positive_in_some_lesion_can_be_compared_by_case_alone():
    with pytest.raises(
        FoldError,
        match=rf"target 'mutant', in all: 16 positive and 0 negative patients, {COUNTED} 2 of each are needed\. "
        r"Choose another target, or add patients; or compare by case \(--unit case\)\.$",
    ):
        checked(CONFIG, both_in_each_patient())
    checked(dataclasses.replace(CONFIG, unit="case"), both_in_each_patient())


def test_a_part_whose_patients_are_all_positive_is_refused_though_its_cases_are_not():
    """Two negative patients cannot be in three folds."""
    cohort = both_in_each_patient(patients=18, negative=2)
    with pytest.raises(
        FoldError,
        match=rf"'mutant', fold \d held out, seed 0: the test part has 6 positive and 0 negative patients, {COUNTED} 1 "
        r"of each are needed\. Take fewer folds \(--folds\), another seed of the folds \(--run\.seed\), or add "
        r"patients; or compare by case \(--unit case\)\.$",
    ):
        checked(dataclasses.replace(CONFIG, folds=3), cohort)
    checked(dataclasses.replace(CONFIG, folds=3, unit="case"), cohort)


def test_the_cases_to_choose_by_need_negative_patients_too():
    """Labels that are missing here and there spread the few negative patients otherwise."""
    cohort = both_in_each_patient(patients=18, negative=2)
    labels = np.where(np.random.default_rng(0).random((36, 1)) < 0.25, np.nan, cohort.labels)
    cohort = dataclasses.replace(cohort, labels=labels)
    with pytest.raises(
        FoldError,
        match=rf"the validation part has \d positive and 0 negative patients, {COUNTED} 1 of each are needed\. "
        r"Take other seeds of the inner split \(--seeds\), a larger share for it \(--run\.split\.validation, now 0\.3\)"
        r", or add patients; or compare by case \(--unit case\)\.$",
    ):
        checked(CONFIG, cohort)


def test_too_few_patients_are_told_in_options_of_the_benchmark():
    cohort = bright_cohort(4).cohort
    with pytest.raises(FoldError, match=r"^4 patients cannot make 5 folds; use --folds 4 or fewer, or add patients\.$"):
        checked(dataclasses.replace(CONFIG, folds=5), cohort)
    with pytest.raises(
        FoldError,
        match=r"^fold 0 held out, seed 0: 2 patients are left to learn from and to choose by, too few for 3 parts\. "
        r"Take other seeds of the inner split \(--seeds\), a larger share for it \(--run\.split\.validation, now "
        r"0\.3\), or add patients\.$",
    ):
        checked(CONFIG, cohort)
