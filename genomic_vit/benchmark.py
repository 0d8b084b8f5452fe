"""python -m genomic_vit.benchmark: arms on the same folds, with intervals, and a report of what the heat is worth."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from genomic_vit.cli import parse, progress_bar, run_command, run_config_parser
from genomic_vit.evaluation.plan import BenchmarkConfig, quick

USAGE = """python -m genomic_vit.benchmark EXPERIMENT.yaml --out DIR [--quick] [--engine loky|ray|dask] [--jobs N]
                                       [--skip-bad] [--SETTING VALUE ...]"""
log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Parse, compare, print; returns the exit code."""
    return run_command(lambda: benchmark(sys.argv[1:] if argv is None else argv))


def benchmark(argv: list[str]) -> None:
    if argv and not argv[0].startswith("-"):
        argv = ["--config", *argv]
    parser = run_config_parser(
        USAGE, "Compare arms on the same patient-level folds and report.", BenchmarkConfig, "benchmark"
    )
    parser.add_argument("--out", type=str, required=True, help="folder; parts kept in it are not run again.")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: one seed, 3 folds, 8 epochs, fewer arms.")
    parser.add_argument("--engine", choices=("loky", "ray", "dask"), default="loky", help="where parts run.")
    parser.add_argument("--jobs", type=int, default=-1, help="parts at the same time; -1 takes all cores.")
    parser.add_argument("--skip-bad", action="store_true", help="leave out cases that cannot be used, and say which.")
    parser.add_argument("--cache", type=str, default=None, help="folder of prepared slabs and the phantom cohort.")
    options = parser.instantiate(parse(parser, argv, BenchmarkConfig))
    config = BenchmarkConfig(**{name: getattr(options, name) for name in BenchmarkConfig.__dataclass_fields__})

    from genomic_vit.comparison.files import write_report
    from genomic_vit.comparison.study import BenchmarkError
    from genomic_vit.data.cache import cache_folder
    from genomic_vit.evaluation.report import print_table
    from genomic_vit.run_benchmark import run_benchmark

    out = Path(options.out)
    found, failed = run_benchmark(
        quick(config) if options.quick else config,
        out,
        cache=Path(options.cache) if options.cache else cache_folder(),
        engine=options.engine,
        jobs=options.jobs,
        skip_bad=options.skip_bad,
        bar=progress_bar,
    )
    report = write_report(found, out, is_quick=options.quick)
    print(print_table(found.results, found.config))
    print(f"report: {report}\nnumbers: {out / 'results.csv'}, {out / 'predictions.csv'}")
    if failed:
        named = "; ".join(f"{outcome.part} ({outcome.reason})" for outcome in failed[:5])
        raise BenchmarkError(
            f"{len(failed)} parts failed: {named}. The rest is compared and kept; error.txt in each part's folder has "
            "the trace. Run the same command again to try them anew."
        )


if __name__ == "__main__":
    sys.exit(main())
