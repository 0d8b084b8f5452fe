"""Features by hand arithmetic; baselines that learn only from what they may see; covariates that cannot be used."""

import dataclasses
import logging

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from genomic_vit.cohort.folds import assign_folds
from genomic_vit.cohort.manifest import ManifestError
from genomic_vit.data.slab import Slab
from genomic_vit.evaluation.baselines import fit_and_score
from genomic_vit.evaluation.covariates import check_covariates
from genomic_vit.evaluation.features import covariate_table, radiomics, size
from genomic_vit.imaging.geometry import Geometry
from tests.benchmark_cohort import bright_cohort, category, number


def box_slab():
    """A box of 3 × 4 × 6 voxels of 2 × 1 × 0.5 mm, half 0 and half 100 HU, in −500 HU."""
    hu = np.full((9, 16, 16), -500, dtype=np.float32)
    lesion = np.zeros(hu.shape, dtype=bool)
    lesion[3:6, 6:10, 5:11] = True
    hu[3:6, 6:10, 5:8], hu[3:6, 6:10, 8:11] = 0, 100
    return Slab(hu, lesion, Geometry(hu.shape, np.array([2.0, 1.0, 0.5]), np.zeros(3), np.eye(3)), 5.0)


def test_features_of_a_box_by_hand():
    told = radiomics([box_slab()]).iloc[0]
    assert told["volume_mm3"] == pytest.approx(3 * 4 * 6 * 2 * 1 * 0.5)
    assert told["hu_mean"] == pytest.approx(50) and told["hu_maximum"] == 100 and told["hu_minimum"] == 0
    assert told["hu_sd"] == pytest.approx(50 * np.sqrt(72 / 71))
    assert told["rim_hu_mean"] == -500 and told["rim_hu_sd"] == 0
    assert told["diameter_mm"] == 5 and size([box_slab()]).iloc[0]["diameter_mm"] == 5
    moved = dataclasses.replace(box_slab(), hu=box_slab().hu + 10)
    assert radiomics([moved]).iloc[0]["hu_mean"] == pytest.approx(60)


