"""split.csv, and what it says when a run is to go on with another cohort."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from genomic_vit import write_volume
from genomic_vit.cohort.folds import Split
from genomic_vit.config import SlabConfig
from genomic_vit.data.case import Reading
from genomic_vit.data.prepare import Prepared, prepare
from genomic_vit.training.split_file import CohortError, check_split, met_before, write_split
from tests.scans import chest
from tests.test_prepare import GEOMETRY, cohort_of

SPLIT = Split(np.array([0, 1, 2, 0, 1, 2]), np.array([0, 3, 1]), np.array([4]), np.array([2, 5]))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return prepare(cohort_of(folder, 6), Reading(SlabConfig(tile_px=16)), cache=folder / "cache", jobs=1)


@pytest.fixture
def file(prepared, tmp_path):
    write_split(tmp_path / "split.csv", prepared, SPLIT)
    return tmp_path / "split.csv"


def with_case(prepared, number, **fields):
    cases = list(prepared.cohort.cases)
    cases[number] = replace(cases[number], **fields)
    return replace(prepared, cohort=replace(prepared.cohort, cases=tuple(cases)))


def with_label(prepared, number, value):
    labels = prepared.cohort.labels.copy()
    labels[number] = value
    return replace(prepared, cohort=replace(prepared.cohort, labels=labels))


def with_pixel(prepared, number, folder):
    """The same case, one voxel of its scan another: cut anew, as the cache would."""
    case, scan = prepared.cohort.cases[number], chest(GEOMETRY)
    scan.array[0, 0, 0] = -1000 + number  # as it was
    scan.array[7, 30, 30] += 1
    moved = replace(case, scan=write_volume(scan, folder / "changed.nii.gz"))
    cohort = replace(prepared.cohort.take(np.array([number])), cases=(moved,))
    slab = prepare(cohort, Reading(SlabConfig(tile_px=16)), cache=folder / "cache", jobs=1).slabs[0]
    slabs = list(prepared.slabs)
    slabs[number] = slab
    return replace(prepared, slabs=slabs)


def taken(prepared, index):
    return Prepared(prepared.cohort.take(np.array(index)), [prepared.slabs[i] for i in index], ())


def short(parts):
    return replace(
        SPLIT, folds=SPLIT.folds[parts], train=np.array([0, 3, 1]), validation=np.array([4]), test=np.array([2])
    )


CHANGES = {
    "nothing": (lambda p, f: (p, SPLIT), None),
    "a case gone": (lambda p, f: (taken(p, range(5)), short(range(5))), r"1 case \(C5\) gone\."),
    "a case renamed": (lambda p, f: (with_case(p, 1, case="new"), SPLIT), r"1 case \(new\) new; 1 case \(C1\) gone\."),
    "another patient": (lambda p, f: (with_case(p, 4, patient="Q"), SPLIT), r"1 case \(C4\) of another patient\."),
    "another label": (lambda p, f: (with_label(p, 2, 1), SPLIT), r"1 case \(C2\) with another label mutant\."),
    "a label gone": (lambda p, f: (with_label(p, 3, np.nan), SPLIT), r"1 case \(C3\) with another label mutant\."),
    "many labels": (
        lambda p, f: (with_label(p, slice(0, 6), 0), SPLIT),
        r"3 cases \(C1, C3, C5\) with another label mutant\.",
    ),
    "another split": (
        lambda p, f: (p, replace(SPLIT, train=np.array([0, 3, 4]), validation=np.array([1]))),
        r"2 cases \(C1, C4\) in another part of the split\.",
    ),
    "other folds": (
        lambda p, f: (p, replace(SPLIT, folds=np.zeros(6, int))),
        r"4 cases \(C1, C2, C4 …\) in another fold",
    ),
    "other voxels": (lambda p, f: (with_pixel(p, 3, f), SPLIT), r"1 case \(C3\) with other voxels, lesion or reading"),
    "another order": (
        lambda p, f: (
            taken(p, [0, 1, 2, 3, 5, 4]),
            Split(SPLIT.folds[[0, 1, 2, 3, 5, 4]], np.array([0, 3, 1]), np.array([5]), np.array([2, 4])),
        ),
        r"2 cases \(C4, C5\) in another place of the manifest\.",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_goes_on_with_its_own_cohort_only(change, prepared, file, tmp_path):
    changed, wrong = CHANGES[change]
    if wrong is None:
        check_split(file, *changed(prepared, tmp_path))
        return
    with pytest.raises(CohortError, match=f"cannot resume with another cohort: {wrong}") as told:
        check_split(file, *changed(prepared, tmp_path))
    assert str(told.value).endswith("Put the data back as they were, or start another run with another --out.")


def test_a_split_of_an_older_version_is_compared_as_far_as_it_goes(prepared, file, tmp_path):
    rows = [line.split(",")[:4] for line in file.read_text().splitlines()]
    file.write_text("\n".join(",".join(row) for row in rows) + "\n")
    check_split(file, with_label(prepared, 2, 1), SPLIT)
    with pytest.raises(CohortError, match="another patient"):
        check_split(file, with_case(prepared, 0, patient="Q"), SPLIT)


def test_cases_met_before_are_told_by_voxels_and_patients_by_name(prepared, tmp_path):
    began, file = ["train", "train", "test", "train", "validation", "test"], tmp_path / "split.csv"
    people = [case.patient for case in prepared.cohort.cases]
    whole = replace(prepared, slabs=[SimpleNamespace(checksum=f"sum {i}") for i in range(6)])
    write_split(file, whole, SPLIT)
    order = [5, 0, 4, 2]
    assert met_before(file, taken(whole, order)) == ([began[i] for i in order], sorted([people[0], people[4]]))
    assert met_before(file, taken(whole, [2, 5])) == (["test", "test"], [])
    renamed = with_case(taken(whole, [0]), 0, case="other", patient="somebody")
    assert met_before(file, renamed) == (["train"], [])
    others = replace(taken(whole, [1]), slabs=[SimpleNamespace(checksum="another")])
    assert met_before(file, others) == (["external"], [people[1]])
    rows = [line.rsplit(",", 1)[0] for line in file.read_text().splitlines()]
    file.write_text("\n".join(rows) + "\n")  # as older runs have it
    assert met_before(file, taken(whole, [0])) == (["external"], [people[0]])
