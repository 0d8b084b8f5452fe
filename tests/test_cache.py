"""A cache entry is used when sound and of the same content and settings, else made again."""

import os
import pickle
import re
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genomic_vit import read_lesion, read_scan, write_volume
from genomic_vit.config import SlabConfig
from genomic_vit.data import cache, entry
from genomic_vit.data.cache import load_slabs, open_cache, slab_key
from genomic_vit.data.case import Reading
from genomic_vit.data.entry import CacheError
from genomic_vit.data.slab import Slab, cut_slab
from genomic_vit.data.stale import sweep
from genomic_vit.data.workers import run_each
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


def test_a_full_disk_that_takes_no_folder_is_refused(tmp_path, monkeypatch):
    open_cache(tmp_path)
    assert not list(tmp_path.iterdir())

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(CacheError, match=r"cannot be kept here \(No space left on device\); make room, or .*--cache"):
        open_cache(tmp_path)


@pytest.mark.parametrize(
    ("files", "maps"), [(None, 8192), (1, 1), (64, 32), (1024, 512), (16_384, 8192), (1_048_576, 8192)]
)
def test_maps_take_half_of_the_files_that_may_be_open(files, maps):
    assert entry.map_count(files) == maps


@pytest.mark.parametrize(("limit", "files"), [(1024, 1024), (resource.RLIM_INFINITY, None)])
def test_the_limit_is_the_soft_one(limit, files, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, resource.RLIM_INFINITY))
    assert entry.open_files() == files


def test_a_system_without_such_limits_has_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert entry.open_files() is None


FEW_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from genomic_vit.data.entry import CacheError, forget_maps, read_entry
from pathlib import Path

slabs = [read_entry(path) for path in sorted(Path(sys.argv[1]).glob("*.npy"))]
print(len(slabs), sum(int(slab.hu[0, 0, 0]) for slab in slabs + slabs), sum(int(slab.lesion.sum()) for slab in slabs))
forget_maps()
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
try:
    slabs[0].hu
except CacheError as problem:
    print(problem)
"""


def test_more_slabs_than_files_may_be_open(tmp_path):
    shape, count = (2, 3, 3), 150
    for number in range(count):
        lesion = np.zeros(shape, bool)
        lesion[0, 0, 0] = True
        slab = Slab(np.full(shape, number, np.float32), lesion, grid_of(shape=shape), 5.0, "outline")
        entry.write_entry(slab, tmp_path / f"{number}.npy")
    command = [sys.executable, "-c", FEW_FILES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    counted, said = done.stdout.splitlines()
    assert counted == f"{count} {count * (count - 1)} {count}"
    assert re.search(
        r"0\.npy: .*Too many open files; a process may have 64 open\)\. Allow more.*ulimit -n.*--resume", said
    )


def test_what_killed_processes_left_goes_after_a_day(tmp_path):
    old, young = tmp_path / "old", tmp_path / "young"
    for folder in (old, young):
        for name in (".key.1.part.npy", ".phantom-4-0-1.1.part/scan/P0001.nii.gz", ".running-x/3", "key.npy"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"")
    for place in old.rglob("*"):
        os.utime(place, (1.0, 1.0))
    for folder in (old, young):
        open_cache(folder)
        assert dict(run_each(str, (1, 2), engine="loky", jobs=1, folder=folder)) == {0: "1", 1: "2"}
    assert [path.name for path in old.iterdir()] == ["key.npy"]
    assert len(list(young.iterdir())) == 4


def test_a_folder_in_which_something_goes_on_stays(tmp_path):
    (tmp_path / ".running-x").mkdir()
    (tmp_path / ".running-x/3").write_bytes(b"")
    os.utime(tmp_path / ".running-x", (1.0, 1.0))
    sweep(tmp_path, ".running-*")
    assert (tmp_path / ".running-x/3").is_file()


def test_a_full_disk_is_said_and_leaves_nothing(files, folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(entry.np, "save", full)
    with pytest.raises(CacheError, match=r"No space left on device.*make room"):
        prepared(files, folder)
    assert not list(folder.iterdir())
