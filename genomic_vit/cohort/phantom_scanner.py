"""The scanner of a phantom: from fine slices to the voxels of a scan."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from genomic_vit.cohort.phantom_anatomy import draw_chest, paint_chest
from genomic_vit.cohort.phantom_canvas import Box, Canvas, blank_canvas
from genomic_vit.cohort.phantom_lesion import paint_emphysema, paint_lesion, place_lesion, shape_lesion
from genomic_vit.cohort.phantom_patient import Patient, Scanner, streams
from genomic_vit.cohort.phantom_vessels import paint_vessels
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.imaging.volume import Volume

BLUR_MM = {"soft": 0.75, "sharp": 0.8}  # of the image; "sharp" subtracts it instead
SHARPEN = 0.5
AXES = np.eye(3)[:, ::-1]  # columns: array axes z, y, x in LPS


def render(patient: Patient) -> tuple[Volume, Volume]:
    """Scan (int16 HU) and lesion (uint8, 0 and 1) of a patient, on one grid."""
    _, _, chest_rng, lesion_rng, noise_rng = streams(patient.seed, patient.index)
    scanner, looks = patient.scanner, patient.phenotype
    start_mm = -scanner.cover_mm / 2 + chest_rng.uniform(-5, 5)
    canvas = blank_canvas(scanner.pixel_mm, scanner.slice_mm, scanner.cover_mm, start_mm)
    paint_chest(canvas, draw_chest(chest_rng), chest_rng)
    place, shape, texture, holes = lesion_rng.spawn(4)
    centre_mm, pleura_mm = place_lesion(canvas, patient.diameter_mm, place)
    lesion = shape_lesion(centre_mm, pleura_mm, patient.diameter_mm, looks.lobulation, shape)
    if looks.emphysema:
        paint_emphysema(canvas, lesion, looks.emphysema, holes)
    paint_vessels(canvas, chest_rng)
    box, coverage = paint_lesion(canvas, lesion, looks, texture)
    hu, geometry = expose(canvas, scanner, noise_rng), _geometry(canvas, scanner)
    mask = _mask(canvas, box, coverage)
    return _turned(hu, geometry, scanner.orientation), _turned(mask, geometry, scanner.orientation)


def expose(canvas: Canvas, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """What the scanner shows, int16 HU `[z y x]`: thick slices, noise, and the kernel over both."""
    image = _thick(canvas.hu, canvas.fine)
    sigma_px = BLUR_MM[scanner.kernel] / scanner.pixel_mm
    noise_hu = scanner.noise_hu / _noise_gain(scanner.kernel, sigma_px)
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise_hu)
    image = _kernel(image, scanner.kernel, sigma_px)
    return np.clip(np.rint(image, out=image), -1024, 3071, out=image).astype(np.int16)


def _kernel(image: np.ndarray, kernel: str, sigma_px: float) -> np.ndarray:
    """Slices `[… y x]` after the reconstruction kernel."""
    blurred = gaussian_filter1d(gaussian_filter1d(image, sigma_px, axis=-1, truncate=3), sigma_px, axis=-2, truncate=3)
    return blurred if kernel == "soft" else image + SHARPEN * (image - blurred)


def _noise_gain(kernel: str, sigma_px: float) -> float:
    """Standard deviation that white noise of standard deviation 1 keeps under the kernel."""
    point = np.zeros((21, 21))
    point[10, 10] = 1
    return float(np.linalg.norm(_kernel(point, kernel, sigma_px)))


def _thick(fine: np.ndarray, count: int) -> np.ndarray:
    """Means of `count` neighbouring fine slices each: the partial volume of a thick slice."""
    total = fine[::count].copy()
    for step in range(1, count):
        total += fine[step::count]
    total *= np.float32(1 / count)
    return total


def _mask(canvas: Canvas, box: Box, coverage: np.ndarray) -> np.ndarray:
    """uint8 `[z y x]`: voxels at least half lesion."""
    first, last = box[0].start // canvas.fine, -(-box[0].stop // canvas.fine)
    part = np.zeros(((last - first) * canvas.fine, *coverage.shape[1:]), np.float32)
    begin = box[0].start - first * canvas.fine
    part[begin : begin + len(coverage)] = coverage
    mask = np.zeros((len(canvas.z_mm) // canvas.fine, *canvas.hu.shape[1:]), np.uint8)
    mask[first:last, box[1], box[2]] = _thick(part, canvas.fine) >= 0.5
    return mask


def _geometry(canvas: Canvas, scanner: Scanner) -> Geometry:
    """The scan's grid, array axes to superior, posterior, left."""
    first_mm = np.array([canvas.x_mm[0], canvas.y_mm[0], canvas.z_mm[: canvas.fine].mean()], dtype=float)
    shape = (len(canvas.z_mm) // canvas.fine, *canvas.hu.shape[1:])
    spacing_mm = np.array([scanner.slice_mm, scanner.pixel_mm, scanner.pixel_mm])
    return Geometry(shape, spacing_mm, first_mm + scanner.table_mm, AXES)


def _turned(array: np.ndarray, geometry: Geometry, orientation: str) -> Volume:
    """The volume as it is stored: "LPS" as it is, "RAS" with axes x and y flipped; voxels keep their positions."""
    if orientation == "LPS":
        return Volume(array, geometry)
    corner = geometry.to_lps(np.array([0, geometry.shape[1] - 1, geometry.shape[2] - 1]))
    flipped = Geometry(geometry.shape, geometry.spacing_mm, corner, geometry.direction * np.array([1.0, -1.0, -1.0]))
    return Volume(array[:, ::-1, ::-1], flipped)
