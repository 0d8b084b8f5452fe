"""DICOM slices, SEG and RTSTRUCT written from known masks and outlines, and scans to put them on."""

from __future__ import annotations

import warnings
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import pack_bits
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from genomic_vit import Geometry
from genomic_vit.imaging.scan import Scan, SeriesIdentity

MAKER = {
    "manufacturer": "phantom",
    "manufacturer_model_name": "phantom",
    "software_versions": "1",
    "device_serial_number": "1",
}


def slices_of(
    geometry: Geometry, *, frame_uid: str | None = None, shift_mm: np.ndarray | None = None, thickness_mm: float = 1.0
) -> list[Dataset]:
    """One CT image (of zeros) for each slice of a grid; `shift_mm` (z 3) moves each slice, as a gantry tilt does."""
    study, series, frame = generate_uid(), generate_uid(), frame_uid or generate_uid()
    images = []
    for z in range(geometry.shape[0]):
        image = dicom_dataset(CTImageStorage)
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.Modality, image.SeriesNumber, image.InstanceNumber = "CT", 1, z + 1
        place = geometry.to_lps(np.array([z, 0, 0])) + (0 if shift_mm is None else shift_mm[z])
        image.ImagePositionPatient = [round(float(mm), 6) for mm in place]
        turned = np.concatenate([geometry.direction[:, 2], geometry.direction[:, 1]])
        image.ImageOrientationPatient = [round(float(part), 8) for part in turned]
        image.PixelSpacing = [float(mm) for mm in geometry.spacing_mm[1:]]
        image.SliceThickness = thickness_mm
        image.Rows, image.Columns = geometry.shape[1:]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.RescaleSlope, image.RescaleIntercept = 1, 0
        image.PixelData = np.zeros(geometry.shape[1:], np.int16).tobytes()
        images.append(image)
    return images


def dicom_dataset(sop_class: str) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = sop_class
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.PatientID, data.PatientName = "P1", "Doe^Jane"
    for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
        setattr(data, keyword, "")
    data.ReferringPhysicianName = ""
    return data


def scan_of(geometry: Geometry, slices: list[Dataset] | None) -> Scan:
    """A scan on that grid with the slices' identity; None makes a scan that is no DICOM series."""
    identity = None
    if slices is not None:
        first = slices[0]
        sops = tuple(str(image.SOPInstanceUID) for image in slices)
        uids = (first.SeriesInstanceUID, first.StudyInstanceUID, first.FrameOfReferenceUID)
        identity = SeriesIdentity(*map(str, uids), sops)
    zeros = np.zeros(geometry.shape, np.float32)
    return Scan(Path("scan"), geometry, identity, {}, (), lambda first, last: zeros[first : last + 1])


def make_seg(slices: list[Dataset], masks: dict[str, np.ndarray], kind: str = "BINARY", **given) -> hd.seg.Segmentation:
    """A SEG of one segment a mask `[z y x]`; bool, or fractions for FRACTIONAL. Empty frames are left out."""
    described = [
        hd.seg.SegmentDescription(
            number,
            label,
            codes.SCT.MorphologicallyAbnormalStructure,
            codes.SCT.Neoplasm,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in enumerate(masks, start=1)
    ]
    array = np.stack(list(masks.values()), axis=-1)
    array = array if kind == "FRACTIONAL" else array.astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hd.seg.Segmentation(
            slices, array, kind, described, generate_uid(), 9, generate_uid(), 1, **MAKER, **given
        )


def reorder(seg: hd.seg.Segmentation, order: list[int]) -> hd.seg.Segmentation:
    """The frames of an uncompressed SEG in another order, each with its own place."""
    frames = seg.pixel_array.reshape(len(seg.PerFrameFunctionalGroupsSequence), seg.Rows, seg.Columns)[order]
    seg.PerFrameFunctionalGroupsSequence = Sequence([seg.PerFrameFunctionalGroupsSequence[i] for i in order])
    seg.PixelData = pack_bits(frames, pad=True) if seg.BitsAllocated == 1 else frames.tobytes()
    return seg


def make_rtstruct(
    rois: dict[str, list[np.ndarray] | list[tuple[str, np.ndarray]]], slices: list[Dataset], decimals: int = 4
) -> Dataset:
    """An RTSTRUCT that references the slices; each ROI a list of outlines (point 3) in LPS mm, or (type, points)."""
    first = slices[0]
    data = dicom_dataset(RTStructureSetStorage)
    data.Modality, data.StudyInstanceUID, data.SeriesInstanceUID = "RTSTRUCT", first.StudyInstanceUID, generate_uid()
    images = Sequence([_item(ReferencedSOPInstanceUID=image.SOPInstanceUID) for image in slices])
    series = _item(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=images)
    study = _item(RTReferencedSeriesSequence=Sequence([series]))
    frame = _item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=Sequence([study]))
    data.ReferencedFrameOfReferenceSequence = Sequence([frame])
    data.StructureSetROISequence, data.ROIContourSequence = Sequence(), Sequence()
    for number, (name, outlines) in enumerate(rois.items(), start=1):
        data.StructureSetROISequence.append(
            _item(ROINumber=number, ROIName=name, ReferencedFrameOfReferenceUID=first.FrameOfReferenceUID)
        )
        contours = Sequence()
        for outline in outlines:
            kind, points = outline if isinstance(outline, tuple) else ("CLOSED_PLANAR", outline)
            numbers = [f"{mm:.{decimals}f}" for mm in np.asarray(points).ravel()]
            contours.append(
                _item(ContourGeometricType=kind, NumberOfContourPoints=len(numbers) // 3, ContourData=numbers)
            )
        data.ROIContourSequence.append(_item(ReferencedROINumber=number, ContourSequence=contours))
    return data


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def saved(data: Dataset, path: Path) -> Path:
    data.save_as(path, enforce_file_format=True)
    return path
