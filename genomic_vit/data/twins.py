"""The same scan, or the same lesion, under several names in one cohort."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path

from genomic_vit.data.findings import Finding
from genomic_vit.data.fingerprint import find_twins
from genomic_vit.data.inventory import CaseReport

NAMED = 3  # twins of a case that get a finding each; of more, these are named and the rest counted
EXACT, NEAR = "has the same pixels as", "looks like another reconstruction or copy of"


def name_twins(reports: Sequence[CaseReport], scans: Sequence[Path], folds: Sequence[int]) -> list[CaseReport]:
    """The reports, with scans that are one under several names found by their pixels.

    Args:
        reports: of a cohort.
        scans: path of each; one scan may hold several cases.
        folds: fold of each, as training would assign them.
    """
    known = [place for place, report in enumerate(reports) if report.prints is not None]
    found: dict[int, list[Finding]] = defaultdict(list)
    for twins in find_twins([reports[place].prints for place in known]):
        for same, places in ((EXACT, twins.exact), (NEAR, twins.near)):
            crowd = _Crowd([known[place] for place in places], same, reports, scans, folds)
            for member in twins.members:
                found[known[member]] += crowd.findings(known[member])
    return [replace(report, findings=(*report.findings, *found.get(at, ()))) for at, report in enumerate(reports)]


class _Crowd:
    """Cases whose scans are one, counted, so that each of a thousand is told of the others without a look at all."""

    def __init__(
        self, places: list[int], same: str, reports: Sequence[CaseReport], scans: Sequence[Path], folds: Sequence[int]
    ) -> None:
        self.same, self.reports, self.folds = same, reports, folds
        self.of_others = _Others(places, lambda at: ((), reports[at].patient))
        self.of_patient = _Others(places, lambda at: (reports[at].patient, scans[at]))
        self.of_lesion = _Others(places, lambda at: ((reports[at].patient, scans[at], reports[at].lesion_key), at))
        self.in_fold = Counter(folds[at] for at in places)
        self.of_patient_in_fold = Counter((reports[at].patient, folds[at]) for at in places)

    def findings(self, here: int) -> list[Finding]:
        """What a case is told: twins of other patients, of its own patient's other scans, and its own row again."""
        told = self._of_others(here)
        count, named = self.of_patient.of(here)
        if count > NAMED:
            others = f"those of {count} other cases of the same patient ({self._list(named, count)})"
            told.append(Finding("note", f"the scan {self.same} {others}"))
        else:
            told += [
                Finding("note", f"the scan {self.same} that of case {self.reports[at].case} of the same patient")
                for at in named
            ]
        count, named = self.of_lesion.of(here) if self.reports[here].lesion_key else (0, [])
        if count > NAMED:
            text = f"scan and lesion are those of {count} other cases ({self._list(named, count)})"
            told.append(Finding("doubt", text, "keep one of these rows"))
        else:
            told += [
                Finding(
                    "doubt", f"scan and lesion are those of case {self.reports[at].case}", "remove one of the two rows"
                )
                for at in named
            ]
        return told

    def _of_others(self, here: int) -> list[Finding]:
        count, named = self.of_others.of(here)
        fold = self.folds[here]
        if count <= NAMED:
            repair = "give both the same patient in the manifest, or remove one"
            return [Finding("doubt", f"the scan {self.same} {self._other(at, fold)}", repair) for at in named]
        beside = self.in_fold[fold] - self.of_patient_in_fold[self.reports[here].patient, fold]
        apart = f", {count - beside} of them in other folds" if count > beside else ""
        others = f"those of {count} cases of other patients{apart} ({self._list(named, count, patients=True)})"
        return [Finding("doubt", f"the scan {self.same} {others}", "give all the same patient, or keep one of them")]

    def _other(self, at: int, fold: int) -> str:
        apart = f", in another fold ({fold} and {self.folds[at]})" if fold != self.folds[at] else ""
        return f"that of case {self.reports[at].case}, patient {self.reports[at].patient}{apart}"

    def _list(self, named: list[int], count: int, *, patients: bool = False) -> str:
        told = [f"{self.reports[at].case}{f' of {self.reports[at].patient}' * patients}" for at in named]
        return f"{', '.join(told)} and {count - len(named)} more"


class _Others:
    """How many share one thing with a case and differ in another, and the first of them.

    Args:
        places: cases.
        split: place → (what is shared, what differs).
    """

    def __init__(self, places: Sequence[int], split: Callable[[int], tuple[Hashable, Hashable]]) -> None:
        self.split = split
        self.sharing: Counter[Hashable] = Counter()
        self.alike: Counter[tuple[Hashable, Hashable]] = Counter()
        self.first: dict[Hashable, dict[Hashable, list[int]]] = defaultdict(dict)
        for place in places:
            shared, own = split(place)
            self.sharing[shared] += 1
            self.alike[shared, own] += 1
            kinds = self.first[shared]
            if len(kinds) <= NAMED:  # whichever of these one is, NAMED others remain
                kinds.setdefault(own, [])
            if own in kinds and len(kinds[own]) < NAMED:
                kinds[own].append(place)

    def of(self, place: int) -> tuple[int, list[int]]:
        """Their number, and the places of NAMED at most."""
        shared, own = self.split(place)
        kinds = self.first.get(shared, {})
        named = sorted(at for kind, some in kinds.items() if kind != own for at in some)
        return self.sharing[shared] - self.alike[shared, own], named[:NAMED]
