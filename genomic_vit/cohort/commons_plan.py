"""What of a collection would be used, judged from an index before a byte is moved.

The index knows no ImageType, orientation, kernel, slice thickness or frame of reference. These are judged by the
patterns below on SeriesDescription; the order among what is left is that of `imaging.merit`, as for DICOM headers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from genomic_vit.cohort.commons_index import IndexRow
from genomic_vit.cohort.presets import Preset
from genomic_vit.imaging.choice import CT_CLASSES, KINDS
from genomic_vit.imaging.merit import ATTENUATION, Facts, Merit, lost, rank

SCOUT = re.compile(r"scout|topogram|locali[sz]er|surview", re.I)
REFORMAT = re.compile(r"\bcor\b|\bcoronals?\b|\bsag\b|\bsagittals?\b|\bmpr\b|reformat|oblique|\bprocessed\b", re.I)
PROJECTION = re.compile(r"\bmips?\b|\bminip\b|\bavg\b|average|projection|\bvrt?\b|\b3d\b", re.I)
CHEST = re.compile(r"chest|thorax|lung|\bc/?a/?p\b", re.I)
ELSEWHERE = re.compile(r"\babd(omen)?\b|\bpel(vis)?\b|\ba/p\b|\bhead\b|\bneck\b|\bbrain\b", re.I)
STATED_MM = re.compile(r"(?<![\d.])(\d{0,2}\.\d+|\d{1,2})(?= ?mm)|(?<!\S)(\d{1,2}\.\d+)(?!\S)|\b(\d) ?x ?\d\b", re.I)
SIEMENS = re.compile(r"\b[BIHJQT][a-z]?\d{2}[a-z]?\b")
KERNEL_WORD = re.compile(r"bone|lung|edge|detail|sharp|standard|\bstd\b|soft", re.I)
FEW_IMAGES = 16  # fewer cannot cover a lung in thin slices
CHEST_MM = 300.0  # length of a chest scan, to estimate slice thickness where the description states none

Verdict = Literal["chosen", "beside", "lesion", "refused"]


@dataclass(frozen=True)
class Planned:
    """A series and what becomes of it: the scan, one beside it that the lesion may belong to, a lesion, or none."""

    row: IndexRow
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Plan:
    """What of a collection would be used.

    Args:
        series: every one of the collection, by patient.
        version: of the index.
    """

    series: tuple[Planned, ...]
    version: str

    @property
    def patients(self) -> tuple[str, ...]:
        return tuple(sorted({one.row.patient for one in self.series}))

    def patients_with(self, *verdicts: Verdict) -> set[str]:
        """Those who have a series of each of the verdicts."""
        held = [{one.row.patient for one in self.series if one.verdict == verdict} for verdict in verdicts]
        return set.intersection(*held)

    def wanted(self, *, without_lesion: bool = False) -> list[IndexRow]:
        """Series to fetch: scans and lesions of the patients who have both, or of all who have a scan."""
        who = self.patients_with("chosen") if without_lesion else self.patients_with("chosen", "lesion")
        return [one.row for one in self.series if one.verdict != "refused" and one.row.patient in who]


def plan_collection(rows: Iterable[IndexRow], preset: Preset, version: str = "") -> Plan:
    """Judge every series of a collection."""
    by_patient: dict[str, list[IndexRow]] = defaultdict(list)
    for row in rows:
        by_patient[row.patient].append(row)
    return Plan(tuple(one for patient in sorted(by_patient) for one in _judge(by_patient[patient], preset)), version)


def _judge(rows: list[IndexRow], preset: Preset) -> list[Planned]:
    """All series of one patient, judged."""
    lesions = [row for row in rows if preset.holds_lesion(row.modality, row.description)]
    lesion_studies = {row.study_uid for row in lesions}
    pet_studies = {row.study_uid for row in rows if row.modality == "PT"}
    planned = [Planned(row, "lesion", f"the collection's outline of the tumour ({row.modality})") for row in lesions]
    fit = []
    for row in rows:
        if row in lesions:
            continue
        reason = _unfit(row, pet_studies, preset)
        if not reason and lesion_studies and row.study_uid not in lesion_studies:
            reason = "the tumour was outlined in another study"
        if reason:
            planned.append(Planned(row, "refused", reason))
        else:
            fit.append((rank(_facts(row)), row))
    return planned + _choose(fit, lesion_studies)


def _choose(fit: list[tuple[list[Merit], IndexRow]], lesion_studies: set[str]) -> list[Planned]:
    fit.sort(key=lambda pair: [merit.key for merit in pair[0]])
    if not fit:
        return []
    best = fit[0][0]
    why = f"first in {lost(fit[1][0], best)[0]}" if len(fit) > 1 else "the only usable series"
    planned = [Planned(fit[0][1], "chosen", f"{why}: {_in_words(best)}")]
    for merits, row in fit[1:]:
        reason = lost(merits, best)[1]
        if lesion_studies:  # the index does not say on which series of the study the tumour was outlined
            planned.append(Planned(row, "beside", f"{reason}; fetched too, as the outline may belong to it"))
        else:
            planned.append(Planned(row, "refused", reason))
    return planned


def _in_words(merits: list[Merit]) -> str:
    return ", ".join(merit.found for merit in merits if merit.name in ("kernel", "number of slices")) + (
        f", {next(merit.found for merit in merits if merit.name == 'slice thickness')}"
    )


def _unfit(row: IndexRow, pet_studies: set[str], preset: Preset) -> str:
    """Why a series cannot be the scan, "" where it can."""
    if row.modality in ("SEG", "RTSTRUCT") and preset.lesion in (row.modality, "any"):
        origin = f"it is the analysis result {row.result_of}" if row.result_of else "its description is another"
        return f"not the collection's own outline of the tumour: {origin} ({row.description or 'no description'})"
    if row.modality != "CT":
        return f"it is no CT: {KINDS.get(row.modality, 'of another kind')} ({row.modality})"
    if row.sop_class not in CT_CLASSES:
        return "it is a secondary capture or report, not CT images (by its SOPClassUID)"
    if SCOUT.search(row.description):
        return "it is a localizer (scout), by its description"
    if row.images < FEW_IMAGES:
        return f"it holds {row.images} images, too few for a chest: a localizer, most likely"
    if ATTENUATION.search(row.description):
        return "it was made for PET attenuation correction, by its description"
    if found := PROJECTION.search(row.description):
        return f"it is a projection or average of other slices, by its description ({found[0]})"
    if found := REFORMAT.search(row.description):
        return f"it is a reformat of another series, by its description ({found[0]})"
    if row.study_uid in pet_studies:
        return "it was made for PET attenuation correction: its study holds PET (the index has no frame of reference)"
    if (found := ELSEWHERE.search(row.description)) and not CHEST.search(row.description):
        return f"it shows another part of the body, by its description ({found[0]})"
    return ""


def _facts(row: IndexRow) -> Facts:
    stated_mm, kernel = stated(row.description)
    return Facts(
        derived=False,
        attenuation=False,
        covered=1.0,
        thick_mm=stated_mm or CHEST_MM / row.images,
        kernel=kernel,
        slices=row.images,
        study_date=row.study_date,
        number=float(row.number) if row.number.isdigit() else 0.0,
        uid=(row.series_uid,),
        estimated=stated_mm is None,
    )


def stated(description: str) -> tuple[float | None, str]:
    """Slice thickness in mm (None where not stated) and kernel ("" where not) that a SeriesDescription names."""
    sizes = [float(next(filter(None, groups))) for groups in STATED_MM.findall(description)]
    kernel = SIEMENS.search(description) or KERNEL_WORD.search(description)
    return next((size for size in sizes if 0 < size <= 20), None), kernel[0] if kernel else ""
