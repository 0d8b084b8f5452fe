"""Cases out of a folder of scans: the right series and the right lesion of each patient, by headers alone."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from genomic_vit.cohort.manifest import ManifestError
from genomic_vit.cohort.presets import Preset
from genomic_vit.config import LesionConfig, UserError
from genomic_vit.imaging.archive import is_archive
from genomic_vit.imaging.choice import Choice, Wanted, choose
from genomic_vit.imaging.dicom import Series, group_series, read_tree
from genomic_vit.imaging.lesion import want
from genomic_vit.imaging.stack import OnGap

FACTS = {"scanner": ("manufacturer", "model"), "kernel": ("kernel",), "thickness_mm": ("thickness_mm",)}


@dataclass(frozen=True)
class Found:
    """One case: its name, patient, scan, lesion (a file, the text of a point, or None), and facts of acquisition."""

    case: str
    patient: str
    scan: Path
    lesion: Path | str | None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Gathered:
    """What a folder gave: cases, (patient, reason) of everyone left out, and (file, reason) of damaged files."""

    cases: tuple[Found, ...]
    excluded: tuple[tuple[str, str], ...]
    damaged: tuple[tuple[str, str], ...] = ()


def gather_dicom(
    root: Path,
    preset: Preset,
    options: LesionConfig,
    *,
    points: Mapping[str, str] | None = None,
    on_gap: OnGap = "error",
    lesionless: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Gathered:
    """Cases of a DICOM tree of any depth and mixture.

    Args:
        root: the tree.
        preset: which objects in it hold lesions.
        options: how lesions are read.
        points: for patients without such an object, "x,y,z" in mm in the frame of `options`.
        on_gap: as `choose` takes it.
        lesionless: take patients without any lesion too.
        progress: called with (done, total) folders.

    Raises:
        ManifestError: there is no such folder, or no DICOM in it.
    """
    if not root.is_dir():
        raise ManifestError(f"{root}: no such folder; name the one that holds the DICOM files with --dicom.")
    frames, excluded, damaged, packed = [], [], [], 0
    units = _units(root)
    for done, unit in enumerate(units, start=1):
        tree = read_tree(unit)
        frames += [frame for series in tree.series for frame in series.frames]
        damaged += [(path.relative_to(root).as_posix(), reason) for path, reason in tree.damaged]
        packed += sum(is_archive(path) for path in tree.others)
        if progress:
            progress(done, len(units))
    by_patient: dict[str, list[Series]] = defaultdict(list)
    for series in group_series(frames):  # whose files may lie in several folders
        by_patient[_patient(series, root)].append(series)
    if not by_patient:
        hint = f"unpack its {packed} zip or tar files first" if packed else "name the folder that an export filled"
        raise ManifestError(f"{root}: holds no DICOM images; {hint}.")
    cases: list[Found] = []
    known = points or {}
    for patient in sorted(by_patient):
        found, reasons = _patient_cases(patient, by_patient, preset, options, known, on_gap, lesionless)
        cases += found
        excluded += [(patient, reason) for reason in reasons]
    return Gathered(tuple(cases), tuple(excluded), tuple(damaged))


def gather_msd(root: Path) -> Gathered:
    """Cases of a Medical Segmentation Decathlon task: imagesTr with the mask of the same name in labelsTr.

    Raises:
        ManifestError: there are no such folders.
    """
    images = next((path for path in (root / "imagesTr", root / "Task06_Lung" / "imagesTr") if path.is_dir()), None)
    if images is None:
        raise ManifestError(f"{root}: holds no imagesTr; name the unpacked folder Task06_Lung with --nifti.")
    cases, excluded = [], []
    for scan in sorted(images.glob("[!.]*.nii*")):
        name = scan.name.split(".nii")[0]
        lesion = images.parent / "labelsTr" / scan.name
        if lesion.is_file():
            cases.append(Found(name, name, scan, lesion))
        else:
            excluded.append((name, f"no mask {lesion.name} in labelsTr"))
    return Gathered(tuple(cases), tuple(excluded))


def _units(root: Path) -> list[Path]:
    """Folders to read one after the other: those below the first level that branches, and the files beside them."""
    while True:
        inside = sorted(path for path in root.iterdir() if not path.name.startswith("."))
        if len(inside) != 1 or not inside[0].is_dir():
            return inside
        root = inside[0]


def _patient(series: Series, root: Path) -> str:
    """PatientID of a series, or the name of its folder below the root where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(series.first.path, stop_before_pixels=True, force=True, specific_tags=["PatientID"])
    return str(header.get("PatientID") or "").strip() or series.first.path.relative_to(root).parts[0]


