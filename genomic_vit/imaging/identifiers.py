"""Whether a DICOM header still tells who was scanned. Tags are named; their values never leave this module."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pydicom

NAMES = ("PatientName", "OtherPatientNames", "PatientMotherBirthName", "PatientBirthName")
NUMBERS = ("AccessionNumber", "OtherPatientIDs", "PatientTelephoneNumbers", "MilitaryRank")
PLACES = ("PatientAddress", "InstitutionName", "InstitutionAddress")
OTHERS = ("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "PhysiciansOfRecord")
DATES = ("PatientBirthDate",)
TAGS = (*NAMES, *NUMBERS, *PLACES, *OTHERS, *DATES, "PatientID", "PatientIdentityRemoved", "BurnedInAnnotation")
PSEUDONYM = re.compile(r"anon|pseudo|removed|de-?ident|unknown|xx+|\d", re.I)
WORD = re.compile(r"[^\W\d_]{3,}")


def find_identifiers(path: Path) -> tuple[str, ...]:
    """Keywords of the header that seem to tell a person: "PatientName", "PatientBirthDate", …; "path" for the path.

    A name counts unless it is empty, the PatientID, or holds a digit or a word such as ANON. A file whose
    PatientIdentityRemoved is YES is believed in all but the names.

    Args:
        path: a DICOM file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's words on bad values may quote them
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(TAGS))
    text = {tag: str(header.get(tag) or "").strip() for tag in TAGS}
    told = [tag for tag in (*NAMES, *OTHERS) if _is_name(text[tag], text["PatientID"])]
    if _is_name(text["PatientID"], "") and "^" in text["PatientID"]:
        told.append("PatientID")
    if text["PatientIdentityRemoved"].upper() != "YES":
        told += [tag for tag in (*NUMBERS, *PLACES) if text[tag] and not _is_blank(text[tag])]
        told += [tag for tag in DATES if re.fullmatch(r"\d{8}", text[tag]) and not text[tag].startswith("19000101")]
    if text["BurnedInAnnotation"].upper() == "YES":
        told.append("BurnedInAnnotation")
    if "PatientName" in told:
        words = {word.casefold() for word in WORD.findall(text["PatientName"])}
        if words & {word.casefold() for part in path.parts for word in WORD.findall(part)}:
            told.append("path")
    return tuple(told)


def _is_name(text: str, patient_id: str) -> bool:
    return bool(WORD.search(text)) and text != patient_id and not PSEUDONYM.search(text)


def _is_blank(text: str) -> bool:
    return bool(re.fullmatch(r"(anon\w*|removed|none|n/?a|0+|x+)", text, re.I))
