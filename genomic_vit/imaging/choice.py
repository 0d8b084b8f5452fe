"""Which series of a tree is the scan, by one stated rule, and why each other is not (docs/scans.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genomic_vit.imaging.candidate import Candidate, Unfit, make_candidate, needed
from genomic_vit.imaging.dicom import Series, is_localizer
from genomic_vit.imaging.merit import ATTENUATION, Facts, Merit, lost, rank
from genomic_vit.imaging.stack import OnGap, StackError

CT_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
KINDS = {  # what else lies in a patient's folder
    "PT": "PET",
    "NM": "nuclear medicine",
    "MR": "MR",
    "SR": "structured report (a dose report, most often)",
    "SEG": "segmentation",
    "RTSTRUCT": "contours",
    "RTDOSE": "radiotherapy dose",
    "RTPLAN": "radiotherapy plan",
    "PR": "presentation state",
    "KO": "key object note",
    "OT": "secondary capture or other",
    "REG": "registration",
    "CR": "radiograph",
    "DX": "radiograph",
}
TILTED_DEG = 35.0  # the normal may lean this far from the head-foot axis
COVERED = 0.5  # least share of the wanted points inside a series
PROJECTIONS = ("MIP", "MINIP", "PROJECTION", "PROJECTION IMAGE", "AVERAGE", "VOLUME RENDERING", "VRT", "SCREEN SAVE")
REFORMATS = ("MPR", "REFORMATTED", "CPR", "CURVED", "RESAMPLED")


@dataclass(frozen=True, eq=False)
class Wanted:
    """What a lesion asks of the scan it belongs to.

    Args:
        series_uid, frame_uid: the SeriesInstanceUID or FrameOfReferenceUID it names.
        sop_uids: the images it names.
        points_mm: (k, 3) LPS points the scan must cover.
    """

    series_uid: str | None = None
    frame_uid: str | None = None
    sop_uids: frozenset[str] = frozenset()
    points_mm: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.points_mm is not None:
            points_mm = np.array(self.points_mm, dtype=np.float64).reshape(-1, 3)
            object.__setattr__(self, "points_mm", points_mm if len(points_mm) else None)


@dataclass(frozen=True, eq=False)
class Choice:
    """The scan among the series of a tree.

    Args:
        chosen: it.
        why: in what it came first; "the only usable series" where there was no other.
        refused: (name, reason) of every other series.
        studies: how many studies hold a usable series.
    """

    chosen: Candidate
    why: str
    refused: tuple[tuple[str, str], ...]
    studies: int


def choose(series: tuple[Series, ...], wanted: Wanted, on_gap: OnGap) -> Choice | tuple[tuple[str, str], ...]:
    """The series to read; where none can be, the reasons of all of them.

    The order: original before derived, no PET attenuation CT before one, more of the lesion, thinner class of slices,
    kernel (standard, soft, unknown, sharp), more slices, thinner, earlier study, lower series number, lower UID.

    Args:
        series: all of a tree.
        wanted: what the lesion asks.
        on_gap: "error" refuses series with missing or uneven slices, "resample" fills them.
    """
    here = _named(series, wanted)
    pet = {one.first.frame_uid for one in series if one.first.modality == "PT"} - {""}
    fit, refused = [], []
    for one in series:
        try:
            _check_kind(one, one in here)
            if here and one not in here:
                raise Unfit(_not_named(one, wanted))
            candidate = make_candidate(one, on_gap)
            fit.append((_rank(candidate, wanted, pet, named=one in here), candidate))
        except (Unfit, StackError) as reason:
            refused.append((one.name, str(reason)))
    if not fit:
        return tuple(refused)
    fit.sort(key=lambda pair: [merit.key for merit in pair[0]])
    (best, chosen), others = fit[0], fit[1:]
    refused += [(candidate.series.name, lost(merits, best)[1]) for merits, candidate in others]
    why = lost(others[0][0], best)[0] if others else "the only usable series"
    studies = {candidate.series.first.study_uid for _, candidate in fit}
    return Choice(chosen, why, tuple(refused), len(studies))


def _named(series: tuple[Series, ...], wanted: Wanted) -> list[Series]:
    """The series that the lesion names by its UID or its images, or else by the frame of reference."""
    named = [
        one
        for one in series
        if one.first.series_uid == wanted.series_uid or any(frame.sop_uid in wanted.sop_uids for frame in one.frames)
    ]
    if not named and wanted.frame_uid:
        named = [one for one in series if one.first.frame_uid == wanted.frame_uid]
    return [one for one in named if one.first.modality == "CT"]


def _not_named(one: Series, wanted: Wanted) -> str:
    if wanted.series_uid or wanted.sop_uids:
        its = wanted.series_uid or "by its images"
        return f"the lesion belongs to another series ({its}; this is {one.first.series_uid})"
    return (
        f"the lesion lies in another frame of reference ({wanted.frame_uid}; this is {one.first.frame_uid or 'none'})"
    )


def _check_kind(series: Series, named: bool) -> None:
    """Raise Unfit for what can be no CT volume; for what should not be, unless the lesion names it."""
    first = series.first
    if first.modality != "CT":
        raise Unfit(f"it is no CT: {KINDS.get(first.modality, 'of another kind')} ({first.modality or 'no modality'})")
    if first.sop_class not in CT_CLASSES:
        raise Unfit("it is a secondary capture or report, not CT images (by its SOPClassUID)")
    if first.pixels.samples != 1:
        raise Unfit(f"it is in colour ({first.pixels.samples} values a pixel), a screenshot or report")
    if is_localizer(first):
        raise Unfit("it is a localizer (scout)")
    missing = [name for name, value in needed(first).items() if value is None or value == (0, 0)]
    if missing:
        raise Unfit(f"its header lacks {', '.join(missing)}")
    if named:
        return
    lean_deg = _lean_deg(first.orientation)
    if lean_deg > TILTED_DEG:
        raise Unfit(
            f"it is not axial, a reformat or scout (its slices' normal leans {lean_deg:.0f} degrees from head-foot)"
        )
    unlike = [word for word in (*PROJECTIONS, *REFORMATS) if word in first.image_type]
    if unlike:
        raise Unfit(f"it is computed from another series (ImageType {unlike[0]})")


def _lean_deg(orientation: tuple[float, ...]) -> float:
    normal = np.cross(orientation[:3], orientation[3:])
    return float(np.degrees(np.arccos(np.clip(abs(normal[2]) / max(np.linalg.norm(normal), 1e-9), 0, 1))))


def _rank(candidate: Candidate, wanted: Wanted, pet: set[str], named: bool) -> list[Merit]:
    """The candidate's merits, in the order in which they count."""
    series, geometry, first = candidate.series, candidate.stack.geometry, candidate.series.first
    derived = "ORIGINAL" not in first.image_type and not named
    attenuation = not named and (bool(ATTENUATION.search(first.facts["description"])) or first.frame_uid in pet)
    covered = _covered(candidate, wanted)
    if covered < COVERED and not named:
        raise Unfit(f"it covers {covered:.0%} of the lesion, at least {COVERED:.0%} is needed")
    thick_mm = max(float(geometry.spacing_mm[0]), _number(first.facts["thickness_mm"]))
    facts = Facts(
        derived=derived,
        attenuation=attenuation,
        covered=covered,
        thick_mm=thick_mm,
        kernel=first.facts["kernel"],
        slices=geometry.shape[0],
        study_date=first.study_date,
        number=_number(first.facts["number"]),
        uid=(first.series_uid, series.part),
    )
    return rank(facts)


def _covered(candidate: Candidate, wanted: Wanted) -> float:
    """Share of the wanted images, or else of the wanted points, that lies in the candidate; 1 where none are wanted."""
    if wanted.sop_uids:
        return len(wanted.sop_uids & {frame.sop_uid for frame in candidate.frames}) / len(wanted.sop_uids)
    if wanted.points_mm is None:
        return 1.0
    geometry = candidate.stack.geometry
    index = geometry.to_index(wanted.points_mm)
    return float(((index >= -0.5) & (index <= np.array(geometry.shape) - 0.5)).all(axis=1).mean())


def _number(text: str) -> float:
    try:
        return float(text.split("\\")[0])
    except ValueError:
        return 0.0
