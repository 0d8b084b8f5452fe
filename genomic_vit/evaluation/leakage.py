"""The guard before a run: nothing of a patient may stand on two sides of a fold, under whatever name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from einops import reduce

from genomic_vit.cohort.manifest import Cohort
from genomic_vit.config import UserError
from genomic_vit.data.entry import PreparedSlab
from genomic_vit.data.grid import STACK_SLICES
from genomic_vit.data.neighbours import neighbours
from genomic_vit.data.slab import Slab
from genomic_vit.evaluation.overlay import middle_stack
from genomic_vit.imaging.dicom import find_series

COARSE_PX = 8  # side of the picture that a slice is reduced to
ALIKE = 0.99  # correlation of coarse stacks from which two are taken for the same lesion
ROUNDING = 1e-7  # of a distance of unit vectors


class LeakError(UserError):
    """Cases on two sides of a fold belong together; the message names them and says what to do."""


def check_leaks(cohort: Cohort, slabs: Sequence[Slab | PreparedSlab], folds: np.ndarray) -> None:
    """Stop where patients, scans or pixels are shared across folds.

    Args:
        cohort: who.
        slabs: one a case.
        folds: fold of each case, (case).

    Raises:
        LeakError: a patient, a patient's name but for case and punctuation, a scan, a DICOM study, or a near-duplicate
            stack is in two folds.
    """
    names = [case.patient for case in cohort.cases]
    found = _shared(names, folds, cohort, "patient {} is in several folds")
    plain = [re.sub(r"[\W_]+", "-", name).strip("-").casefold() or name for name in names]  # P1-1 is not P11
    found += _shared(plain, folds, cohort, "patients are named alike but for case and punctuation ({})")
    scans = [str(case.scan.resolve()) for case in cohort.cases]
    found += _shared(scans, folds, cohort, "scan {} is in several folds")
    found += _shared_studies(cohort, folds)
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


def near_duplicates(slabs: Sequence[Slab | PreparedSlab], alike: float = ALIKE) -> Iterator[tuple[int, int, float]]:
    """Pairs of slabs that show the same, with their correlation: the middle stacks, reduced to 8 × 8 a slice.

    Correlation forgives another rescaling of HU, added noise and a new file; it does not find a lesion cut with
    another outline. Of unit vectors |a - b|² = 2 - 2 correlation, so they are neighbours within a radius. Prints of
    100,000 slabs take 460 MB.
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


def _shared_studies(cohort: Cohort, folds: np.ndarray) -> list[str]:
    """A line for each DICOM study that folders of several folds hold; only folders tell their studies."""
    places: dict[str, list[int]] = defaultdict(list)
    known: dict[str, set[str]] = {}
    for index, case in enumerate(cohort.cases):
        folder = str(case.scan.resolve())
        if case.scan.is_dir() and folder not in known:
            known[folder] = {series.first.study_uid for series in find_series(case.scan)} - {""}
        for study in known.get(folder, ()):
            places[study].append(index)
    lines = []
    for study, indices in places.items():
        apart = [i for i in indices if folds[i] != folds[indices[0]]]
        if apart:
            one, other = cohort.cases[indices[0]].case, cohort.cases[apart[0]].case
            lines.append(f"DICOM study …{study[-12:]} is in several folds: {one} and {other}")
    return lines
