"""What goes wrong with scans and lesions."""

from __future__ import annotations

from genomic_vit.config import UserError


class ScanError(UserError):
    """A scan cannot be used; the message says which, what was found, what was needed, what to do."""


class LesionError(UserError):
    """A lesion cannot be used; the message says which, what was found, what was needed, what to do."""
