"""Bytes cut off and turned at random: words or what the file says, never a hang, a crash or something else."""

import random
import time
import warnings
from pathlib import Path

import gdcm
import nibabel as nib
import numpy as np
import pydicom
import pytest

from genomic_vit import Geometry
from genomic_vit.imaging.errors import ScanError
from genomic_vit.imaging.scan import open_scan
from tests.dicoms import GRID, compress, lung, write_frames, write_series
from tests.test_nifti import image_of

SMALL = lung(Geometry((6, 12, 14), GRID.spacing_mm, GRID.origin_mm, GRID.direction))
LONGEST_S = 10.0


def spoilt(data: bytes, draw: random.Random) -> bytes:
    """Cut short, or one to twelve bytes turned, mostly in the header."""
    if draw.random() < 0.3:
        return data[: draw.randrange(len(data))]
    held = bytearray(data)
    reach = min(len(held), 1200) if draw.random() < 0.8 else len(held)
    for _ in range(draw.choice([1, 1, 2, 12])):
        at = draw.randrange(reach)
        held[at] = draw.choice([draw.randrange(256), held[at] ^ (1 << draw.randrange(8)), 0, 255])
    return bytes(held)


def outcome(path: Path):
    """The volume, or None where it is refused in words; in time."""
    start = time.perf_counter()
    try:
        return open_scan(path).read()
    except ScanError as problem:
        assert len(str(problem)) > 40 and str(path) in str(problem)
        return None
    finally:
        assert time.perf_counter() - start < LONGEST_S


def plain_slices(folder: Path):
    """(position, HU) of every file, each by pydicom alone."""
    for path in folder.iterdir():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = pydicom.dcmread(path, force=True)
                hu = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
                yield np.array(image.ImagePositionPatient, dtype=float), np.maximum(hu, -1024)
        except Exception:  # what pydicom cannot read, ours must not have read either
            continue


def check_said(volume, folder: Path) -> None:
    """Every slice of a volume is what one of the files says, at the place it says, or what it said before."""
    before = [(SMALL.geometry.to_lps(np.array([k, 0, 0])), hu) for k, hu in enumerate(SMALL.array)]
    slices = [*plain_slices(folder), *before]
    for z, hu in enumerate(volume.array):
        place = volume.geometry.to_lps(np.array([z, 0, 0]))
        assert any(
            np.abs(position - place).max() <= 0.15 and said.shape == hu.shape and np.abs(said - hu).max() <= 1
            for position, said in slices
        )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["plain", "JPEG lossless", "RLE"])
def test_spoilt_dicom_is_refused_or_read_as_it_says(kind, seed, tmp_path):
    paths, draw = write_series(tmp_path, SMALL), random.Random(seed)
    if kind != "plain":
        names = {"JPEG lossless": "JPEGLosslessProcess14_1", "RLE": "RLELossless"}
        for path in paths:
            compress(path, getattr(gdcm.TransferSyntax, names[kind]))
    refused = 0
    for _ in range(25):
        path = draw.choice(paths)
        whole = path.read_bytes()
        path.write_bytes(spoilt(whole, draw))
        volume = outcome(tmp_path)
        if volume is None:
            refused += 1
        else:
            check_said(volume, tmp_path)
        path.write_bytes(whole)
    assert 0 < refused < 25


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(3))
def test_spoilt_multi_frame_files_end_in_words_or_a_volume(seed, tmp_path):
    path, draw = write_frames(tmp_path / "a.dcm", SMALL), random.Random(seed)
    whole = path.read_bytes()
    read = [path.write_bytes(spoilt(whole, draw)) and outcome(path) for _ in range(25)]
    assert any(volume is None for volume in read)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_spoilt_image_files_are_refused_or_read_as_they_say(suffix, tmp_path):
    from genomic_vit import write_volume

    path, draw = tmp_path / f"a{suffix}", random.Random(1)
    if suffix.startswith(".nii"):
        nib.save(image_of(SMALL), path)
    else:
        write_volume(SMALL, path)
    whole, refused = path.read_bytes(), 0
    for _ in range(80):
        path.write_bytes(spoilt(whole, draw))
        volume = outcome(path)
        refused += volume is None
        if volume is not None and suffix == ".nii":
            said = np.maximum(nib.load(path).get_fdata(dtype=np.float32), -1024)
            assert np.array_equal(volume.array, said.reshape(said.shape[:3]).T)
        if volume is not None and suffix == ".nii.gz":
            assert np.array_equal(volume.array, SMALL.array)  # gzip's checksum: all or nothing
    assert refused > 10
