"""Shapes and dtypes in signatures are checked while tests run; real data is found or skipped by name."""

import os
from pathlib import Path

import jaxtyping
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


@pytest.fixture
def unchecked_types(monkeypatch):
    """Signatures are not looked at, as for a user: the words of a check are heard, not jaxtyping's before them."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """A small comparison with arms of every kind, run once: what it found, and the folder it is in."""
    from genomic_vit.run_benchmark import compare_cohort  # after the hook above
    from tests.benchmark_cohort import CONFIG, PREPARED

    out = tmp_path_factory.mktemp("benchmark")
    found, failed = compare_cohort(CONFIG, PREPARED, out, unlabelled=2, jobs=1)
    assert not failed
    return found, out
