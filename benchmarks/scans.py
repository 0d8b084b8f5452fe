"""Reading a DICOM chest CT: this project against SimpleITK and MONAI, on one synthetic series, in one run.

    python -m benchmarks.scans [--slices 300] [--repeats 5]

Shows: time, peak memory and result of (1) SimpleITK's series reader, (2) MONAI's PydicomReader and (3) ours, each
reading the series whole, and of (4) ours preparing a case: headers, lesion, and only the slab's slices.
Each runs in processes of its own on warm files; the best of the repeats counts. Memory is the process's peak resident
size, and beside it what the imports alone take. Time: about a minute on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SHAPE_PX, SPACING_MM = 512, (1.0, 0.7, 0.7)
ORIGIN_MM = (-179.0, -179.0, -400.0)
LESION_MM = "-60,20,-250"
WAYS = {
    "simpleitk": "SimpleITK, series read whole",
    "monai": "MONAI PydicomReader, series read whole",
    "whole": "genomic_vit, series read whole",
    "prepare": "genomic_vit, case prepared (headers, lesion, slab)",
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scans", description=__doc__.split("\n")[0])
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.one:
        print(json.dumps(measure(options.one, Path(options.folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder), options.slices)
        results = {way: best_of(way, Path(folder), options.repeats) for way in WAYS}
    print(table(results, options.slices))


def truth(k: int) -> np.ndarray:
    """HU of slice k (y x): body, two lungs with texture, air; whole numbers."""
    y, x = np.mgrid[:SHAPE_PX, :SHAPE_PX]
    body = ((x - 256) / 230) ** 2 + ((y - 256) / 170) ** 2 < 1
    lungs = (((abs(x - 256) - 105) / 80) ** 2 + ((y - 256) / 120) ** 2 < 1) & body
    noise = np.random.default_rng(k).integers(-20, 21, (SHAPE_PX, SHAPE_PX))
    hu = np.where(lungs, -850, np.where(body, 40, -1000)) + noise
    return np.maximum(hu, -1024).astype(np.int16)


def write_series(folder: Path, slices: int) -> None:
    """One CT image a slice, with the header of a common scanner (some 90 elements, private ones among them)."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for k in range(slices):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID, image.SOPInstanceUID, image.Modality = CTImageStorage, generate_uid(), "CT"
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.ImageType, image.SeriesDescription = ["ORIGINAL", "PRIMARY", "AXIAL"], "CHEST 1.0 B40f"
        for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
            setattr(image, keyword, "20010101")
        for keyword in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
            setattr(image, keyword, "101010.123456")
        for keyword in ("StudyDescription", "ProtocolName", "StationName", "InstitutionName", "SoftwareVersions"):
            setattr(image, keyword, "SYNTHETIC CHEST")
        for keyword in ("DataCollectionDiameter", "DistanceSourceToDetector", "DistanceSourceToPatient", "TableHeight"):
            setattr(image, keyword, 500)
        for keyword in ("ExposureTime", "XRayTubeCurrent", "Exposure", "GeneratorPower"):
            setattr(image, keyword, 200)
        block = image.private_block(0x0019, "SYNTHETIC HEADER", create=True)
        for offset in range(40):
            block.add_new(offset, "LO", f"private value {offset}")
        image.Manufacturer, image.ManufacturerModelName, image.ConvolutionKernel = "SIEMENS", "Model", "B40f"
        image.KVP, image.SliceThickness, image.PatientPosition, image.GantryDetectorTilt = 120, SPACING_MM[0], "HFS", 0
        image.SeriesNumber, image.AcquisitionNumber, image.InstanceNumber = 2, 1, slices - k
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [ORIGIN_MM[0], ORIGIN_MM[1], ORIGIN_MM[2] + k * SPACING_MM[0]]
        image.PixelSpacing, image.Rows, image.Columns = list(SPACING_MM[1:]), SHAPE_PX, SHAPE_PX
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        image.PixelData = (truth(k) + 1024).astype("<u2").tobytes()
        image["PixelData"].VR = "OW"
        image.save_as(folder / f"{k:04}.dcm", enforce_file_format=True)


