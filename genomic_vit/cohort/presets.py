"""Public collections: where their labels stand, and how their lesions come. Sources and doubts: docs/cohort.md."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from genomic_vit.config import CovariateRule, TargetRule


@dataclass(frozen=True)
class Preset:
    """A collection, or "dicom" for a tree of one's own.

    Args:
        title: one line for people.
        files: how the scans come.
        lesion: how the lesions come.
        collection: name in the Imaging Data Commons; empty where it is not there.
        lesion_series: pattern of the SeriesDescription of the objects that hold the lesions; empty takes any.
        not_lesion: pattern of those that look like it and do not.
        one_of: pattern of what several drawings of one lesion share in their SeriesDescription; one of them is taken.
        roi: name or pattern of the ROI or segment that is the lesion, as --lesion.roi; empty takes the only one.
        targets, covariates: rules for the clinical table that belongs to it.
    """

    title: str
    files: Literal["dicom", "msd"] = "dicom"
    lesion: Literal["SEG", "RTSTRUCT", "any", "mask"] = "any"
    collection: str = ""
    lesion_series: str = ""
    not_lesion: str = ""
    one_of: str = ""
    roi: str = ""
    targets: dict[str, TargetRule] = field(default_factory=dict)
    covariates: dict[str, CovariateRule] = field(default_factory=dict)

    def holds_lesion(self, modality: str, description: str) -> bool:
        """Whether a DICOM series of this modality and SeriesDescription holds the lesions."""
        kinds = ("SEG", "RTSTRUCT") if self.lesion == "any" else (self.lesion,)
        if modality not in kinds or (self.not_lesion and re.search(self.not_lesion, description, re.I)):
            return False
        return not self.lesion_series or re.search(self.lesion_series, description, re.I) is not None


PRESETS = {
    "nsclc-radiogenomics": Preset(
        title="NSCLC Radiogenomics (TCIA): 211 patients, EGFR, KRAS and ALK",
        lesion="SEG",
        collection="nsclc_radiogenomics",
        lesion_series=r"^(3D Slicer segmentation result|ePAD Generated DSO)",
        not_lesion=r"^AIMI ",
        targets={
            "EGFR": TargetRule("EGFR mutation status", "Mutant", "Wildtype"),
            "KRAS": TargetRule("KRAS mutation status", "Mutant", "Wildtype"),
            "ALK": TargetRule("ALK translocation status", "Translocated", "Wildtype"),
        },
        covariates={
            "age": CovariateRule("Age at Histological Diagnosis", "number"),
            "sex": CovariateRule("Gender"),
            "smoking": CovariateRule("Smoking status"),
            "pack_years": CovariateRule("Pack Years", "number"),
            "ethnicity": CovariateRule("Ethnicity"),
            "histology": CovariateRule("Histology"),
            "ground_glass": CovariateRule("%GG"),
            "site": CovariateRule("Patient affiliation"),
        },
    ),
    "lung1": Preset(
        title="NSCLC-Radiomics, Lung1 (TCIA): 422 patients, histology; no genotype was released",
        lesion="RTSTRUCT",
        collection="nsclc_radiomics",
        roi="GTV-1",
        targets={
            "adenocarcinoma": TargetRule("Histology", "adenocarcinoma", ("squamous cell carcinoma", "large cell")),
        },
        covariates={
            "age": CovariateRule("age", "number"),
            "sex": CovariateRule("gender"),
            "stage": CovariateRule("Overall.Stage"),
        },
    ),
    "lidc": Preset(
        title="LIDC-IDRI (TCIA): 1,010 patients, diagnosis of 157; no genotype",
        lesion="SEG",
        collection="lidc_idri",
        lesion_series=r"^Segmentation of Nodule ",
        one_of=r"Nodule \d+",
        targets={"malignant": TargetRule("Diagnosis at the Patient Level*", ("2", "3"), "1")},
    ),
    "msd-lung": Preset(
        title="Medical Segmentation Decathlon, Task06_Lung: 63 scans with masks; no label was released",
        files="msd",
        lesion="mask",
    ),
    "dicom": Preset(title="a DICOM tree of your own with SEG or RTSTRUCT objects; labels by a config file"),
}
