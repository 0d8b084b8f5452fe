"""Fetch the planned series of a collection from the Imaging Data Commons, by idc-index's own client."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from genomic_vit.cohort.commons_index import CommonsError, IndexRow

FOLDERS = "%PatientID/%StudyInstanceUID/%Modality_%SeriesInstanceUID"  # below the target folder
log = logging.getLogger(__name__)


class Client(Protocol):
    """What is used of idc_index.IDCClient."""

    def download_from_selection(self, downloadDir: str, **options: object) -> None: ...


def series_folder(row: IndexRow) -> str:
    """Where a series lies below the target folder."""
    return f"{row.patient}/{row.study_uid}/{row.modality}_{row.series_uid}"


def fetch(rows: Sequence[IndexRow], folder: Path, client: Client | None = None) -> int:
    """Download series that are not there whole yet; returns how many were fetched.

    Args:
        rows: the series.
        folder: where to; PATIENT/STUDY/MODALITY_SERIES below it.
        client: an idc_index.IDCClient; None makes one.

    Raises:
        CommonsError: idc-index is not installed, the client fails, or series are not whole afterwards; what came is
            kept, and the same command goes on from there.
    """
    lacking = [row for row in rows if not _whole(row, folder)]
    if not lacking:
        return 0
    client = client or _client()
    folder.mkdir(parents=True, exist_ok=True)
    total_mb = sum(row.size_mb for row in lacking)
    log.info("fetching %d of %d series, %.1f GB, into %s", len(lacking), len(rows), total_mb / 1000, folder)
    try:
        client.download_from_selection(
            downloadDir=str(folder),
            seriesInstanceUID=[row.series_uid for row in lacking],
            dirTemplate=FOLDERS,
            use_s5cmd_sync=any(folder.iterdir()),
            show_progress_bar=True,
        )
    except KeyboardInterrupt:
        raise
    except Exception as cause:  # the client raises many kinds; to the user they are one
        raise CommonsError(
            f"the download stopped ({type(cause).__name__}: {cause}); the same command goes on where it stopped."
        ) from cause
    broken = [row for row in lacking if not _whole(row, folder)]
    if broken:
        listed = ", ".join(f"{row.patient} {row.modality} {row.description or row.series_uid}" for row in broken[:5])
        raise CommonsError(
            f"{folder}: {len(broken)} of {len(lacking)} series did not come whole ({listed}"
            f"{', …' if len(broken) > 5 else ''}); the same command goes on where it stopped."
        )
    return len(lacking)


def _whole(row: IndexRow, folder: Path) -> bool:
    place = folder / series_folder(row)
    return place.is_dir() and sum(1 for path in place.iterdir() if path.suffix == ".dcm") >= row.images


def _client() -> Client:
    try:
        from idc_index import IDCClient
    except ImportError as cause:
        raise CommonsError(
            f"{cause.name} is not installed; downloads need the extra idc: pip install idc-index"
        ) from cause
    return IDCClient.client()
