"""Which kind of file a lesion source is."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.write import SUFFIXES

Kind = Literal["mask", "SEG", "RTSTRUCT", "boxes"]
KINDS: dict[str, Kind] = {
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",  # label map
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
}
KNOWN = (
    f"a lesion is a mask image ({' '.join(SUFFIXES)}), a DICOM SEG or RTSTRUCT, a CSV of pixel boxes, a point x,y,z or "
    "a box box:x0,y0,z0,x1,y1,z1 in mm; with --field lung none is needed"
)


def find_lesion_file(source: str | Path) -> tuple[Path, Kind]:
    """The file that a source names, or the one SEG or RTSTRUCT in the folder it names, and its kind.

    Raises:
        LesionError: there is none, or several, or it is of no known kind.
    """
    path = Path(source)
    if not str(source).strip() or not path.exists():
        what = "no lesion is given" if not str(source).strip() else f"{source}: no such file or folder"
        raise LesionError(f"{what}; check the path (manifest paths are relative to the manifest). Known: {KNOWN}.")
    if path.is_dir():
        return _in_folder(path)
    if path.name.lower().endswith(SUFFIXES):
        return path, "mask"
    if path.name.lower().endswith((".csv", ".tsv")):
        return path, "boxes"
    kind, found = _dicom_kind(path)
    if kind is None:
        raise LesionError(f"{path}: is {found}; {KNOWN}.")
    return path, kind


def _in_folder(folder: Path) -> tuple[Path, Kind]:
    kinds = ((path, _dicom_kind(path)[0]) for path in sorted(folder.rglob("*")) if path.is_file())
    found = [(path, kind) for path, kind in kinds if kind]
    if not found:
        raise LesionError(f"{folder}: a folder without SEG or RTSTRUCT; {KNOWN}.")
    if len(found) > 1:
        listed = ", ".join(f"{path.relative_to(folder)} ({kind})" for path, kind in found[:8])
        raise LesionError(
            f"{folder}: holds {len(found)} SEG and RTSTRUCT files ({listed}{' …' if len(found) > 8 else ''}); name the "
            "one that draws the lesion."
        )
    return found[0]


def _dicom_kind(path: Path) -> tuple[Kind | None, str]:
    """The kind of a DICOM lesion file, or None and what it is instead."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError
    from pydicom.uid import UID

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's words on bad values may quote them
            head = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
            uid = UID(str(head.get("SOPClassUID", "")))
    except InvalidDicomError:
        return None, "no format known here"
    except Exception as cause:  # a damaged file raises many kinds
        return None, f"no readable DICOM file ({type(cause).__name__})"
    known = uid.name != str(uid)  # a damaged header may hold anything there, names of patients too
    return KINDS.get(uid), f"a DICOM file of the kind {uid.name}" if known else "a DICOM file of no known kind"
