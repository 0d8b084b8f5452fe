"""Shapes and dtypes in signatures are checked while tests run; real data is found or skipped by name."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("genomic_vit.models", "beartype.beartype")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data, $GENOMIC_VIT_DATA or ../shared/data; the test is skipped without it."""
    folder = Path(os.environ.get("GENOMIC_VIT_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data is not at {folder}; set GENOMIC_VIT_DATA")
    return folder
