"""One case from disk to slabs, reading no more of the scan than they need."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from genomic_vit.config import LesionConfig, RunConfig, SlabConfig
from genomic_vit.data.slab import Slab, cut_planned, plan_slab
from genomic_vit.imaging.lesion import Lesion, open_scan_of, read_lesions
from genomic_vit.imaging.scan import Scan
from genomic_vit.imaging.stack import OnGap


@dataclass(frozen=True)
class Reading:
    """Everything that decides what becomes of a scan and its lesion before a network sees them."""

    slab: SlabConfig = field(default_factory=SlabConfig)
    lesion: LesionConfig = field(default_factory=LesionConfig)
    on_gap: OnGap = "error"

    @classmethod
    def of(cls, config: RunConfig) -> Reading:
        """That of a run."""
        return cls(config.slab, config.lesion, config.scan.on_gap)


@dataclass(frozen=True, eq=False)
class CutCase:
    """What became of a case.

    Args:
        scan: opened; its geometry is that of the whole scan.
        lesions: one, or several with `lesion.lesions` each.
        slabs: one for each of them.
        files: what slices were read from, where the scan is many files.
    """

    scan: Scan
    lesions: tuple[Lesion, ...]
    slabs: tuple[Slab, ...]
    files: tuple[Path, ...]


def cut_case(scan: str | Path, lesion: str | Path, reading: Reading) -> CutCase:
    """Open a scan by its headers, read the lesion, then the slices that its slab needs, and cut.

    Args:
        scan: whatever `open_scan` takes.
        lesion: whatever `read_lesions` takes.
        reading: settings.

    Raises:
        ScanError, LesionError: as `open_scan`, `read_lesions` and `cut_planned`.
    """
    opened = open_scan_of(lesion, scan, reading.lesion, reading.on_gap)
    lesions = read_lesions(lesion, opened, reading.lesion)
    whole = 0, opened.geometry.shape[0] - 1
    slabs, files = [], dict.fromkeys(opened.files(*whole) if any(found.measured == "lung" for found in lesions) else ())
    for found in lesions:
        plan = plan_slab(opened.geometry, found.mask, reading.slab)
        needed = plan.slices(opened.geometry) if opened.identity else whole  # an image file is read and checked whole
        files |= dict.fromkeys(opened.files(*needed))
        slabs.append(cut_planned(plan, opened.read(*needed), found.mask, found.measured))
    return CutCase(opened, lesions, tuple(slabs), tuple(files))
