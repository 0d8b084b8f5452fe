"""Disk to Volume: the readers in one place."""

from genomic_vit.imaging.errors import LesionError, ScanError
from genomic_vit.imaging.lesion import read_lesion, read_lesions
from genomic_vit.imaging.scan import open_scan, read_scan

__all__ = ["LesionError", "ScanError", "open_scan", "read_lesion", "read_lesions", "read_scan"]
