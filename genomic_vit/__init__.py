"""Genomic status of a lung tumour from CT, and where in the scan the answer came from."""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "Geometry": "genomic_vit.imaging.geometry",
    "Volume": "genomic_vit.imaging.volume",
    "read_scan": "genomic_vit.imaging.read",
    "read_lesion": "genomic_vit.imaging.lesion",
    "write_volume": "genomic_vit.imaging.write",
    "ViT": "genomic_vit.models.vit",
    "GenomicViT": "genomic_vit.models.genomic_vit",
    "load_pretrained": "genomic_vit.models.pretrained",
    "attention_rollout": "genomic_vit.models.rollout",
    "gradient_rollout": "genomic_vit.models.gradient_rollout",
    "rollout_diagnostics": "genomic_vit.models.diagnostics",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    """Load the public names on first use, so that `--help` need not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
