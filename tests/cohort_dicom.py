"""A small export as an archive gives it: several series a patient, SEG objects, headers that tell who it is."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage, generate_uid

from genomic_vit import Geometry, Volume
from tests.dicom_lesions import make_seg, saved, slices_of
from tests.scans import AXES, ball, chest

NAME, BIRTH, ACCESSION = "Quuxley^Zenobia", "19470311", "ACC7351942"
TOLD = ("quuxley", "zenobia", BIRTH, ACCESSION.lower())
OUTLINE, MACHINE = "3D Slicer segmentation result", "AIMI lung and nodule AI segmentation"


def grid(number: int = 0) -> Geometry:
    return Geometry((14, 48, 48), np.array([2.5, 1.5, 1.5]), np.array([-40.0 - number, -30.0, -100.0]), AXES)


def ct_series(patient: str, volume: Volume, description: str = "Chest  2.5  B40f", *, number: int = 3) -> list[Dataset]:
    """CT images of a volume, with identifiers planted."""
    images = slices_of(volume.geometry, thickness_mm=2.5)
    for image, plane in zip(images, volume.array, strict=True):
        image.PixelData = np.rint(plane).astype(np.int16).tobytes()
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.ConvolutionKernel, image.KVP = description.split()[-1], 120
        image.Manufacturer, image.ManufacturerModelName = "ACME", "One"
        tell(image, patient, description, number)
    return images


def tell(image: Dataset, patient: str, description: str, number: int) -> None:
    image.PatientID, image.PatientName, image.PatientBirthDate, image.AccessionNumber = patient, NAME, BIRTH, ACCESSION
    image.SeriesDescription, image.SeriesNumber = description, number


def scout(images: list[Dataset], patient: str) -> Dataset:
    """A localizer of the same study."""
    image = deepcopy(images[0])
    image.SOPInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    tell(image, patient, "Topogram", 1)
    return image


def pet(images: list[Dataset], patient: str) -> list[Dataset]:
    """PET of the same patient, in another frame of reference."""
    made = slices_of(grid())[:3]
    for image in made:
        image.SOPClassUID = PositronEmissionTomographyImageStorage
        image.Modality, image.StudyInstanceUID = "PT", images[0].StudyInstanceUID
        tell(image, patient, "WB MAC", 5)
    return made


def outline(images: list[Dataset], mask: np.ndarray, patient: str, description: str = OUTLINE) -> Dataset:
    """A SEG drawn on the images."""
    seg = make_seg(images, {"tumour": mask})
    tell(seg, patient, description, 1000)
    return seg


def store(data: list[Dataset], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(data):
        saved(one, folder / f"{number:04d}.dcm")
    return folder


def make_export(root: Path) -> Path:
    """Four patients: R1 and R2 outlined, R3 with a machine's outline only, R4 with a localizer only."""
    for number, patient in enumerate(("R1", "R2", "R3", "R4")):
        geometry = grid(number)
        images = ct_series(patient, chest(geometry))
        store([scout(images, patient)], root / patient / "study" / "scout")
        if patient == "R4":
            continue
        store(images, root / patient / "study" / "ct")
        store(ct_series(patient, chest(geometry), "Chest  2.5  B70f", number=4), root / patient / "study" / "sharp")
        store(pet(images, patient), root / patient / "study" / "pet")
        described = MACHINE if patient == "R3" else OUTLINE
        store([outline(images, ball(geometry).array, patient, described)], root / patient / "study" / "seg")
    return root
