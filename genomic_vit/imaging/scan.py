"""A scan, opened by its headers alone: where it lies and what it is; voxels are read when they are asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from genomic_vit.imaging.archive import is_archive, unpack
from genomic_vit.imaging.choice import Candidate, Choice, Wanted, choose
from genomic_vit.imaging.dicom import Tree, read_tree
from genomic_vit.imaging.errors import ScanError
from genomic_vit.imaging.files import is_image, open_image
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.pixels import AIR_HU, frame_hu
from genomic_vit.imaging.plausible import check_chest, check_range, check_spacing
from genomic_vit.imaging.stack import OnGap
from genomic_vit.imaging.volume import Volume

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeriesIdentity:
    """Who a DICOM series is.

    Args:
        series_uid, study_uid, frame_uid: SeriesInstanceUID, StudyInstanceUID, FrameOfReferenceUID.
        sop_uids: SOPInstanceUID of each slice, along array axis z; "" where a slice was resampled.
    """

    series_uid: str
    study_uid: str
    frame_uid: str
    sop_uids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan whose voxels are still on disk.

    Args:
        path: what was opened.
        geometry: of the whole scan; gaps and gantry tilt are already dealt with.
        identity: of the DICOM series; None for other formats.
        facts: of acquisition, as text; nothing that tells who was scanned.
        refused: (name, reason) of every series that was not chosen and every file that was left out.
        load: gives the float32 HU of slices first..last, both included.
        files: gives the files that slices first..last are read from; () where the scan is one file.
    """

    path: Path
    geometry: Geometry
    identity: SeriesIdentity | None
    facts: dict[str, str]
    refused: tuple[tuple[str, str], ...]
    load: Callable[[int, int], np.ndarray] = field(repr=False)
    files: Callable[[int, int], tuple[Path, ...]] = field(default=lambda first, last: (), repr=False)

    def read(self, first: int = 0, last: int | None = None) -> Volume:
        """Slices `first` to `last` of array axis z, both included, float32 HU; values below -1024 become -1024.

        Raises:
            ScanError: the voxels cannot be read, are NaN, or are no HU.
            IndexError: the scan has no such slices.
        """
        last = self.geometry.shape[0] - 1 if last is None else last
        if not 0 <= first <= last < self.geometry.shape[0]:
            raise IndexError(f"slices {first} to {last} of a scan of {self.geometry.shape[0]}")
        array = self.load(first, last)
        check_range(self.path, array)
        np.maximum(array, AIR_HU, out=array)
        geometry = self.geometry
        origin_mm = geometry.to_lps(np.array([first, 0, 0]))
        return Volume(array, Geometry(array.shape, geometry.spacing_mm, origin_mm, geometry.direction))


def open_scan(path: str | Path, *, wanted: Wanted | None = None, on_gap: OnGap = "error") -> Scan:
    """Open a CT scan by its headers.

    Args:
        path: a .nii, .nii.gz, .nrrd, .mha or .mhd file; a DICOM folder of any depth and mixture; a DICOM file of many
            frames; or a zip or tar of one of these.
        wanted: what a lesion asks of the scan; decides between series.
        on_gap: "error" refuses a DICOM series with missing or uneven slices, "resample" interpolates them.

    Raises:
        ScanError: nothing usable is there; the message says what was found and why it was refused.
    """
    path, wanted = Path(path), wanted or Wanted()
    if not path.exists():
        raise ScanError(
            f"{path}: no such file or folder; check the path (manifest paths are relative to the manifest)."
        )
    if path.is_file() and is_image(path):
        scan = _open_file(path, path)
    elif path.is_file() and is_archive(path):
        scan = _open_archive(path, wanted, on_gap)
    else:
        scan = _open_folder(path, path.parent if path.name.upper() == "DICOMDIR" else path, wanted, on_gap)
    check_spacing(path, scan.geometry)
    return scan


def read_scan(path: str | Path, *, wanted: Wanted | None = None, on_gap: OnGap = "error") -> Volume:
    """Read a whole CT scan: `open_scan(...).read()`.

    Returns:
        Volume with float32 HU `[z y x]` and its geometry in LPS mm; in file order, DICOM along the slices' normal.

    Raises:
        ScanError: as `open_scan` and `Scan.read`.
    """
    return open_scan(path, wanted=wanted, on_gap=on_gap).read()


