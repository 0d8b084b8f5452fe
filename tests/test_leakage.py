"""Planted leaks stop a run; what looks alike by nature does not."""

import dataclasses

import numpy as np
import pytest

from genomic_vit.cohort.manifest import Cohort
from genomic_vit.evaluation.leakage import LeakError, check_leaks, near_duplicates
from genomic_vit.evaluation.overlay import middle_stack
from tests.benchmark_cohort import bright_cohort
from tests.cohort_dicom import ct_series, grid, store
from tests.scans import chest

PREPARED = bright_cohort(12)
FOLDS = np.arange(12) % 3


def renamed(index, **changes):
    """The cohort with one case changed."""
    cohort = PREPARED.cohort
    cases = list(cohort.cases)
    cases[index] = dataclasses.replace(cases[index], **changes)
    return Cohort(tuple(cases), cohort.targets, cohort.labels)


def test_a_clean_cohort_passes():
    check_leaks(PREPARED.cohort, PREPARED.slabs, FOLDS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patient": "P0"}, "patient 'P0' is in several folds: c0-0 .* and c4-0"),
        ({"patient": " p0_"}, r"named alike but for case and punctuation \('p0'\): c0-0 \(patient 'P0'\) and c4-0"),
        ({"scan": PREPARED.cohort.cases[0].scan}, "scan .*scan0' is in several folds: c0-0"),
    ],
)
def test_a_patient_or_scan_in_two_folds_stops_the_run(changes, message):
    with pytest.raises(LeakError, match=message):
        check_leaks(renamed(4, **changes), PREPARED.slabs, FOLDS)


def test_a_noisy_rescaled_copy_under_another_name_stops_the_run():
    generator, slabs = np.random.default_rng(0), list(PREPARED.slabs)
    hu = slabs[0].hu * 0.95 + 20 + generator.normal(0, 40, slabs[0].hu.shape)
    slabs[4] = dataclasses.replace(slabs[0], hu=hu.astype(np.float32))
    assert [(a, b) for a, b, _ in near_duplicates(slabs)] == [(0, 4)]
    with pytest.raises(
        LeakError, match=r"1 leaks between folds.*\n.*near-duplicates \(correlation 0.99.*c0-0 and c4-0"
    ):
        check_leaks(PREPARED.cohort, slabs, FOLDS)
    same_fold = FOLDS.copy()
    same_fold[4] = FOLDS[0]
    check_leaks(PREPARED.cohort, slabs, same_fold)


def test_a_study_in_two_folds_stops_the_run_though_its_folders_and_patients_differ(tmp_path):
    images = ct_series("R1", chest(grid()))
    places = [store(images, tmp_path / name) for name in ("one", "two")]
    cohort = renamed(0, scan=places[0])
    cases = list(cohort.cases)
    cases[4] = dataclasses.replace(cases[4], scan=places[1])
    shared = Cohort(tuple(cases), cohort.targets, cohort.labels)
    with pytest.raises(
        LeakError, match=r"1 leaks between folds.*\n.*one DICOM study is in several folds: c0-0 and c4-0"
    ):
        check_leaks(shared, PREPARED.slabs, FOLDS)
    together = FOLDS.copy()
    together[4] = FOLDS[0]
    check_leaks(shared, PREPARED.slabs, together)


def test_names_that_differ_in_where_their_parts_end_are_other_patients():
    check_leaks(renamed(4, patient="P1-1"), PREPARED.slabs, FOLDS)
    check_leaks(renamed(4, patient="P-11"), PREPARED.slabs, FOLDS)  # P11 is case 11's patient, of another fold


def cut_slabs(seed):
    """Slabs of a few nodules, each with copies of its own: rescaled, with more or less noise, or blank."""
    generator, slabs = np.random.default_rng(seed), []
    for _ in range(60):
        slab = PREPARED.slabs[generator.integers(6)]
        hu = slab.hu * generator.uniform(0.5, 1.0) + generator.normal(0, generator.uniform(0, 80), slab.hu.shape)
        hu *= generator.random() > 0.05
        slabs.append(dataclasses.replace(slab, hu=hu.astype(np.float32)))
    return slabs


@pytest.mark.parametrize("alike", [0.9, 0.99])
@pytest.mark.parametrize("seed", range(4))
def test_near_duplicates_are_those_of_comparing_all_with_all(seed, alike):
    slabs = cut_slabs(seed)
    coarse = np.array([_coarse(slab) for slab in slabs])
    expected = {}
    for one in range(60):
        for other in range(one + 1, 60):
            flat = np.ptp(coarse[one]) == 0 or np.ptp(coarse[other]) == 0
            correlation = 0.0 if flat else np.corrcoef(coarse[one], coarse[other])[0, 1]
            if correlation >= alike:
                expected[one, other] = pytest.approx(correlation, abs=1e-9)
    assert 5 < len(expected) < 1500
    assert {(a, b): found for a, b, found in near_duplicates(slabs, alike)} == expected


def _coarse(slab):
    """Means of 8 x 8 fields of nine slices around the lesion's middle, one by one."""
    start = middle_stack(slab.lesion)
    side = slab.hu.shape[1] // 8
    fields = [slice(at * side, (at + 1) * side) for at in range(8)]
    return [slab.hu[z, y, x].mean(dtype=float) for z in range(start, start + 9) for y in fields for x in fields]
