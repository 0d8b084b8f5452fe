"""Which of several usable series is preferred: one order, for DICOM headers and for the rows of an index alike."""

from __future__ import annotations

import re
from dataclasses import dataclass

from genomic_vit.imaging.kernel import kernel_kind

THICK_MM = (1.6, 3.1, 5.1)  # borders between thin, medium, thick and very thick slices
KERNEL_ORDER = ("standard", "soft", "unknown", "sharp")
ATTENUATION = re.compile(  # a SeriesDescription of a CT made for PET attenuation correction
    r"\bctac\b|\bac[ _-]?ct\b|\bct[ _-]?ac\b|\batten|\battn|\bct wb\b|\bwb ct\b|\blow ?dose ct\b",
    re.I,
)


@dataclass(frozen=True)
class Facts:
    """What the order looks at.

    Args:
        derived: whether the images are computed from others.
        attenuation: whether it was made for PET attenuation correction.
        covered: share of the lesion inside it, 1 where no lesion is known.
        thick_mm: the larger of slice distance and thickness.
        kernel: as stated; empty where not.
        slices: how many.
        study_date, number, uid: of study and series; the earlier and lower wins where all else is equal.
        estimated: whether thick_mm is only an estimate.
    """

    derived: bool
    attenuation: bool
    covered: float
    thick_mm: float
    kernel: str
    slices: int
    study_date: str
    number: float
    uid: tuple[str, ...]
    estimated: bool = False


@dataclass(frozen=True)
class Merit:
    """One step of the order: its name, a key (lower is better), and the finding in words."""

    name: str
    key: object
    found: str


def rank(facts: Facts) -> list[Merit]:
    """A series' merits, in the order in which they count."""
    kind = kernel_kind(facts.kernel)
    thick = f"{'about ' if facts.estimated else ''}{facts.thick_mm:.2f} mm slices"
    return [
        Merit("original images", facts.derived, "derived images" if facts.derived else "original images"),
        Merit(
            "use", facts.attenuation,
            "made for PET attenuation correction" if facts.attenuation else "made to be looked at",
        ),
        Merit("coverage of the lesion", -round(facts.covered, 2), f"{facts.covered:.0%} of the lesion"),
        Merit("slice thickness", sum(facts.thick_mm > border for border in THICK_MM), thick),
        Merit("kernel", KERNEL_ORDER.index(kind), f"{kind} kernel ({facts.kernel or 'not stated'})"),
        Merit("number of slices", -facts.slices, f"{facts.slices} slices"),
        Merit("slice thickness", round(facts.thick_mm, 2), thick),
        Merit("date of study", facts.study_date, "a later study" if facts.study_date else "a study without date"),
        Merit("series number", facts.number, f"series number {facts.number:g}"),
        Merit("series UID", facts.uid, f"UID {' '.join(facts.uid)}".strip()),
    ]  # fmt: skip


def lost(merits: list[Merit], best: list[Merit]) -> tuple[str, str]:
    """Where a candidate fell behind the best: the merit's name, and the finding against the best's."""
    mine, its = next((mine, its) for mine, its in zip(merits, best, strict=True) if mine.key != its.key)
    return mine.name, f"{mine.found}; the chosen series has {its.found}"
