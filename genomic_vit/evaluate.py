"""python -m genomic_vit.evaluate: a trained model on a whole other cohort (external validation)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from genomic_vit.cli import add_reading_options, parse, progress_bar, reading_options, run_command


def main(argv: list[str] | None = None) -> int:
    """Parse, evaluate, print; returns the exit code."""
    return run_command(lambda: evaluate(sys.argv[1:] if argv is None else argv))


def evaluate(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m genomic_vit.evaluate", description="Score a trained model on the cases of another manifest."
    )
    parser.add_argument("run", metavar="RUN", help="run folder that train made")
    parser.add_argument("--data", required=True, metavar="OTHER.csv", help="manifest with the run's target columns")
    parser.add_argument("--out", required=True, metavar="OUT", help="folder for predictions.csv and metrics.json")
    parser.add_argument("--positive", help="text that means positive in OTHER.csv (default: as in the run)")
    parser.add_argument("--negative", help="text that means negative in OTHER.csv (default: as in the run)")
    add_reading_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an evaluation already in OUT")
    parser.add_argument("--skip-bad", action="store_true", help="leave out cases that cannot be used, and say which")
    parser.add_argument("--cache", help="folder of prepared slabs")
    parser.add_argument("--jobs", type=int, default=-1, help="processes that prepare cases; -1 takes all cores")
    parser.add_argument("--engine", choices=("loky", "ray", "dask"), default="loky", help="what runs them")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    options = parse(parser, argv)

    from genomic_vit.evaluation.summary import summarise
    from genomic_vit.run_evaluation import evaluate_run

    metrics = evaluate_run(
        Path(options.run),
        Path(options.data),
        Path(options.out),
        labels=(options.positive, options.negative),
        reading=reading_options(options),
        overwrite=options.overwrite,
        skip_bad=options.skip_bad,
        cache=Path(options.cache) if options.cache else None,
        jobs=options.jobs,
        engine=options.engine,
        device=options.device,
        bar=progress_bar,
    )
    print(summarise(metrics))
    print(f"predictions and metrics: {options.out}")


if __name__ == "__main__":
    sys.exit(main())
