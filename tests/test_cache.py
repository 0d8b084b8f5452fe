"""A cache entry is used when sound and of the same content and settings, else made again."""

from dataclasses import replace

import numpy as np
import pytest

from genomic_vit import write_volume
from genomic_vit.config import SlabConfig
from genomic_vit.data import cache
from genomic_vit.data.cache import load_slab, slab_key
from tests.scans import ball, chest, grid_of

GEOMETRY = grid_of(shape=(14, 60, 60))
CONFIG = SlabConfig(tile_px=16)


@pytest.fixture
def files(tmp_path):
    scan = write_volume(chest(GEOMETRY), tmp_path / "scan.nii.gz")
    return scan, write_volume(ball(GEOMETRY, 6.0), tmp_path / "lesion.nii.gz")


def same(a, b):
    return np.array_equal(a.hu, b.hu) and np.array_equal(a.lesion, b.lesion) and a.geometry.same_as(b.geometry, 1e-9)


def test_a_sound_entry_is_used(files, tmp_path, monkeypatch):
    made = load_slab(*files, CONFIG, tmp_path / "cache")
    monkeypatch.setattr(cache, "read_scan", lambda _: pytest.fail("read the scan again"))
    held = load_slab(*files, CONFIG, tmp_path / "cache")
    assert same(made, held) and held.diameter_mm == made.diameter_mm


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_entry_is_made_again(damage, files, tmp_path, caplog):
    made = load_slab(*files, CONFIG, tmp_path / "cache")
    (entry,) = (tmp_path / "cache").iterdir()
    content = bytearray(entry.read_bytes())
    if damage == "flipped":
        content[len(content) // 3] ^= 0xFF
    entry.write_bytes({"cut": content[:-500], "flipped": content, "empty": b""}[damage])
    assert same(load_slab(*files, CONFIG, tmp_path / "cache"), made)
    assert "damaged cache entry" in caplog.text
    caplog.clear()
    assert same(load_slab(*files, CONFIG, tmp_path / "cache"), made)
    assert "damaged" not in caplog.text
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_other_content_or_settings_have_another_key(files):
    scan, lesion = files
    keys = [slab_key(scan, lesion, CONFIG), slab_key(scan, lesion, replace(CONFIG, crop_mm=41.0))]
    write_volume(ball(GEOMETRY, 7.0), lesion)
    keys.append(slab_key(scan, lesion, CONFIG))
    write_volume(chest(grid_of(shape=(14, 60, 61))), scan)
    keys.append(slab_key(scan, lesion, CONFIG))
    assert len(set(keys)) == 4
