"""Zip and tar: read like the folder they hold, safely, and gone afterwards."""

import gc
import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from genomic_vit import read_scan, write_volume
from genomic_vit.imaging import archive
from genomic_vit.imaging.errors import ScanError
from genomic_vit.imaging.scan import open_scan
from tests.dicoms import check_same, lung, write_series

LUNG = lung()


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def packed(folder: Path, to: Path) -> Path:
    if to.suffix == ".zip" or not to.suffix:
        with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder))
    else:
        with tarfile.open(to, {".tar": "w", ".tgz": "w:gz", ".xz": "w:xz"}[to.suffix]) as file:
            file.add(folder, "export")
    return to


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz", "a.tar.xz", "no-suffix"])
def test_a_packed_series_reads_as_it_lies(name, tmp_path, temporary):
    write_series(tmp_path / "in" / "deep", LUNG)
    scan = open_scan(packed(tmp_path / "in", tmp_path / name))
    assert len(list(temporary.iterdir())) == 1
    check_same(scan.read(), LUNG)
    del scan
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_packed_image_file_reads_as_it_lies(tmp_path):
    write_volume(LUNG, tmp_path / "in" / "scan.nii.gz")
    (tmp_path / "in" / "readme.txt").write_text("x")
    check_same(read_scan(packed(tmp_path / "in", tmp_path / "a.zip")), LUNG)


def test_of_two_packed_image_files_none_is_guessed(tmp_path):
    for name in ("scan.nii.gz", "other.nrrd"):
        write_volume(LUNG, tmp_path / "in" / name)
    with pytest.raises(
        ScanError, match=r"a\.zip: holds 2 image files \(other\.nrrd, scan\.nii\.gz\).* name the one meant"
    ):
        open_scan(packed(tmp_path / "in", tmp_path / "a.zip"))


def test_errors_name_the_archive_and_not_its_temporary_folder(tmp_path, temporary):
    paths = write_series(tmp_path / "in", LUNG)
    paths[3].write_bytes(paths[3].read_bytes()[:1500])
    with pytest.raises(ScanError, match=r"a\.zip: none of the DICOM series") as problem:
        open_scan(packed(tmp_path / "in", tmp_path / "a.zip"))
    assert str(temporary) not in str(problem.value)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_would_land_outside_is_refused(name, kind, tmp_path, temporary):
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(name, b"x")
    else:
        with tarfile.open(path, "w") as file:
            member = tarfile.TarInfo(name)
            member.size = 1
            file.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(ScanError, match="would be written outside the folder it is unpacked to; refused"):
        open_scan(path)
    assert not list(tmp_path.rglob("*evil*")) and list(temporary.iterdir()) == []


def test_links_in_a_tar_are_left_out(tmp_path):
    secret = tmp_path / "secret.nii.gz"
    write_volume(LUNG, secret)
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        member = tarfile.TarInfo("scan.nii.gz")
        member.type, member.linkname = tarfile.SYMTYPE, str(secret)
        file.addfile(member)
    with pytest.raises(ScanError, match=r"a\.tar: holds no DICOM series \(it is empty\)"):
        open_scan(tmp_path / "a.tar")


def test_an_archive_that_grows_too_large_is_refused(tmp_path, monkeypatch, temporary):
    monkeypatch.setattr(archive, "MOST_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb", b"\0" * (3 << 20))
    with pytest.raises(ScanError, match="unpack it yourself"):
        open_scan(tmp_path / "a.zip")
    monkeypatch.setattr(archive, "MOST_FILES", 3)
    write_series(tmp_path / "in", LUNG)
    with pytest.raises(ScanError, match="holds more than 3 files"):
        open_scan(packed(tmp_path / "in", tmp_path / "b.zip"))
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", ["a.zip", "a.tgz", "a.tar.xz"])
def test_a_damaged_archive_is_refused(name, tmp_path, temporary):
    write_series(tmp_path / "in", LUNG)
    path = packed(tmp_path / "in", tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ScanError, match=r"cannot be unpacked .*damaged, cut short or encrypted"):
        open_scan(path)
    assert list(temporary.iterdir()) == []
