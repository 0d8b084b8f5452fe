"""A cache entry is used when sound and of the same content and settings, else made again."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from genomic_vit import read_lesion, read_scan, write_volume
from genomic_vit.config import SlabConfig
from genomic_vit.data import cache, entry
from genomic_vit.data.cache import load_slabs, open_cache, slab_key
from genomic_vit.data.case import Reading
from genomic_vit.data.entry import CacheError
from genomic_vit.data.slab import cut_slab
from tests.scans import ball, chest, grid_of

GEOMETRY = grid_of(shape=(14, 60, 60))
READING = Reading(SlabConfig(tile_px=16))


@pytest.fixture
def files(tmp_path):
    scan = write_volume(chest(GEOMETRY), tmp_path / "scan.nii.gz")
    return scan, write_volume(ball(GEOMETRY, 6.0), tmp_path / "lesion.nii.gz")


@pytest.fixture
def folder(tmp_path):
    return open_cache(tmp_path / "cache")


def prepared(files, folder):
    (slab,) = load_slabs(*files, READING, folder)
    return slab


def same(a, b):
    return np.array_equal(a.hu, b.hu) and np.array_equal(a.lesion, b.lesion) and a.geometry.same_as(b.geometry, 1e-9)


def test_an_entry_is_what_was_cut_mapped_from_disk(files, folder):
    scan = read_scan(files[0])
    wanted = cut_slab(scan, read_lesion(files[1], like=scan), READING.slab)
    slab = prepared(files, folder)
    assert same(slab, wanted) and slab.diameter_mm == wanted.diameter_mm and slab.measured == "outline"
    base = slab.hu
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap) and not slab.hu.flags.writeable
    assert len(pickle.dumps(slab)) < 2000


def test_a_sound_entry_is_used(files, folder, monkeypatch):
    made = prepared(files, folder)
    monkeypatch.setattr(cache, "cut_case", lambda *_: pytest.fail("opened the scan again"))
    held = prepared(files, folder)
    assert same(made, held) and held.diameter_mm == made.diameter_mm


@pytest.mark.parametrize("damage", ["cut", "flipped", "header", "end", "empty"])
def test_a_damaged_entry_is_made_again(damage, files, folder, caplog):
    made = prepared(files, folder)
    hu = made.hu.copy()
    (held,) = folder.iterdir()
    content = bytearray(held.read_bytes())
    places = {"flipped": len(content) // 3, "header": 30, "end": -1}
    if damage in places:
        content[places[damage]] ^= 0x02
    held.unlink()  # the map of the sound one stays
    held.write_bytes({"cut": content[:-500], "empty": b""}.get(damage, content))
    entry.forget_maps()
    assert np.array_equal(prepared(files, folder).hu, hu)
    assert "damaged cache entry" in caplog.text
    caplog.clear()
    assert np.array_equal(prepared(files, folder).hu, hu)
    assert "damaged" not in caplog.text
    assert len(list(folder.iterdir())) == 1


def test_other_content_or_settings_have_another_key(files):
    scan, lesion = files
    keys = [slab_key(scan, lesion, READING), slab_key(scan, lesion, Reading(replace(READING.slab, crop_mm=41.0)))]
    write_volume(ball(GEOMETRY, 7.0), lesion)
    keys.append(slab_key(scan, lesion, READING))
    write_volume(chest(grid_of(shape=(14, 60, 61))), scan)
    keys.append(slab_key(scan, lesion, READING))
    assert len(set(keys)) == 4


def test_the_pixels_beside_an_mhd_count(files, tmp_path):
    scan = write_volume(chest(GEOMETRY), tmp_path / "scan.mhd")
    before = slab_key(scan, files[1], READING)
    raw = tmp_path / "scan.raw"
    content = bytearray(raw.read_bytes())
    content[1000] ^= 1
    raw.write_bytes(content)
    assert slab_key(scan, files[1], READING) != before


def test_a_cache_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"prepared slabs cannot be kept here .*--cache or GENOMIC_VIT_CACHE"):
        open_cache(tmp_path / "file" / "slabs")


def test_a_full_disk_is_said_and_leaves_nothing(files, folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(entry.np, "save", full)
    with pytest.raises(CacheError, match=r"No space left on device.*make room"):
        prepared(files, folder)
    assert not list(folder.iterdir())
