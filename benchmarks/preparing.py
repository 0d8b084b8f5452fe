"""Time and memory of preparing one case from a DICOM series of 300 slices of 512 x 512, against reading it whole.

    python -m benchmarks.preparing [--slices 300] [--repeats 5] [--out FILE.json]

Arms, each in processes of its own, on the same warm files: preparing the case (headers, lesion, the slab's slices, cut,
written to an empty cache); finding it in the cache; SimpleITK listing and reading the series whole; SimpleITK reading
it whole once its files are listed. Bars: preparing takes at most 0.35 x SimpleITK's reading and at most 300 MB.
Takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BAR_TIME, BAR_MB = 0.35, 300


def write_case(folder: Path, slices: int) -> None:
    """A chest of noise, with a spherical lesion of 20 mm drawn as a mask on its grid."""
    import numpy as np

    from genomic_vit import Geometry, Volume, write_volume
    from tests.dicoms import write_series

    geometry = Geometry(
        (slices, 512, 512), np.array([1.0, 0.7, 0.7]), np.array([-180.0, -180.0, 0.0]), np.eye(3)[:, ::-1]
    )
    hu = np.random.default_rng(0).integers(-1000, 200, geometry.shape, dtype=np.int16)
    write_series(folder / "scan", Volume(hu, geometry))
    z, y, x = np.ogrid[: geometry.shape[0], :512, :512]
    middle = (slices // 2, 220, 180)
    ball = ((z - middle[0]) ** 2 + ((y - middle[1]) * 0.7) ** 2 + ((x - middle[2]) * 0.7) ** 2) <= 100.0
    write_volume(Volume(ball, geometry), folder / "lesion.nii.gz")
    low, high = np.argwhere(ball).min(0) - 2, np.argwhere(ball).max(0) + 3
    part = ball[tuple(map(slice, low, high))]
    block = Geometry(part.shape, geometry.spacing_mm, geometry.to_lps(low), geometry.direction)
    write_volume(Volume(part, block), folder / "lesion-block.nii.gz")


def arm(name: str, folder: Path) -> dict[str, float]:
    """Run one arm in this process; seconds and peak memory."""
    if name == "SimpleITK":
        import SimpleITK as sitk

        start = time.perf_counter()
        reader = sitk.ImageSeriesReader()
        series = reader.GetGDCMSeriesIDs(str(folder / "scan"))
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder / "scan"), series[0]))
        listed = time.perf_counter()
        reader.Execute()
        return {"seconds": time.perf_counter() - start, "read only": time.perf_counter() - listed}
    from genomic_vit.data.cache import load_slabs, open_cache
    from genomic_vit.data.case import Reading

    x, y, z = -180 + 180 * 0.7, -180 + 220 * 0.7, len(list((folder / "scan").iterdir())) // 2
    lesion = {
        "point": f"{x},{y},{z}",
        "mask of its own size": folder / "lesion-block.nii.gz",
        "mask of the whole grid": folder / "lesion.nii.gz",
    }[name]
    with tempfile.TemporaryDirectory() as cache:
        place = open_cache(Path(cache))
        start = time.perf_counter()
        load_slabs(folder / "scan", lesion, Reading(), place)
        made = time.perf_counter()
        load_slabs(folder / "scan", lesion, Reading(), place)
        return {"seconds": made - start, "from cache": time.perf_counter() - made}


def peak_mb() -> float:
    """High-water mark of this process's memory (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--arm", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(arm(options.arm[0], Path(options.arm[1])) | {"peak_mb": peak_mb()}))
        return
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_case(Path(folder), options.slices)
        for _ in range(options.repeats + 1):  # the first warms the files
            for name in ("SimpleITK", "point", "mask of its own size", "mask of the whole grid"):
                command = [sys.executable, "-m", "benchmarks.preparing", "--arm", name, folder]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found.setdefault(name, []).append(json.loads(said.splitlines()[-1]))
    best = {n: {key: min(run[key] for run in runs[1:]) for key in runs[0]} for n, runs in found.items()}
    whole = best["SimpleITK"]["seconds"]
    for name, numbers in best.items():
        print(f"{name:22s}" + "".join(f"{key} {value:8.3f}  " for key, value in numbers.items()))
        if name != "SimpleITK":
            print(f"{'':22s}{numbers['seconds'] / whole:.2f} x SimpleITK (bar {BAR_TIME}), bar {BAR_MB} MB")
    if options.out:
        options.out.write_text(json.dumps(best, indent=2) + "\n")


if __name__ == "__main__":
    main()