def test_held_out_values_change_nothing_that_was_learnt():
    """Scales, fillings and categories come from the training part: other test cases leave a test case's score alone."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"x": generator.normal(size=40), "kind": generator.choice(["a", "b"], 40)})
    table.loc[3, "x"], table.loc[5, "kind"] = np.nan, None
    label = (table["x"].fillna(0) + generator.normal(size=40) > 0).to_numpy(dtype=float)
    label[7] = np.nan
    learning, testing, patients = np.arange(30), np.arange(30, 40), np.arange(40) // 2
    inner, tested = fit_and_score("logistic", table, label, patients, learning, testing, 0)
    assert np.isnan(inner[7]) and np.isfinite(np.delete(inner, 7)).all()
    other = table.copy()
    other.loc[31:, "x"], other.loc[31:, "kind"] = 1e6, "never seen"
    again_inner, again = fit_and_score("logistic", other, label, patients, learning, testing, 0)
    assert again[0] == tested[0]
    np.testing.assert_array_equal(inner, again_inner)


def test_scores_to_choose_by_come_from_models_that_did_not_see_the_patient():
    """Noise that a forest learns by heart tells nothing of patients left out."""
    generator = np.random.default_rng(1)
    table = pd.DataFrame({"x": generator.normal(size=200)})
    label = generator.integers(0, 2, 200).astype(float)
    table["twin"] = table["x"]
    patients = np.arange(200)
    inner, seen = fit_and_score("forest", table, label, patients, np.arange(200), np.arange(200), 0)
    apart = [score[label == 1].mean() - score[label == 0].mean() for score in (inner, seen)]
    assert apart[0] < 0.1 < 0.2 < apart[1]


def test_covariates_become_columns_with_missing_values_kept():
    table = covariate_table([number("age", [1, np.nan]), category("sex", ["F", ""])])
    assert table["age"].isna().tolist() == [False, True] and table["sex"].isna().tolist() == [False, True]


def test_a_constant_covariate_is_refused():
    cohort = bright_cohort(12).cohort
    with pytest.raises(ManifestError, match="covariate 'kernel' is B30f in every case: it can tell nothing"):
        check_covariates(cohort, [category("kernel", ["B30f"] * 12)], np.arange(12) % 3, 0)
    with pytest.raises(ManifestError, match="covariate 'age' is missing in every case"):
        check_covariates(cohort, [number("age", [np.nan] * 12)], np.arange(12) % 3, 0)
    with pytest.raises(
        ManifestError,
        match=r"covariate 'smoker' is yes wherever it is known and missing in 5 cases: it tells no more than whether "
        r"it was recorded\. If an empty cell means another value, write that\. Remove it from clinical and acquisition"
        r", or give it another column\.$",
    ):
        check_covariates(cohort, [category("smoker", ["yes"] * 7 + [""] * 5)], np.arange(12) % 3, 0)


def test_the_target_under_another_name_is_warned_of_and_names_of_patients_are_not(caplog):
    cohort = bright_cohort(40).cohort
    folds, label = assign_folds(cohort, 4, 0), cohort.labels[:, 0]
    given = [
        number("stage", 3 - label),
        category("therapy", np.where(label == 1, "drug", "none").tolist()),
        category("name", [case.patient for case in cohort.cases]),
        number("age", np.random.default_rng(0).normal(60, 9, 40)),
    ]
    with caplog.at_level(logging.WARNING):
        warnings = check_covariates(cohort, given, folds, 0)
    assert [line.split("'")[1] for line in warnings] == ["stage", "therapy"]
    assert "'stage' alone tells 'mutant' with AUC 1.000" in caplog.text


def test_a_covariate_recorded_in_positives_alone_is_warned_of_as_the_arm_sees_it():
    """The subtype of a mutation is blank in wild types: of two values, blank among them, each tells the target."""
    cohort = bright_cohort(40).cohort
    folds, label, subtype = assign_folds(cohort, 4, 0), cohort.labels[:, 0], np.resize(["L858R"] * 3 + ["del19"], 40)
    blank = np.where(label == 1, subtype, "").tolist()
    some = np.where((label == 1) & (np.arange(40) % 5 > 0), subtype, "").tolist()  # and in a fifth of the mutants
    count = np.where(label == 1, np.arange(40.0), np.nan)  # where missing, arms are given the median of these
    given = [category("subtype", blank), category("some", some), number("count", count)]
    (warning,) = check_covariates(cohort, given, folds, 0)
    assert warning == (
        "covariate 'subtype', missing in 20 cases and given to the arms as a value, alone tells 'mutant' with AUC 1.000"
        ", out of fold: it may be the target under another name, or known only after it. Leave it out unless it is "
        "known before."
    )
    columns = covariate_table(given[:1]), label, cohort.patients
    for fold in range(4):  # what the warning says of the arm is what the arm does
        testing = np.flatnonzero(folds == fold)
        _, tested = fit_and_score("logistic", *columns, np.flatnonzero(folds != fold), testing, 0)
        assert roc_auc_score(label[testing], tested) == 1


def test_one_number_as_it_is_keeps_its_order_where_a_fitted_slope_turns_it():
    """Classes matched by x: held out, logistic regression tells them the wrong way round; x itself tells nothing."""
    x = np.repeat(np.arange(20.0), 2)
    table, label, patients = pd.DataFrame({"x": x}), np.tile([0.0, 1.0], 20), np.arange(40)
    generator = np.random.default_rng(0)
    matched = np.arange(40)
    generator.shuffle(matched)
    found = {"logistic": np.empty(40), "plain": np.empty(40)}
    for testing in np.array_split(matched, 5):
        learning = np.setdiff1d(matched, testing)
        for estimator, scores in found.items():
            inner, scores[testing] = fit_and_score(estimator, table, label, patients, learning, testing, 0)
            assert ((inner > 0) & (inner < 1)).all()
            assert estimator == "logistic" or (np.diff(scores[np.sort(testing)]) >= 0).all()
    assert roc_auc_score(label, found["logistic"]) < 0.4 < roc_auc_score(label, found["plain"]) < 0.6


def test_a_missing_number_stands_in_the_middle():
    table = pd.DataFrame({"x": [1.0, 2.0, 3.0, np.nan, 9.0]})
    _, tested = fit_and_score(
        "plain", table, np.array([0.0, 1, 0, 1, 1]), np.arange(5), np.arange(3), np.arange(3, 5), 0
    )
    assert tested[0] == 0.5 and tested[1] == pytest.approx(1 / (1 + np.exp(-7 / np.std([1, 2, 3]))))
