"""What readers make of a DICOM series with something wrong: this project, SimpleITK and MONAI on the same files.

    python -m benchmarks.hazards

Every voxel of these series holds a linear function of its own position (1.0, 0.37 and 0.61 HU a mm along x, y and z),
so the largest difference between a voxel's value and that of the place at which the reader puts it says how wrong the
volume is. A refusal is an answer too. Takes a few seconds.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from genomic_vit import Geometry
from genomic_vit.config import UserError
from genomic_vit.imaging.scan import read_scan
from genomic_vit.imaging.stack import AIR_HU
from tests.dicoms import ct_header, ramp, ramp_at, uid, write_series
from tests.scans import AXES, turned

SHAPE, SPACING_MM, ORIGIN_MM = (12, 40, 44), np.array([2.5, 0.7, 0.8]), np.array([-20.0, 10.0, -15.0])
GRID = Geometry(SHAPE, SPACING_MM, ORIGIN_MM, AXES)
Read = Callable[[Path], tuple[np.ndarray, np.ndarray]]


def fine(number: int = 1):
    """A header whose slope keeps a ramp exact to 0.03 HU."""
    header = ct_header(number)
    header.RescaleSlope, header.RescaleIntercept = 0.05, 0
    return header


def clean(folder: Path) -> None:
    write_series(folder, ramp(GRID), header=fine())


def reversed_numbers(folder: Path) -> None:
    write_series(folder, ramp(GRID), lambda image, k: setattr(image, "InstanceNumber", 100 - k), fine())


def missing(folder: Path) -> None:
    write_series(folder, ramp(GRID), lambda image, k: k != 5, fine())


def tilted(folder: Path) -> None:
    """Slices tilted by 20 degrees, the couch moved straight along the body."""
    for k in range(SHAPE[0]):
        plane = Geometry((1, *SHAPE[1:]), SPACING_MM, ORIGIN_MM + np.array([0, 0, 2.5 * k]), turned(20, 0))

        def number(image, _, k=k):
            image.SOPInstanceUID, image.InstanceNumber = uid(f"8.{k + 1}"), k + 1

        write_series(folder, ramp(plane), number, fine(), f"{k:03}.dcm")


def two_acquisitions(folder: Path) -> None:
    """Two in one series, the second half a slice further."""
    for number in (1, 2):
        moved = Geometry(SHAPE, SPACING_MM, ORIGIN_MM + np.array([0, 0, 1.25 * (number - 1)]), AXES)

        def edit(image, k, number=number):
            image.AcquisitionNumber, image.SOPInstanceUID = number, uid(f"8.{number}.{k + 1}")
            image.hu = image.hu + (0 if number == 1 else 100)  # contrast has arrived

        write_series(folder, ramp(moved), edit, fine(), f"{number}-{{k:03}}.dcm")


def scout_and_scan(folder: Path) -> None:
    coronal = Geometry((1, 12, 44), SPACING_MM[[1, 0, 2]], ORIGIN_MM, AXES[:, [1, 0, 2]])
    scout = fine(1)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_series(folder, ramp(coronal), header=scout, name="scout")
    write_series(folder, ramp(GRID), header=fine(2))


def own_rescale(folder: Path) -> None:
    def edit(image, k):
        image.RescaleIntercept = -20 * k

    write_series(folder, ramp(GRID), edit, fine())


HAZARDS = {
    "nothing wrong": clean,
    "InstanceNumber reversed": reversed_numbers,
    "a slice missing": missing,
    "gantry tilt of 20 degrees": tilted,
    "two acquisitions in one series": two_acquisitions,
    "a scout beside the scan": scout_and_scan,
    "rescale of each slice its own": own_rescale,
}


def ours(folder: Path, on_gap: str = "error") -> tuple[np.ndarray, np.ndarray]:
    volume = read_scan(folder, on_gap=on_gap)
    return volume.array, volume.geometry.positions_mm()


def simpleitk(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    step = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    return sitk.GetArrayFromImage(image), _places(image.GetSize(), step, np.array(image.GetOrigin()))


def monai(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    from monai.data import PydicomReader

    reader = PydicomReader()
    array, meta = reader.get_data(reader.read(str(folder)))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ meta["affine"]  # RAS to LPS
    return array.transpose(2, 1, 0), _places(array.shape, affine[:3, :3], affine[:3, 3])


def _places(size: tuple[int, ...], step: np.ndarray, origin: np.ndarray) -> np.ndarray:
    x, y, z = np.meshgrid(*map(np.arange, size), indexing="ij")
    return (np.stack([x, y, z], axis=-1) @ step.T + origin).transpose(2, 1, 0, 3)


def verdict(read: Read, folder: Path) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array, positions_mm = read(folder)
    except UserError:
        return "refused in words"
    except Exception as problem:  # whatever a reader raises is what its user sees
        return f"fails: {type(problem).__name__}"
    scanned = array > AIR_HU
    return f"{np.abs(array - ramp_at(positions_mm))[scanned].max():.1f} HU"


def main() -> None:
    readers = {"genomic_vit": ours, "with --on-gap resample": lambda folder: ours(folder, "resample")}
    readers |= {"SimpleITK": simpleitk, "MONAI PydicomReader": monai}
    print(f"| | {' | '.join(readers)} |\n|---|{'---|' * len(readers)}")
    for name, make in HAZARDS.items():
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
            print(f"| {name} | {' | '.join(verdict(read, Path(folder)) for read in readers.values())} |")


if __name__ == "__main__":
    main()
