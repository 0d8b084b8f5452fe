"""Twins among many scans, against a comparison of all with all; and what the user reads of a crowd of them."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from genomic_vit.data.fingerprint import NEAR_HU, NEAR_MM, Fingerprint, find_twins
from genomic_vit.data.inventory import CaseReport
from genomic_vit.data.neighbours import neighbours
from genomic_vit.data.twins import NAMED, name_twins


def pairs_of(prints):
    """What `find_twins` says, pair by pair."""
    told = set()
    for twins in find_twins(prints):
        for exact, others in ((True, twins.exact), (False, twins.near)):
            told |= {(one, other, exact) for one in twins.members for other in others if one != other}
    assert told == {(b, a, exact) for a, b, exact in told}  # both of a pair are told
    return {pair for pair in told if pair[0] < pair[1]}


def pairs_by_comparing(prints):
    told = set()
    for (one, a), (other, b) in combinations(enumerate(prints), 2):
        if a.exact == b.exact:
            told.add((one, other, True))
        elif a.thumbnail.shape == b.thumbnail.shape:
            apart_hu = np.sqrt(np.mean((a.thumbnail.astype(float) - b.thumbnail) ** 2))
            if apart_hu < NEAR_HU and np.abs(a.size_mm - b.size_mm).max() < NEAR_MM:
                told.add((one, other, False))
    return told


def planted(seed: int) -> list[Fingerprint]:
    """Scans of two shapes and copies: equal, equal at another spacing, and near on both sides of the limits."""
    generator = np.random.default_rng(seed)
    spread = generator.choice([3.0, 60.0])  # of a crowd of like scans, or of strangers
    prints = []
    for number in range(30):
        shape = (3, 16, 16) if number % 5 else (3, 4, 16)
        prints.append(Fingerprint(f"{number}", generator.normal(-500, spread, shape).astype("f4"), np.full(3, 300.0)))
    for number in range(60):
        one = prints[generator.integers(len(prints))]
        kind = generator.integers(4)
        if kind == 0:
            size_mm = one.size_mm + generator.choice([0.0, 1.0])
            prints.append(Fingerprint(one.exact, one.thumbnail, size_mm))
            continue
        flat = np.ones(one.thumbnail.shape) if kind == 1 else generator.normal(size=one.thumbnail.shape)
        away = flat / np.sqrt(np.mean(flat**2)) * NEAR_HU * generator.choice([0.3, 0.999, 1.001])
        away_mm = NEAR_MM * generator.choice([0.0, 0.999, 1.001]) * np.eye(3)[generator.integers(3)]
        prints.append(Fingerprint(f"c{number}", (one.thumbnail + away).astype("f4"), one.size_mm + away_mm))
    return [prints[place] for place in generator.permutation(len(prints))]


@pytest.mark.parametrize("seed", range(20))
def test_the_pairs_are_those_of_comparing_all_with_all(seed):
    prints = planted(seed)
    expected = pairs_by_comparing(prints)
    assert {True, False} == {exact for *_, exact in expected}
    assert pairs_of(prints) == expected


@pytest.mark.parametrize(("number", "size"), [(0, 5), (1, 5), (2, 3), (40, 2), (300, 3), (300, 40)])
def test_neighbours_are_those_of_comparing_all_with_all(number, size):
    vectors = np.random.default_rng(number + size).normal(size=(number, size))
    vectors[1::7] = vectors[: len(vectors[1::7])]
    near = {
        (one, other)
        for one in range(number)
        for other in range(number)
        if one != other and np.linalg.norm(vectors[one] - vectors[other]) <= 1.5
    }
    found = {(one, int(other)): far for one, others, apart in neighbours(vectors, 1.5)
             for other, far in zip(others, apart, strict=True)}  # fmt: skip
    assert found.keys() == near
    for (one, other), far in found.items():
        assert far == pytest.approx(np.linalg.norm(vectors[one] - vectors[other]), abs=1e-12)


def crowd(number: int, seed: int, *, patients: int, noise_hu: float = 0.0):
    """Reports of one scan under many names, of few patients, paths and lesions; paths; folds."""
    generator = np.random.default_rng(seed)
    base = generator.normal(-500, 60, (3, 16, 16))
    reports, scans = [], []
    for row in range(number):
        thumbnail = (base + generator.normal(0, noise_hu, base.shape)).astype("f4")
        prints = Fingerprint(f"{row * bool(noise_hu)}", thumbnail, np.full(3, 300.0))
        patient, scan, lesion = (int(generator.integers(n)) for n in (patients, 2, 2))
        reports.append(CaseReport(f"C{row}", f"P{patient}", lesion_key="ab"[lesion], prints=prints))
        scans.append(Path(f"scan-{patient}-{scan}"))
    return reports, scans, generator.integers(0, 3, number).tolist()


def counted(finding) -> int:
    """How many cases a finding speaks of."""
    found = re.search(r"those of (\d+) (cases|other)", finding.text)
    return int(found[1]) if found else 1


@pytest.mark.parametrize("noise_hu", [0.0, 2.0])
@pytest.mark.parametrize("patients", [1, 2, 5, 200])
def test_each_of_a_crowd_is_told_how_many_the_others_are(patients, noise_hu):
    reports, scans, folds = crowd(60, patients, patients=patients, noise_hu=noise_hu)
    for here, told in enumerate(name_twins(reports, scans, folds)):
        me, others = reports[here], [at for at in range(60) if at != here]
        foreign = [at for at in others if reports[at].patient != me.patient]
        again = [at for at in others if reports[at].patient == me.patient and scans[at] != scans[here]]
        twice = [at for at in others if reports[at].patient == me.patient and scans[at] == scans[here]
                 and reports[at].lesion_key == me.lesion_key]  # fmt: skip
        twice = [] if noise_hu else twice  # other pixels under the same path are no row written twice
        kinds = {"of other patients|, patient": foreign, "same patient": again, "scan and lesion": twice}
        if noise_hu:
            del kinds["scan and lesion"]
        for words, expected in kinds.items():
            said = [finding for finding in told.findings if re.search(words, finding.text)]
            assert sum(map(counted, said)) == len(expected), words
            assert len(said) <= NAMED
            names = set(re.findall(r"\bC\d+\b", " ".join(finding.text for finding in said)))
            assert names <= {reports[at].case for at in expected} and len(names) == min(NAMED, len(expected))
        apart = re.search(r"patients, (\d+) of them in other folds", str(told.findings))
        if apart:
            assert int(apart[1]) == sum(folds[at] != folds[here] for at in foreign)


def test_a_scan_under_thousands_of_names_is_told_in_a_line_a_case():
    reports, scans, folds = crowd(5000, 0, patients=5000)
    told = name_twins(reports, scans, folds)
    assert max(len(report.findings) for report in told) <= 1 + 2 * NAMED
    text = told[0].findings[0].text
    others = sum(report.patient != reports[0].patient for report in reports)
    assert re.match(rf"the scan has the same pixels as those of {others} cases of other patients, \d+ of them in", text)
    assert text.endswith(f" and {others - NAMED} more)")
    assert told[0].findings[0].repair == "give all the same patient, or keep one of them"
