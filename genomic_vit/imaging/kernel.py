"""What kind of reconstruction kernel a vendor's name means."""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["standard", "soft", "unknown", "sharp"]
SHARP = re.compile(r"lung|bone|edge|detail|ultra|sharp|hires|hrct|\bhr\b|high.?res", re.I)
SOFT = re.compile(r"soft|smooth", re.I)
STANDARD = re.compile(r"stand|std|\bchst\b|chest|body|routine|medi", re.I)
SIEMENS = re.compile(r"^(?:[BHIJQTU][a-z]?)(\d{2})[a-z]?", re.I)  # B40f, I31f, Br40d, Bl57f, Qr40
CANON = re.compile(r"^FC(\d{2})", re.I)
PHILIPS = {"A": "soft", "B": "standard", "C": "standard", "D": "sharp", "E": "sharp", "L": "sharp", "F": "sharp"}
SIEMENS_SOFT, SIEMENS_SHARP = 30, 50  # B10 to B29 smooth, B30 to B49 medium, B50 to B90 sharp


def kernel_kind(kernel: str) -> Kind:
    """Standard, soft or sharp, by the names that GE, Siemens, Philips and Canon (Toshiba) give their kernels.

    Args:
        kernel: ConvolutionKernel; of several values the first counts.
    """
    name = kernel.split("\\")[0].strip()
    if siemens := SIEMENS.match(name):
        number = int(siemens[1])
        return "sharp" if number >= SIEMENS_SHARP else "soft" if number < SIEMENS_SOFT else "standard"
    if canon := CANON.match(name):  # FC01-FC09 body with, FC10-FC19 without beam hardening correction, FC20-29 head
        number = int(canon[1])
        return "sharp" if number >= 30 else "standard"
    if SHARP.search(name):
        return "sharp"
    if SOFT.search(name):
        return "soft"
    if STANDARD.search(name):
        return "standard"
    return PHILIPS.get(name.upper(), "unknown")