def best_of(way: str, folder: Path, repeats: int) -> dict[str, float]:
    """The quickest of several processes; memory is the largest of them."""
    command = [sys.executable, "-m", "benchmarks.scans", "--one", way, "--folder", str(folder)]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(repeats)]
    best = min(runs, key=lambda run: run["time_s"])
    return {**best, "peak_mb": max(run["peak_mb"] for run in runs)}


def measure(way: str, folder: Path) -> dict[str, float]:
    """Time, memory and error of one way, in this process."""
    read = {"simpleitk": _simpleitk, "monai": _monai, "whole": _whole, "prepare": _prepare}[way]()
    imports_mb = _peak_mb()
    start = time.perf_counter()
    found = read(folder)
    elapsed_s, peak_mb = time.perf_counter() - start, _peak_mb()
    return {"time_s": elapsed_s, "peak_mb": peak_mb, "imports_mb": imports_mb, "error_hu": found()}


def whole_error(hu: np.ndarray, z_mm: np.ndarray) -> float:
    """Largest difference from the truth in the first, the middle and the last slice (z y x)."""
    at = (0, len(hu) // 2, len(hu) - 1)
    wanted = [truth(round((z_mm[z] - ORIGIN_MM[2]) / SPACING_MM[0])) for z in at]
    return max(float(np.abs(hu[z].astype(float) - right).max()) for z, right in zip(at, wanted, strict=True))


def slab_error(hu: np.ndarray, geometry) -> float:
    """Largest difference of a slab from the truth, sampled by scipy at 2 × 2 places a pixel."""
    from scipy.ndimage import map_coordinates

    first = round((geometry.origin_mm[2] - ORIGIN_MM[2]) / SPACING_MM[0])
    around = np.stack([truth(k) for k in range(first, first + len(hu))]).astype(float)
    total = np.zeros(hu.shape)
    for shift in ((-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25)):
        place = np.stack(np.meshgrid(*map(np.arange, hu.shape), indexing="ij"), axis=-1) + np.array([0, *shift])
        index = (geometry.to_lps(place) - ORIGIN_MM)[..., ::-1] / np.array(SPACING_MM) - np.array([first, 0, 0])
        total += map_coordinates(around, np.moveaxis(index, -1, 0), order=1) / 4
    return float(np.abs(total - hu).max())


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _simpleitk():
    import SimpleITK as sitk

    def read(folder: Path):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        image = reader.Execute()
        z_mm = image.GetOrigin()[2] + np.arange(image.GetSize()[2]) * image.GetSpacing()[2]
        return lambda: whole_error(sitk.GetArrayViewFromImage(image), z_mm)

    return read


def _monai():
    from monai.data import PydicomReader

    def read(folder: Path):
        reader = PydicomReader()
        array, meta = reader.get_data(reader.read(str(folder)))
        z_mm = meta["affine"][2, 3] + np.arange(array.shape[2]) * meta["affine"][2, 2]
        return lambda: whole_error(array.transpose(2, 1, 0), z_mm)

    return read


def _whole():
    from genomic_vit.imaging.scan import read_scan

    def read(folder: Path):
        volume = read_scan(folder)
        z_mm = volume.geometry.origin_mm[2] + np.arange(len(volume.array)) * volume.geometry.spacing_mm[0]
        return lambda: whole_error(volume.array, z_mm)

    return read


def _prepare():
    from genomic_vit.data.cache import Reading, load_slabs, open_cache

    def read(folder: Path):
        with tempfile.TemporaryDirectory() as cache:
            (prepared,) = load_slabs(folder, LESION_MM, Reading(), open_cache(Path(cache)))
            hu = np.array(prepared.hu)
        return lambda: slab_error(hu, prepared.geometry)

    return read


def table(results: dict[str, dict[str, float]], slices: int) -> str:
    """Markdown."""
    whole_s = results["simpleitk"]["time_s"]
    lines = [
        f"| {slices} slices of {SHAPE_PX} × {SHAPE_PX} | time | of SimpleITK's | peak memory | imports alone | error |",
        "|---|---|---|---|---|---|",
    ]
    for way, run in results.items():
        lines.append(
            f"| {WAYS[way]} | {run['time_s']:.3f} s | {run['time_s'] / whole_s:.2f} | {run['peak_mb']:.0f} MB | "
            f"{run['imports_mb']:.0f} MB | {run['error_hu']:.2f} HU |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