def _open_archive(path: Path, wanted: Wanted, on_gap: OnGap) -> Scan:
    unpacked = unpack(path)  # lives as long as the scan's `load`

    def named(call: Callable):
        try:
            return call()
        except ScanError as problem:
            raise ScanError(str(problem).replace(str(unpacked.folder), str(path))) from None

    scan = named(lambda: _open_folder(path, unpacked.folder, wanted, on_gap))
    return replace(scan, load=lambda first, last: named(lambda: scan.load(first, last)))


def _open_file(path: Path, file: Path) -> Scan:
    image = open_image(file, ScanError)

    def load(first: int, last: int) -> np.ndarray:
        array = image.load()
        check_chest(path, array)  # no header says that the values are HU
        return array[first : last + 1]

    return Scan(path, image.geometry, None, {}, (), load)


def _open_folder(path: Path, folder: Path, wanted: Wanted, on_gap: OnGap) -> Scan:
    """The scan in `folder` (or DICOM file), called `path` in messages: a DICOM series, or else the one image file."""
    tree = read_tree(folder)
    if tree.series:
        return _open_dicom(path, tree, wanted, on_gap)
    images = [file for file in tree.others if is_image(file)]
    if folder.is_file() and not tree.damaged:
        return _open_file(path, folder)
    if len(images) > 1:
        names = ", ".join(file.name for file in images[:5])
        raise ScanError(f"{path}: holds {len(images)} image files ({names}) and no DICOM series; name the one meant.")
    if images and not tree.damaged:
        return _open_file(path, images[0])
    raise ScanError(_nothing_here(path, tree))


def _open_dicom(path: Path, tree: Tree, wanted: Wanted, on_gap: OnGap) -> Scan:
    damaged = [(file.name, reason) for file, reason in tree.damaged]
    choice = choose(tree.series, wanted, on_gap)
    if not isinstance(choice, Choice):
        listed = "".join(f"\n  {name}: {reason}" for name, reason in (*choice, *damaged))
        hint = "\nThis is one file of a series: name the folder it lies in." if tree.is_one_image else ""
        raise ScanError(f"{path}: none of the DICOM series here can be used as the scan:{listed}{hint}")
    chosen = choice.chosen
    damaged += [(frame.path.name, frame.damage) for frame in chosen.series.frames if frame.damage]
    for name, reason in damaged:
        log.warning("%s: %s is left out: %s", path, name, reason)
    if choice.studies > 1:
        log.warning(
            "%s: %d studies hold usable CT; %s is taken. If another is meant, name its folder.",
            path, choice.studies, chosen.series.name,
        )  # fmt: skip
    first = chosen.series.first
    own = [
        chosen.frames[k].sop_uid if w == 0 else "" for k, w in zip(chosen.stack.below, chosen.stack.weight, strict=True)
    ]
    tilted = chosen.stack.shift_px is not None
    identity = SeriesIdentity(
        first.series_uid, first.study_uid, first.frame_uid, tuple("" if tilted else uid for uid in own)
    )
    facts = {**first.facts, "chosen_by": choice.why, "tilt_found_deg": f"{chosen.tilt_deg:.1f}"}
    return Scan(
        path, chosen.stack.geometry, identity, facts, (*choice.refused, *damaged), _loader(chosen), _files(chosen)
    )


def _loader(chosen: Candidate) -> Callable[[int, int], np.ndarray]:
    return lambda first, last: chosen.stack.read(first, last, lambda k: frame_hu(chosen.frames[k]))


def _files(chosen: Candidate) -> Callable[[int, int], tuple[Path, ...]]:
    below, weight = chosen.stack.below, chosen.stack.weight

    def files(first: int, last: int) -> tuple[Path, ...]:
        frames = {k for z in range(first, last + 1) for k in ((below[z], below[z] + 1) if weight[z] else (below[z],))}
        return tuple(dict.fromkeys(chosen.frames[k].path for k in sorted(frames)))

    return files


def _nothing_here(path: Path, tree: Tree) -> str:
    found = f"{len(tree.others)} other files" if tree.others else "it is empty"
    if tree.damaged:
        listed = "; ".join(f"{file.name}: {reason}" for file, reason in tree.damaged[:3])
        found = f"{len(tree.damaged)} damaged DICOM files ({listed})"
    return f"{path}: holds no DICOM series ({found}); name a folder with the CT images, or an image file."
