"""Synthetic DICOM, written by pydicom from volumes whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds as ds

from genomic_vit import Geometry, Volume
from tests.scans import AXES, chest

ROOT = "1.2.826.0.1.3680043.8.498."
GRID = Geometry((10, 40, 44), np.array([2.5, 0.7, 0.8]), np.array([-120.0, 80.0, -300.0]), AXES)
SLOPE_MM = np.array([1.0, 0.37, 0.61])  # HU of `ramp` a millimetre along x, y, z
Edit = Callable[[Dataset, int], object]


def uid(number: int | str) -> str:
    return f"{ROOT}{number}"


def lung(geometry: Geometry = GRID) -> Volume:
    """A chest in whole HU, as scanners store it."""
    volume = chest(geometry)
    return Volume(np.round(volume.array), geometry)


def ramp_at(position_mm: np.ndarray) -> np.ndarray:
    """HU that are a linear function of place, which linear interpolation keeps."""
    return position_mm @ SLOPE_MM


def ramp(geometry: Geometry) -> Volume:
    return Volume(ramp_at(geometry.positions_mm()).astype(np.float32), geometry)


def ct_header(series: int = 1, study: int = 1, frame: int = 1) -> Dataset:
    """What is alike in all images of a series, with a patient's identifiers planted."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.Modality = CTImageStorage, "CT"
    header.PatientName, header.PatientID = "Planted^Name", "PLANTED-ID"
    header.PatientBirthDate, header.AccessionNumber = "19111213", "PLANTED-ACC"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.StudyInstanceUID, header.SeriesInstanceUID = uid(f"1.{study}"), uid(f"2.{series}")
    header.FrameOfReferenceUID = uid(f"3.{frame}")
    header.StudyDate, header.SeriesNumber, header.SeriesDescription = f"2001010{study}", series, "CHEST"
    header.Manufacturer, header.ConvolutionKernel, header.KVP, header.SliceThickness = "SIEMENS", "B40f", 120, 2.5
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    header.RescaleSlope, header.RescaleIntercept = 1, -1024
    return header


def place(header: Dataset, geometry: Geometry) -> None:
    """Rows, columns, pixel spacing and directions of a geometry."""
    header.Rows, header.Columns = geometry.shape[1:]
    header.PixelSpacing = [ds(float(x)) for x in geometry.spacing_mm[1:]]
    header.ImageOrientationPatient = [ds(float(x)) for x in (*geometry.direction[:, 2], *geometry.direction[:, 1])]


def stored(hu: np.ndarray, header: Dataset) -> bytes:
    """Pixel bytes of HU by the header's slope, intercept and signedness."""
    kind = "<i2" if header.PixelRepresentation else "<u2"
    return np.round((hu - float(header.RescaleIntercept)) / float(header.RescaleSlope)).astype(kind).tobytes()


def write_series(
    folder: Path, volume: Volume, edit: Edit | None = None, header: Dataset | None = None, name: str = "{k:03}.dcm"
) -> list[Path]:
    """One file a slice.

    Args:
        folder: where; made.
        volume: HU and place.
        edit: changes the data set of slice k just before it is written; returning False leaves it out.
        header: of the series.
        name: of the files; k counts slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    header = header or ct_header()
    paths = []
    for k in range(volume.geometry.shape[0]):
        image = Dataset()
        image.update(header)
        image.file_meta = header.file_meta
        place(image, volume.geometry)
        image.SOPInstanceUID = uid(f"4.{str(header.SeriesInstanceUID).split('.')[-1]}.{k + 1}")
        image.InstanceNumber = k + 1
        image.ImagePositionPatient = [ds(float(x)) for x in volume.geometry.to_lps(np.array([k, 0, 0]))]
        image.hu = volume.array[k]
        if edit is not None and edit(image, k) is False:
            continue
        if "PixelData" not in image:
            image.PixelData = stored(image.hu, image)
        del image.hu
        paths.append(folder / name.format(k=k))
        save(image, paths[-1])
    return paths


def save(image: Dataset, path: Path) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = image.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    image.file_meta = meta
    image["PixelData"].VR = "OW" if "PixelData" in image else None
    image.save_as(path, enforce_file_format=True)


def write_frames(path: Path, volume: Volume, times: int = 1, order: list[int] | None = None) -> Path:
    """An enhanced CT: every slice (and temporal position) a frame of one file, slope and place a frame's own."""
    image = ct_header()
    image.SOPClassUID, image.SOPInstanceUID = EnhancedCTImageStorage, uid("5.1")
    geometry = volume.geometry
    place(image, geometry)
    orientation, spacing = image.ImageOrientationPatient, image.PixelSpacing
    for keyword in ("ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "ConvolutionKernel"):
        delattr(image, keyword)
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=orientation)]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=spacing, SliceThickness=geometry.spacing_mm[0])]
    image.SharedFunctionalGroupsSequence = [shared]
    groups, pixels = [], b""
    for time in range(times):
        for k in order or range(geometry.shape[0]):
            values = _item(RescaleSlope=1, RescaleIntercept=-1000 - k)
            group = Dataset()
            position = [ds(float(x)) for x in geometry.to_lps(np.array([k, 0, 0]))]
            group.PlanePositionSequence = [_item(ImagePositionPatient=position)]
            group.PixelValueTransformationSequence = [values]
            group.FrameContentSequence = [_item(TemporalPositionIndex=time + 1)]
            groups.append(group)
            values.PixelRepresentation = 1
            pixels += stored(volume.array[k] + 10 * time, values)
            del values.PixelRepresentation
    image.PerFrameFunctionalGroupsSequence = groups
    image.NumberOfFrames, image.PixelData = len(groups), pixels
    save(image, path)
    return path


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def compress(path: Path, syntax: gdcm.TransferSyntax) -> None:
    """Encode a file's pixels anew, in place, by GDCM."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def check_same(read: Volume, truth: Volume, hu: float = 1.0) -> None:
    """The same voxels at the same places, to 0.1 mm and `hu`, whatever the order of axes."""
    read, truth = read.canonical(), truth.canonical()
    assert read.geometry.same_as(truth.geometry, 0.1), (read.geometry, truth.geometry)
    assert np.abs(read.array - truth.array).max() <= hu
