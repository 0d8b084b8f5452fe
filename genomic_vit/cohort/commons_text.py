"""A plan for people: a summary, and a CSV with every series, its verdict and the reason."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from genomic_vit.cohort.commons_plan import FEW_IMAGES, Plan
from genomic_vit.cohort.manifest import ManifestError
from genomic_vit.cohort.presets import Preset
from genomic_vit.cohort.table import write_rows

HEADER = ("patient", "verdict", "reason", "modality", "description", "number", "images", "size_mb", "study_date",
          "study_uid", "series_uid")  # fmt: skip
NOTE = (
    "The index knows no ImageType, orientation, kernel, thickness or frame of reference: localizers, reformats, "
    "projections, PET attenuation CT, other parts of the body, kernel and thickness are judged by SeriesDescription "
    f"(below {FEW_IMAGES} images: a localizer); thickness, where not stated, as 300 mm over the number of images. "
    "The headers decide when the manifest is built."
)


def summary(plan: Plan, preset: Preset) -> str:
    """What would be used and what not, counted, with sizes."""
    patients, scans = len(plan.patients), plan.patients_with("chosen")
    both = plan.patients_with("chosen", "lesion")
    wanted, every = plan.wanted(), [one.row for one in plan.series]
    counted = Counter(row.modality for row in every)
    lines = [
        f"{preset.title} (idc-index-data {plan.version})",
        f"  {patients} patients, {len(every)} series: {', '.join(f'{n} {kind}' for kind, n in counted.most_common())}; "
        f"{sum(row.size_mb for row in every) / 1000:.1f} GB",
        f"  {len(scans)} patients have a series that can be the scan, {len(both)} of them a lesion object as well",
        f"  to fetch: {len(wanted)} series of {len(both)} patients, {sum(row.size_mb for row in wanted) / 1000:.1f} GB",
        "  refused:",
    ]
    refused = Counter(_kind(one.reason) for one in plan.series if one.verdict == "refused")
    lines += [f"    {count:5} {reason}" for reason, count in refused.most_common()]
    without = sorted(set(plan.patients) - scans)
    if without:
        names = ", ".join(without[:6]) + (", …" if without[6:] else "")
        lines.append(f"  no series for the scan: {len(without)} patients ({names})")
    return "\n".join([*lines, NOTE])


def write_plan(plan: Plan, path: Path, *, overwrite: bool = False) -> None:
    """Every series with its verdict and reason; the chosen first within a patient.

    Raises:
        ManifestError: the file exists.
    """
    if path.exists() and not overwrite:
        raise ManifestError(f"{path}: exists; pass --overwrite, or another --out.")
    order = ("chosen", "beside", "lesion", "refused")
    rows = sorted(plan.series, key=lambda one: (one.row.patient, order.index(one.verdict)))
    cells = [
        (row.patient, one.verdict, one.reason, row.modality, row.description, row.number, row.images,
         f"{row.size_mb:.2f}", row.study_date, row.study_uid, row.series_uid)
        for one in rows for row in (one.row,)
    ]  # fmt: skip
    write_rows(path, [HEADER, *cells])


def _kind(reason: str) -> str:
    """A reason without what differs from series to series."""
    if "the chosen series has" in reason:
        return "another series of the patient comes first in the order"
    return re.sub(r" \([^()]*\)$", "", re.sub(r"holds \d+ images", "holds few images", reason))
