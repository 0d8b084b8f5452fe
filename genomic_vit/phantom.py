"""python -m genomic_vit.phantom: write the synthetic chest CT cohort."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from genomic_vit.cli import parse, progress_bar, run_command
from genomic_vit.config import PHANTOM_TARGET, PhantomConfig


def main(argv: list[str] | None = None) -> int:
    """Parse, make, print; returns the exit code."""
    return run_command(lambda: phantom(sys.argv[1:] if argv is None else argv))


def phantom(argv: list[str]) -> None:
    default = PhantomConfig()
    parser = argparse.ArgumentParser(
        prog="python -m genomic_vit.phantom",
        description="Write synthetic chest CT scans, lesion masks and a manifest, with a known phenotype.",
    )
    parser.add_argument("dir", metavar="DIR", help="new folder")
    parser.add_argument("--patients", type=int, default=default.patients, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=default.seed, help="default: %(default)s")
    parser.add_argument("--signal", type=float, default=default.signal, help="1 plants the phenotype, 0 nothing")
    parser.add_argument("--jobs", type=int, default=-1, help="processes; -1 takes all cores")
    options = parse(parser, argv)
    wanted = PhantomConfig(options.patients, options.seed, options.signal)

    from genomic_vit.cohort.phantom import make_phantom

    with progress_bar("making the phantom cohort") as progress:
        manifest = make_phantom(
            Path(options.dir), wanted.patients, wanted.seed, wanted.signal, progress=progress, jobs=options.jobs
        )
    print(f"{manifest}: {wanted.patients} patients, target {PHANTOM_TARGET}")
    print(f"next: python -m genomic_vit.train --mode joint --data {manifest} --target {PHANTOM_TARGET}")


if __name__ == "__main__":
    sys.exit(main())
