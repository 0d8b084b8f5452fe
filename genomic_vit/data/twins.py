"""The same scan, or the same lesion, under several names in one cohort."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from genomic_vit.data.findings import Finding
from genomic_vit.data.fingerprint import find_twins
from genomic_vit.data.inventory import CaseReport


def name_twins(reports: Sequence[CaseReport], scans: Sequence[Path], folds: Sequence[int]) -> list[CaseReport]:
    """The reports, with scans that are one under several names found by their pixels.

    Args:
        reports: of a cohort.
        scans: path of each; one scan may hold several cases.
        folds: fold of each, as training would assign them.
    """
    place = {report.case: index for index, report in enumerate(reports)}
    found: dict[str, list[Finding]] = defaultdict(list)
    for one, other, exact in find_twins({report.case: report.prints for report in reports if report.prints}):
        for name, twin in ((one, other), (other, one)):
            finding = _twin(*(place[which] for which in (name, twin)), reports, scans, folds, exact)
            if finding:
                found[name].append(finding)
    return [replace(report, findings=(*report.findings, *found[report.case])) for report in reports]


def _twin(
    here: int, there: int, reports: Sequence[CaseReport], scans: Sequence[Path], folds: Sequence[int], exact: bool
) -> Finding | None:
    one, other = reports[here], reports[there]
    same = "has the same pixels as" if exact else "looks like another reconstruction or copy of"
    if one.patient != other.patient:
        apart = f", in another fold ({folds[here]} and {folds[there]})" if folds[here] != folds[there] else ""
        text = f"the scan {same} that of case {other.case}, patient {other.patient}{apart}"
        return Finding("doubt", text, "give both the same patient in the manifest, or remove one")
    if scans[here] != scans[there]:
        return Finding("note", f"the scan {same} that of case {other.case} of the same patient")
    if one.lesion_key and one.lesion_key == other.lesion_key:
        return Finding("doubt", f"scan and lesion are those of case {other.case}", "remove one of the two rows")
    return None
