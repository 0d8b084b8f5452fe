"""No patient on two sides."""

from pathlib import Path

import numpy as np
import pytest

from genomic_vit.cohort.folds import assign_folds, split_cohort
from genomic_vit.cohort.manifest import Case, Cohort, ManifestError
from genomic_vit.config import SplitConfig


def cohort(seed, patients=60, targets=1):
    generator = np.random.default_rng(seed)
    cases = []
    for patient in range(patients):
        for lesion in range(generator.integers(1, 4)):
            cases.append(Case(f"{patient}-{lesion}", f"P{patient}", Path("s"), Path("l")))
    labels = (generator.random((len(cases), targets)) < 0.4).astype(float)
    labels[generator.random(labels.shape) < 0.1] = np.nan
    return Cohort(tuple(cases), tuple(f"t{i}" for i in range(targets)), labels)


@pytest.mark.parametrize("seed", range(12))
def test_no_patient_is_on_two_sides(seed):
    who = cohort(seed, targets=1 + seed % 3)
    split = split_cohort(who, SplitConfig(fold=seed % 5), seed)
    parts = [set(who.patients[getattr(split, part)]) for part in ("train", "validation", "test")]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    everyone = np.concatenate([split.train, split.validation, split.test])
    assert sorted(everyone) == list(range(len(who.cases)))


def test_every_patient_is_in_one_fold_and_classes_are_spread():
    who = cohort(3, patients=200)
    folds = assign_folds(who, 5, seed=0)
    assert all(len(set(folds[who.patients == patient])) == 1 for patient in set(who.patients))
    share = [np.nanmean(who.labels[folds == fold]) for fold in range(5)]
    assert max(share) - min(share) < 0.08
    assert np.array_equal(folds, assign_folds(who, 5, seed=0))
    assert not np.array_equal(folds, assign_folds(who, 5, seed=1))


def test_fewer_patients_than_folds_is_refused():
    with pytest.raises(
        ManifestError, match=r"^3 patients cannot make 5 folds; use --split.folds 3 or fewer, or add patients\.$"
    ):
        assign_folds(cohort(0, patients=3), 5, seed=0)


def test_a_part_with_one_class_only_is_refused():
    who = cohort(0)
    labels = np.zeros_like(who.labels)
    labels[0] = 1
    with pytest.raises(
        ManifestError,
        match=r"^target 't0': the validation part has 0 positive and 19 negative cases, both are needed \(fold 0 held "
        r"out\)\. Use fewer folds \(--split.folds\), another --seed, or add cases\.$",
    ):
        split_cohort(Cohort(who.cases, who.targets, labels), SplitConfig(), 0)


def test_too_few_patients_beside_the_test_are_no_matter_of_folds():
    with pytest.raises(
        ManifestError,
        match=r"^2 patients are left to learn from and to choose by, too few for 5 parts \(split.validation 0.2\)\. "
        r"Use a larger --split.validation, below 0.5, or add patients\.$",
    ):
        split_cohort(cohort(0, patients=4), SplitConfig(folds=2), 0)


def test_rare_kinds_of_label_make_no_noise(recwarn):
    labels = np.array([[1, 1]] * 20 + [[0, 1]] * 20 + [[1, 0]] * 2 + [[np.nan, 0]])
    cases = tuple(Case(str(index), str(index), Path("s"), Path("l")) for index in range(len(labels)))
    folds = assign_folds(Cohort(cases, ("a", "b"), labels), 5, seed=0)
    assert sorted(np.bincount(folds)) == [8, 8, 9, 9, 9]
    assert not recwarn.list
