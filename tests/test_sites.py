"""Sites held out whole, and the parts of one fold."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from genomic_vit.cohort.folds import hold_out
from genomic_vit.cohort.labels import Covariate
from genomic_vit.cohort.manifest import Case, Cohort, ManifestError
from genomic_vit.cohort.sites import assign_sites


def at_sites(sites, patients=None):
    """A cohort of one case a patient, half positive, with a covariate `site`."""
    names = patients or [f"P{i}" for i in range(len(sites))]
    cases = tuple(Case(f"c{i}", name, Path("s"), Path("l")) for i, name in enumerate(names))
    labels = (np.arange(len(sites)) % 2.0)[:, None]
    site = Covariate("site", "category", np.array(sites), np.array(sites, dtype=object))
    return Cohort(cases, ("x",), labels, (site,))


def test_a_site_is_held_out_whole():
    folds, names = assign_sites(at_sites(["B", "A", "B", "A", "C", "C"]), "site")
    assert names == ("A", "B", "C") and folds.tolist() == [1, 0, 1, 0, 2, 2]


@pytest.mark.parametrize(
    ("sites", "patients", "message"),
    [
        (["A", "A", "A"], None, "names one site only"),
        (["A", "A", "", "B"], None, "1 cases have no 'site'"),
        (["A", "A", "B", "B"], ["P", "Q", "P", "R"], r"1 patients have cases at several sites of 'site' \('P'\)"),
        (["A", "A", "B"], None, "site 'B' of 'site' has one patient"),
    ],
)
def test_a_site_that_cannot_be_held_out_is_named(sites, patients, message):
    with pytest.raises(ManifestError, match=message):
        assign_sites(at_sites(sites, patients), "site")


def test_numbers_are_no_sites():
    """Missing ones would be the site nan."""
    values = np.array([1, 1, 2, np.nan])
    cohort = at_sites(["A", "A", "B", "B"])
    hospital = Covariate("hospital", "number", values.astype(object), values)
    with pytest.raises(
        ManifestError,
        match=r"^'hospital' is a covariate of kind number, and sites have names; declare its kind as category "
        r"\(labels.covariates: \{hospital: \{column: …, kind: category\}\}\), or hold another column out\.$",
    ):
        assign_sites(dataclasses.replace(cohort, covariates=(hospital,)), "hospital")


def test_parts_of_a_fold_share_no_patient_and_hold_both_classes():
    cohort = at_sites(["A"] * 24 + ["B"] * 16)
    folds, _ = assign_sites(cohort, "site")
    split = hold_out(cohort, folds, 1, 0.25, 0)
    parts = [set(cohort.patients[part]) for part in (split.train, split.validation, split.test)]
    assert [len(part) for part in parts] == [18, 6, 16] and len(set.union(*parts)) == 40
    assert all(set(cohort.labels[part, 0]) == {0, 1} for part in (split.train, split.validation, split.test))


def test_a_site_with_one_class_cannot_be_the_test():
    cohort = at_sites(["A", "B"] * 12)  # A is where all negatives are
    folds, _ = assign_sites(cohort, "site")
    with pytest.raises(ManifestError, match=r"the train part has 9 positive and 0 negative cases.*\(fold 0 held out\)"):
        hold_out(cohort, folds, 0, 0.25, 0)
