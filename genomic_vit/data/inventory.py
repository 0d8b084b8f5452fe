"""What one case is: the scan that would be read, the lesion in it, and what is wrong with either."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from genomic_vit.config import UserError, ViewConfig
from genomic_vit.data.case import Reading
from genomic_vit.data.findings import Finding, lesion_findings, oblique_deg, scan_findings
from genomic_vit.data.fingerprint import Fingerprint, fingerprint
from genomic_vit.data.picture import nine_slices
from genomic_vit.data.slab import Slab, cut_planned, plan_slab
from genomic_vit.imaging.lesion import Lesion, open_scan_of, read_lesions, want
from genomic_vit.imaging.scan import Scan, open_scan
from genomic_vit.imaging.stack import OnGap

NO_LESION = Finding("unusable", "there is no lesion", "draw it, name a point in the manifest, or pass --field lung")


@dataclass(frozen=True, eq=False)
class CaseReport:
    """What is known of a case.

    Args:
        case, patient: names.
        facts: column to text, for the table.
        findings: what is wrong, or should be known.
        picture: JPEG of nine slices with the lesion's outline; None where no slab could be cut or none was asked for.
        lesion_key: the same for the same lesion on the same grid; empty where no slab could be cut.
        prints: to know the scan again; None where it could not be read.
    """

    case: str
    patient: str
    facts: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    picture: bytes | None = None
    lesion_key: str = ""
    prints: Fingerprint | None = None

    @property
    def verdict(self) -> str:
        """ "unusable", "doubtful" or "usable"."""
        grades = {finding.grade for finding in self.findings}
        return "unusable" if "unusable" in grades else "doubtful" if "doubt" in grades else "usable"


def inspect(
    case: str,
    patient: str,
    scan: Path,
    lesion: Path | str | None,
    reading: Reading,
    window_hu: tuple[float, float] | None = ViewConfig.window_hu,
) -> list[CaseReport]:
    """Open a case as training would, and report; nothing is raised for a bad case.

    Args:
        case, patient: names.
        scan: what `open_scan` takes.
        lesion: what `read_lesions` takes; None where there is none.
        reading: how to read.
        window_hu: grey values of the picture; None makes none.

    Returns:
        One report, or with `lesion.lesions` each one of every lesion (CASE#1, CASE#2 …).
    """
    facts: dict[str, str] = {}
    findings: list[Finding] = []
    cut, prints = [], None
    if lesion is None and reading.lesion.field == "lesion":
        findings.append(NO_LESION)
    else:
        try:
            want(lesion or "", reading.lesion)
        except UserError as problem:
            findings.append(_unusable(problem, lesion))
    try:
        opened = _open(scan, None if findings else lesion or "", reading, findings)
        facts |= _scan_facts(opened)
        findings += scan_findings(opened)
        prints = fingerprint(opened)
        if not any(finding.grade == "unusable" for finding in findings):
            cut = _cut(opened, lesion or "", reading)
    except UserError as problem:
        findings.append(_unusable(problem, scan))
    if not cut:
        return [CaseReport(case, patient, facts, tuple(findings), prints=prints)]
    reports = []
    for found, slab in cut:
        its = _lesion_facts(found, slab)
        name = f"{case}#{found.name}" if found.name else case
        told = (*findings, *lesion_findings(found, slab, float(its["lesion_ml"])))
        picture = nine_slices(slab, window_hu) if window_hu else None
        reports.append(CaseReport(name, patient, facts | its, told, picture, _lesion_key(slab), prints))
    return reports


def _lesion_key(slab: Slab | None) -> str:
    if slab is None:
        return ""
    place = np.rint(np.stack([slab.geometry.origin_mm, slab.geometry.spacing_mm]) * 100).astype(int)
    return hashlib.blake2b(place.tobytes() + np.packbits(slab.lesion).tobytes(), digest_size=16).hexdigest()


def _cut(scan: Scan, lesion: Path | str, reading: Reading) -> list[tuple[Lesion, Slab]]:
    """The lesions with their slabs, read as training reads them.

    Raises:
        UserError: lesion or voxels cannot be read.
    """
    cut = []
    for found in read_lesions(lesion, scan, reading.lesion):
        plan = plan_slab(scan.geometry, found.mask, reading.slab)
        part = scan.read(*plan.slices(scan.geometry)) if scan.identity else scan.read()
        cut.append((found, cut_planned(plan, part, found.mask, found.measured)))
    return cut


def _open(scan: Path, lesion: Path | str | None, reading: Reading, findings: list[Finding]) -> Scan:
    """The scan, of no lesion where it is None; where only --on-gap resample makes it readable, that is found, and the
    scan comes filled.
    """

    def opened(on_gap: OnGap) -> Scan:
        if lesion is None:
            return open_scan(scan, on_gap=on_gap)
        return open_scan_of(lesion, scan, reading.lesion, on_gap)

    try:
        return opened(reading.on_gap)
    except UserError as problem:
        if reading.on_gap == "resample":
            raise
        try:
            filled = opened("resample")
        except UserError:
            raise problem from None
        findings.append(_unusable(problem, scan))
        return filled


def _scan_facts(scan: Scan) -> dict[str, str]:
    told = scan.facts
    spacing = scan.geometry.spacing_mm
    facts = {
        "series_found": str(len(scan.refused) + 1) if scan.identity else "",
        "series_chosen": told.get("description", ""),
        "chosen_by": told.get("chosen_by", ""),
        "voxels": " x ".join(map(str, scan.geometry.shape)),
        "spacing_mm": " x ".join(f"{mm:.2f}" for mm in spacing),
        "oblique_deg": f"{oblique_deg(scan):.1f}",
    }
    asked = ("thickness_mm", "tilt_found_deg", "kernel", "contrast", "kvp", "manufacturer", "model")
    facts |= {name: told.get(name, "") for name in asked}
    facts["refused"] = " | ".join(f"{name}: {reason}" for name, reason in scan.refused)
    return facts


def _lesion_facts(lesion: Lesion, slab: Slab) -> dict[str, str]:
    mask = lesion.mask
    volume_ml = float(mask.array.sum() * np.prod(mask.geometry.spacing_mm)) / 1000
    slices = mask.canonical().array.any(axis=(1, 2)).sum()
    return {
        "lesion_from": lesion.measured,
        "lesion_ml": f"{volume_ml:.2f}",
        "lesion_slices": str(int(slices)),
        "lesion_in_scan": f"{lesion.share:.0%}",
        "lesion_hu": f"{np.median(slab.hu[slab.lesion]):.0f}",
    }


def _unusable(problem: UserError, source: Path | str | None) -> Finding:
    """What a reader said, without the path that the row names anyway; it says the repair itself."""
    return Finding("unusable", str(problem).removeprefix(f"{source}: "))
