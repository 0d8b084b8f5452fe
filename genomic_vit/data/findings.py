"""What is wrong, or should be known, of a scan that opened and a lesion that was read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from genomic_vit.data.slab import Slab
from genomic_vit.imaging.dicom import find_series
from genomic_vit.imaging.identifiers import find_identifiers
from genomic_vit.imaging.lesion import Lesion
from genomic_vit.imaging.scan import Scan

THICK_MM = 5.0  # nine slices farther apart reach beyond any tumour
UNLIKE = 1.5  # slice thickness and distance differ by this factor: overlap or gap
AIR_HU, METAL_HU = -900.0, 300.0  # the median of a tumour lies between
SMALL_ML, HUGE_ML = 0.03, 700.0  # balls of 4 and of 110 mm
FEW_SLICES, STACK = 3, 9
OBLIQUE_DEG, TILT_DEG = 5.0, 0.5
Grade = Literal["unusable", "doubt", "note"]


@dataclass(frozen=True)
class Finding:
    """Something to know of a case: how bad it is, what it is, and the command or edit that repairs it."""

    grade: Grade
    text: str
    repair: str = ""

    def __str__(self) -> str:
        return f"{self.text}: {self.repair}" if self.repair else self.text


def scan_findings(scan: Scan) -> list[Finding]:
    """Slices, geometry and headers of a scan."""
    findings = []
    slice_mm, depth = float(scan.geometry.spacing_mm[0]), scan.geometry.shape[0]
    thick_mm = _number(scan.facts.get("thickness_mm", ""))
    if slice_mm > THICK_MM:
        text = f"slices lie {slice_mm:.1f} mm apart, nine of them span {9 * slice_mm:.0f} mm"
        findings.append(Finding("doubt", text, "take a thinner reconstruction if there is one"))
    if depth < STACK:
        text = f"the scan has {depth} slices, those at its ends repeat to make nine"
        findings.append(Finding("doubt", text, "export the whole series"))
    if thick_mm and thick_mm > UNLIKE * slice_mm:
        findings.append(Finding("note", f"slices of {thick_mm:g} mm overlap ({slice_mm:.2f} mm apart)"))
    if thick_mm and slice_mm > UNLIKE * thick_mm:
        text = f"slices of {thick_mm:g} mm leave gaps ({slice_mm:.2f} mm apart)"
        findings.append(Finding("doubt", text, "take a series without gaps if there is one"))
    if _number(scan.facts.get("tilt_found_deg", "")) >= TILT_DEG:
        findings.append(Finding("note", f"gantry tilt of {scan.facts['tilt_found_deg']} degrees, straightened"))
    if (askew_deg := oblique_deg(scan)) > OBLIQUE_DEG:
        findings.append(Finding("note", f"the slices lie {askew_deg:.0f} degrees askew in the patient"))
    return findings + (_identity_findings(scan) if scan.identity else [])


def lesion_findings(lesion: Lesion, slab: Slab, volume_ml: float) -> list[Finding]:
    """Size, place and density of a lesion, and what was noted as it was read."""
    findings = [Finding("note", note) for note in lesion.notes]
    if lesion.measured == "lung":
        return findings
    look = "look at the picture: the outline may be shifted or belong to another series"
    if not SMALL_ML <= volume_ml <= HUGE_ML:
        findings.append(Finding("doubt", f"a tumour of {volume_ml:.2f} ml is unlikely", look))
    if lesion.share < 1:
        findings.append(Finding("doubt", f"{lesion.share:.0%} of the lesion lies in the scan", look))
    slices = int(lesion.mask.canonical().array.any(axis=(1, 2)).sum())
    if slices < FEW_SLICES and lesion.measured == "outline":
        findings.append(Finding("note", f"the lesion lies in {slices} slice{'s' * (slices > 1)} only"))
    hu = float(np.median(slab.hu[slab.lesion]))
    if lesion.measured == "outline" and not AIR_HU <= hu <= METAL_HU:
        found = "air" if hu < AIR_HU else "bone, metal or contrast"
        findings.append(Finding("doubt", f"half of the lesion is {found} (median {hu:.0f} HU)", look))
    return findings


def oblique_deg(scan: Scan) -> float:
    """Angle between the scan's slice axis and the nearest axis of the patient."""
    return float(np.degrees(np.arccos(min(1.0, np.abs(scan.geometry.direction[:, 0]).max()))))


def _identity_findings(scan: Scan) -> list[Finding]:
    """Whether a header of any series beside the scan tells a person; one file a series is read."""
    told = {tag: None for series in find_series(scan.path) for tag in find_identifiers(series.first.path)}
    if not told:
        return []
    repair = "de-identify the files; no output of this program copies these tags"
    return [Finding("note", f"headers may tell who this is: {', '.join(told)}", repair)]


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0