def _patient_cases(
    patient: str,
    by_patient: Mapping[str, list[Series]],
    preset: Preset,
    options: LesionConfig,
    points: Mapping[str, str],
    on_gap: OnGap,
    lesionless: bool,
) -> tuple[list[Found], list[str]]:
    """Cases of one patient, and why what lies there gives none."""
    series = by_patient[patient]
    lesions: list[Path | str | None] = _lesion_files(series, preset)
    reasons = []
    if not lesions and patient in points:
        lesions = [points[patient]]
    if not lesions and lesionless:
        lesions = [None]
    if not lesions:
        kinds = "SEG or RTSTRUCT" if preset.lesion == "any" else preset.lesion
        held = [one.first.facts["description"] for one in series if one.first.modality in ("SEG", "RTSTRUCT")]
        beside = f"; those there are others: {', '.join(sorted(set(held)))}" if held else ""
        return [], [f"no lesion: no {kinds} object of the tumour{beside}; give --points, or --without-lesion"]
    cases = []
    for lesion in lesions:
        try:
            wanted = Wanted() if lesion is None else want(lesion, options)
            choice, scan = _scan_of(patient, by_patient, wanted, on_gap)
        except UserError as problem:
            reasons.append(str(problem))
            continue
        name = patient if len(lesions) == 1 else f"{patient}_{len(cases) + 1}"
        facts = choice.chosen.series.first.facts
        told = {column: " ".join(filter(None, (facts[key] for key in keys))) for column, keys in FACTS.items()}
        cases.append(Found(name, patient, scan, lesion, told))
    return cases, reasons


def _lesion_files(series: list[Series], preset: Preset) -> list[Path]:
    """Files that hold the lesions; of several readers' drawings of one nodule, the one of middle extent."""
    held = [one for one in series if preset.holds_lesion(one.first.modality, one.first.facts["description"])]
    frames = [frame for one in held for frame in one.frames]
    if not preset.one_of:
        return sorted(frame.path for frame in frames)
    drawings = defaultdict(list)
    for frame in frames:
        named = re.search(preset.one_of, frame.facts["description"], re.I)
        drawings[named[0] if named else frame.path.name].append(frame)
    ordered = [sorted(alike, key=lambda frame: (frame.count, frame.path)) for _, alike in sorted(drawings.items())]
    return [alike[(len(alike) - 1) // 2].path for alike in ordered]


def _scan_of(
    patient: str, by_patient: Mapping[str, list[Series]], wanted: Wanted, on_gap: OnGap
) -> tuple[Choice, Path]:
    """The chosen series and the folder to open it by.

    Raises:
        UserError: no series can be the scan, or its folder is shared with other patients.
    """
    choice = choose(tuple(by_patient[patient]), wanted, on_gap)
    if not isinstance(choice, Choice):
        listed = "; ".join(f"{name}: {reason}" for name, reason in choice if "it is no CT" not in reason)
        raise UserError(f"no series can be the scan: {listed or 'there is no CT'}")
    folder = _folder([choice.chosen.series])
    if not (wanted.series_uid or wanted.sop_uids) and _shared(folder, patient, by_patient):
        raise UserError(f"its files lie beside those of other patients in {folder.name}; give each patient a folder")
    return choice, folder


def _shared(folder: Path, patient: str, by_patient: Mapping[str, list[Series]]) -> bool:
    """Whether files of another patient lie in a folder, or below it."""
    others = (one.first.path for other, series in by_patient.items() if other != patient for one in series)
    return any(folder in path.parents for path in others)


def _folder(series: list[Series]) -> Path:
    """The folder that all files of some series lie under."""
    return Path(os.path.commonpath([frame.path.parent for one in series for frame in one.frames]))
