"""The Imaging Data Commons' index of series, as the package idc-index-data ships it: no network is needed."""

from __future__ import annotations

from dataclasses import dataclass

from genomic_vit.config import UserError


class CommonsError(UserError):
    """The index is not installed, or lacks a collection."""


@dataclass(frozen=True)
class IndexRow:
    """One series of a collection. What the index does not tell is "" or 0.

    Args:
        patient, study_uid, series_uid: whose it is.
        study_date: ISO, as released (shifted).
        modality, sop_class: what it is.
        description, number: of the series.
        images: how many files.
        size_mb: of all of them, in 10^6 bytes.
        result_of: the analysis that made it; empty where it came with the collection.
    """

    patient: str
    study_uid: str
    series_uid: str
    study_date: str
    modality: str
    sop_class: str
    description: str
    number: str
    images: int
    size_mb: float
    result_of: str = ""


FIELDS = {
    "patient": "PatientID",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "study_date": "StudyDate",
    "modality": "Modality",
    "sop_class": "SOPClassUID",
    "description": "SeriesDescription",
    "number": "SeriesNumber",
    "images": "instanceCount",
    "size_mb": "series_size_MB",
    "result_of": "analysis_result_id",
}


def read_index(collection: str) -> tuple[tuple[IndexRow, ...], str]:
    """All series of a collection, and the index's version.

    Args:
        collection: its name in the Imaging Data Commons, such as nsclc_radiogenomics.

    Raises:
        CommonsError: idc-index is not installed, or the collection is not in it.
    """
    try:
        import idc_index_data
        import pyarrow.parquet
    except ImportError as cause:
        raise CommonsError(
            f"{cause.name} is not installed; plans and downloads need the extra idc: pip install idc-index"
        ) from cause
    table = pyarrow.parquet.read_table(
        idc_index_data.IDC_INDEX_PARQUET_FILEPATH,
        columns=[*FIELDS.values(), "collection_id"],
        filters=[("collection_id", "=", collection)],
    )
    if not table.num_rows:
        raise CommonsError(f"the index of idc-index-data {idc_index_data.__version__} has no collection {collection!r}")
    kinds = {"images": int, "size_mb": float}
    rows = tuple(
        IndexRow(**{name: kinds.get(name, str)(row[column] if row[column] is not None else kinds.get(name, str)())
                    for name, column in FIELDS.items()})
        for row in table.to_pylist()
    )  # fmt: skip
    return rows, idc_index_data.__version__
