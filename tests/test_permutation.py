"""Permutation p against every relabelling written out, and by simulation where nothing is to be found."""

from itertools import permutations, product

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from genomic_vit.evaluation.permutation import permutation_p
from genomic_vit.evaluation.rows import Rows


def rows_of(label, score, patients, fold=None):
    """Rows with one arm; ranked within folds where these are given."""
    label, score = np.asarray(label, dtype=float), np.asarray(score, dtype=float)
    folds = np.zeros(len(label), dtype=int) if fold is None else np.asarray(fold)
    return Rows(label, np.asarray(patients), {"joint": score}, {}, {}, folds, len(label), within_folds=fold is not None)


def won(label, score, fold):
    """Pairs of one fold that are in order."""
    return sum(
        (score[i] > score[j]) + (score[i] == score[j]) / 2
        for i in np.flatnonzero(label == 1)
        for j in np.flatnonzero(label == 0)
        if fold[i] == fold[j]
    )


def relabellings(rows):
    """Each patient's labels at another of the fold with as many rows, in any order there: all of them, one by one."""
    names = list(dict.fromkeys(rows.patients.tolist()))
    places = [np.flatnonzero(rows.patients == name) for name in names]
    kind = [(rows.fold[at[0]], len(at)) for at in places]
    for donors in permutations(range(len(names))):
        if all(kind[a] == kind[b] for a, b in enumerate(donors)):
            for orders in product(*(permutations(rows.label[places[b]]) for b in donors)):
                label = np.zeros(len(rows.label))
                for at, given in zip(places, orders, strict=True):
                    label[at] = given
                yield label


@pytest.mark.parametrize(
    ("patients", "label", "fold"),
    [
        ("aabbcddeef", [1, 0, 1, 1, 0, 0, 0, 1, 0, 1], None),  # several rows, some patients of both classes
        ("aabbcddeef", [1, 0, 1, 1, 0, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]),
        ("abcdef", [1, 1, 0, 1, 0, 0], None),
        ("abcdefgh", [1, 1, 0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]),
    ],
)
def test_it_is_the_share_of_all_relabellings_that_do_as_well(patients, label, fold):
    score = np.random.default_rng(1).integers(0, 6, len(label)) + np.array(label)
    rows = rows_of(label, score, list(patients), fold)
    reached = won(rows.label, score, rows.fold)
    slow = np.mean([won(other, score, rows.fold) >= reached for other in relabellings(rows)])
    assert 0.01 < slow < 0.9
    assert permutation_p(rows, "joint", 0, permutations=20_000) == pytest.approx(slow, abs=0.015)


def test_one_positive_and_one_negative_lesion_a_patient_told_apart_is_no_chance():
    label = np.tile([1.0, 0.0], 20)
    rows = rows_of(label, label + np.random.default_rng(0).random(40), np.repeat(np.arange(20), 2))
    assert roc_auc_score(label, rows.probability["joint"]) == 1
    assert permutation_p(rows, "joint", 0) == pytest.approx(1 / 2001)


def test_where_nothing_is_to_be_found_small_p_are_as_rare_as_they_say():
    """Lesions of a patient share half of their score and, often, their label."""
    generator, small = np.random.default_rng(2), []
    patients = np.repeat(np.arange(40), np.tile([1, 2, 3, 4], 10))
    for _ in range(400):
        label = (generator.normal(size=40)[patients] + 0.5 * generator.normal(size=100) > 0).astype(float)
        score = generator.normal(size=40)[patients] + generator.normal(size=100)
        small.append(permutation_p(rows_of(label, score, patients), "joint", 0, permutations=200) <= 0.05)
    assert 0.02 <= np.mean(small) <= 0.08


def test_labels_that_cannot_be_dealt_otherwise_have_no_p():
    rows = rows_of([1, 1, 0], [0.9, 0.8, 0.1], ["a", "a", "b"])  # patients of two rows and of one
    assert np.isnan(permutation_p(rows, "joint", 0))
    in_folds = rows_of([1, 1, 0, 0], [0.9, 0.8, 0.1, 0.2], list("abcd"), [0, 0, 1, 1])
    assert np.isnan(permutation_p(in_folds, "joint", 0))
