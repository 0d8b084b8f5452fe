"""The guard before a run: nothing of a patient may stand on two sides of a fold, under whatever name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
from einops import reduce

from genomic_vit.cohort.manifest import Cohort
from genomic_vit.config import UserError
from genomic_vit.data.entry import PreparedSlab
from genomic_vit.data.fingerprint import find_twins
from genomic_vit.data.grid import STACK_SLICES
from genomic_vit.data.neighbours import neighbours
from genomic_vit.data.scan_record import ScanRecord, hashed_studies
from genomic_vit.data.slab import Slab
from genomic_vit.evaluation.overlay import middle_stack

COARSE_PX = 8  # side of the picture that a slice is reduced to
ALIKE = 0.99  # correlation of coarse stacks from which two are taken for the same lesion
ROUNDING = 1e-7  # of a distance of unit vectors


class LeakError(UserError):
    """Cases on two sides of a fold belong together; the message names them and says what to do."""


def check_leaks(
    cohort: Cohort,
    slabs: Sequence[Slab | PreparedSlab],
    folds: np.ndarray,
    records: Sequence[ScanRecord] | None = None,
) -> str:
    """Stop where patients, scans or pixels are shared across folds; returns what was checked, in words.

    Args:
        cohort: who.
        slabs: one a case.
        folds: fold of each case, (case).
        records: of the scan of each case; None compares no scans, and of studies those of DICOM folders alone.

    Raises:
        LeakError: a patient, a patient's name but for case and punctuation, a scan, a DICOM study, or a near-duplicate
            stack is in two folds, or the same scan under two names.
    """
    names = [case.patient for case in cohort.cases]
    found = _shared(names, folds, cohort, "patient {} is in several folds")
    plain = [re.sub(r"[\W_]+", "-", name).strip("-").casefold() or name for name in names]  # P1-1 is not P11
    found += _shared(plain, folds, cohort, "patients are named alike but for case and punctuation ({})")
    scans = [str(case.scan.resolve()) for case in cohort.cases]
    found += _shared(scans, folds, cohort, "scan {} is in several folds")
    studies = _studies(cohort) if records is None else [record.studies for record in records]
    found += _shared_studies(cohort, folds, studies)
    found += _shared_scans(cohort, folds, records or ())
    found += [
        f"slabs are near-duplicates (correlation {alike:.4f}): {cohort.cases[a].case} and {cohort.cases[b].case}"
        for a, b, alike in near_duplicates(slabs)
        if folds[a] != folds[b]
    ]
    if found:
        listed = "\n".join(f"  {line}" for line in found[:20])
        more = f"\n  and {len(found) - 20} more" if len(found) > 20 else ""
        raise LeakError(
            f"{len(found)} leaks between folds; give such cases the same patient name, or remove all but one:\n"
            f"{listed}{more}"
        )
    return _checked(cohort, records)


def _checked(cohort: Cohort, records: Sequence[ScanRecord] | None) -> str:
    """What was looked for and not found, in words."""
    said = (
        "Checked before training: nothing of one patient, of names alike but for case and punctuation, of one scan "
        f"file or of one DICOM study{' in a folder' if records is None else ''} is in two folds, nor are two slabs "
        f"alike (correlation of {ALIKE:g} of their middle slices; it does not find a lesion cut with another outline)."
    )
    if records is None:
        return f"{said} Scans themselves were not compared."
    lost = [(case.case, record.reason) for case, record in zip(cohort.cases, records, strict=True) if not record.prints]
    without = f" {len(lost)} could not be read for that, such as case {lost[0][0]}: {lost[0][1]}" if lost else ""
    return (
        f"{said} Of {len(records) - len(lost)} cases the scans were compared, whatever was outlined in them, by three "
        f"slices each: none is in two folds, as the same pixels or as another reconstruction.{without}"
    )


def _shared_scans(cohort: Cohort, folds: np.ndarray, records: Sequence[ScanRecord]) -> list[str]:
    """A line for each scan that is in several folds under several names, by its pixels."""
    known = [place for place, record in enumerate(records) if record.prints]
    lines = {}
    for twins in find_twins([records[place].prints for place in known]):
        for same, places in (("have the same pixels", twins.exact), ("look like copies of one", twins.near)):
            here, there = ({int(folds[known[at]]): known[at] for at in some} for some in (twins.members, places))
            apart = ((here[one], there[other]) for one, other in product(here, there) if one != other)
            a, b = sorted(next(apart, (0, 0)))
            if cohort.cases[a].scan.resolve() != cohort.cases[b].scan.resolve():  # else it was told as one scan
                cases = " and ".join(f"{cohort.cases[i].case} (patient {cohort.cases[i].patient!r})" for i in (a, b))
                lines[a, b] = f"scans of two names {same}: {cases}"
    return list(lines.values())


def near_duplicates(slabs: Sequence[Slab | PreparedSlab], alike: float = ALIKE) -> Iterator[tuple[int, int, float]]:
    """Pairs of slabs that show the same, with their correlation: the middle stacks, reduced to 8 × 8 a slice.

    Correlation forgives another rescaling of HU, added noise and a new file; it does not find a lesion cut with
    another outline: for that the scans are compared. Of unit vectors |a - b|² = 2 - 2 correlation, so they are
    neighbours within a radius. Prints of 100,000 slabs take 460 MB.
    """
    prints = np.empty((len(slabs), STACK_SLICES * COARSE_PX**2))
    for row, slab in enumerate(slabs):
        prints[row] = fingerprint(slab)
    for one, others, _ in neighbours(prints, np.sqrt(2 - 2 * alike) + ROUNDING):
        later = others[others > one]
        correlation = prints[later] @ prints[one]
        yield from ((one, int(b), float(c)) for b, c in zip(later, correlation, strict=True) if c >= alike)


def fingerprint(slab: Slab) -> np.ndarray:
    """A vector of length one whose products are correlations, (number,)."""
    start = middle_stack(slab.lesion)
    stack = slab.hu[start : start + STACK_SLICES].astype(np.float64)
    block = stack.shape[1] // COARSE_PX
    side = block * COARSE_PX
    coarse = reduce(stack[:, :side, :side], "z (y by) (x bx) -> (z y x)", "mean", by=block, bx=block)
    centred = coarse - coarse.mean()
    return centred / max(float(np.linalg.norm(centred)), 1e-12)


def _shared(keys: list[str], folds: np.ndarray, cohort: Cohort, says: str) -> list[str]:
    """A line for each key that stands in several folds."""
    places: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        places[key].append(index)
    lines = []
    for key, indices in places.items():
        if len({int(folds[i]) for i in indices}) > 1:
            a, b = next((a, b) for a, b in combinations(indices, 2) if folds[a] != folds[b])
            cases = " and ".join(f"{cohort.cases[i].case} (patient {cohort.cases[i].patient!r})" for i in (a, b))
            lines.append(f"{says.format(repr(key))}: {cases}")
    return lines


def _studies(cohort: Cohort) -> list[tuple[str, ...]]:
    """Studies of each case's scan, where it is a DICOM folder."""
    known: dict[Path, tuple[str, ...]] = {}
    for case in cohort.cases:
        if case.scan not in known:
            known[case.scan] = hashed_studies(case.scan) if case.scan.is_dir() else ()
    return [known[case.scan] for case in cohort.cases]


def _shared_studies(cohort: Cohort, folds: np.ndarray, studies: Sequence[tuple[str, ...]]) -> list[str]:
    """A line for each DICOM study that is in several folds."""
    places: dict[str, list[int]] = defaultdict(list)
    for index, some in enumerate(studies):
        for study in some:
            places[study].append(index)
    lines = []
    for indices in places.values():
        apart = [i for i in indices if folds[i] != folds[indices[0]]]
        if apart:
            one, other = cohort.cases[indices[0]].case, cohort.cases[apart[0]].case
            lines.append(f"one DICOM study is in several folds: {one} and {other}")
    return lines
