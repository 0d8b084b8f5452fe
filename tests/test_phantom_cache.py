"""The phantom cohort of a run without data: made in the cache, whoever else makes it; a cache that fails is named."""

import re
from contextlib import contextmanager

import pytest

from genomic_vit.cohort import phantom
from genomic_vit.cohort.phantom import make_phantom
from genomic_vit.config import PhantomConfig, UserError
from genomic_vit.data.entry import CacheError
from genomic_vit.run import phantom_manifest
from genomic_vit.train import main as train

TWO = PhantomConfig(patients=2)
TRAIN = ["--phantom.patients", "24", "--jobs", "1", "--device", "cpu"]


def meanwhile(act):
    """A progress bar under which `act` is done when all patients are written, but not in their place yet."""

    @contextmanager
    def bar(_):
        yield lambda done, total: act() if done == total else None

    return bar


def test_of_two_commands_the_slower_takes_what_the_quicker_made(tmp_path):
    seen = []

    def quicker():
        seen.append(make_phantom(tmp_path / "phantom-2-0-1", 2, jobs=1))
        seen.append(seen[0].stat().st_ino)

    manifest = phantom_manifest(TWO, tmp_path, jobs=1, bar=meanwhile(quicker))
    assert manifest == seen[0] and manifest.stat().st_ino == seen[1]
    assert [path.name for path in tmp_path.iterdir()] == ["phantom-2-0-1"]  # and nothing half made beside it


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "phantom-2-0-1").mkdir()
    (tmp_path / "phantom-2-0-1/mine").write_text("")
    with pytest.raises(UserError, match=r"phantom-2-0-1: is not empty"):
        phantom_manifest(TWO, tmp_path, jobs=1)


def full_disk(_):
    raise OSError(28, "No space left on device", "somewhere")


def test_a_full_cache_is_named_with_the_cohort_that_did_not_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(phantom, "render", full_disk)
    said = r"the phantom cohort cannot be written here \(No space left on device\); make room, or .*--cache"
    with pytest.raises(CacheError, match=rf"^{re.escape(str(tmp_path))}: {said}"):
        phantom_manifest(TWO, tmp_path, jobs=1)
    assert not list(tmp_path.iterdir())


def test_train_blames_a_full_cache_not_the_run_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(phantom, "render", full_disk)
    out, cache = tmp_path / "run", tmp_path / "cache"
    assert train(["--out", str(out), "--cache", str(cache), *TRAIN]) == 2
    said = capsys.readouterr().err
    assert f"error: {cache}: the phantom cohort cannot be written here (No space left on device)" in said
    assert str(out) not in said and "--cache" in said and not out.exists()


def test_train_blames_a_cache_that_cannot_be(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file/cache"
    assert train(["--out", str(tmp_path / "run"), "--cache", str(cache), *TRAIN]) == 2
    said = capsys.readouterr().err
    assert f"error: {cache}: prepared slabs cannot be kept here (Not a directory)" in said and "--cache" in said
    assert not (tmp_path / "run").exists()
