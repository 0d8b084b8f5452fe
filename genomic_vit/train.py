"""python -m genomic_vit.train: train a model on a cohort, and say how well it does on held-out patients."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from genomic_vit.cli import leave, parse, progress_bar, run_command, run_config_parser
from genomic_vit.config import ConfigError, RunConfig

USAGE = """python -m genomic_vit.train --mode joint|staged [--config FILE] [--data MANIFEST.csv] [--target NAME[,NAME]]
                                   [--out RUN] [--resume | --overwrite] [--skip-bad] [--SETTING VALUE ...]"""


def main(argv: list[str] | None = None) -> int:
    """Parse, train, print; returns the exit code."""
    return run_command(lambda: train(sys.argv[1:] if argv is None else argv))


def train(argv: list[str]) -> None:
    parser = run_config_parser(USAGE, "Train on a manifest's cases, or on the embedded phantom cohort.")
    parser.add_argument("--out", type=str, default=None, help="run folder (default: runs/MODE-TIME).")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out where it stopped.")
    parser.add_argument("--overwrite", action="store_true", help="delete the run in --out first.")
    parser.add_argument("--skip-bad", action="store_true", help="leave out cases that cannot be used, and say which.")
    parser.add_argument("--profile", action="store_true", help="say where the time went, part by part.")
    parser.add_argument("--cache", type=str, default=None, help="folder of prepared slabs and the phantom cohort.")
    parser.add_argument("--jobs", type=int, default=-1, help="processes that prepare cases; -1 takes all cores.")
    parser.add_argument(
        "--engine",
        choices=("loky", "ray", "dask"),
        default="loky",
        help="what runs them: loky on this machine, ray or dask on a cluster (RAY_ADDRESS, DASK_SCHEDULER_ADDRESS).",
    )
    parser.add_argument("--devices", type=int, default=1, help="GPUs, or CPU processes, that train on each machine.")
    parser.add_argument(
        "--num-nodes", type=int, default=1, help="machines; srun or torchrun starts the command on each."
    )
    parser.add_argument(
        "--strategy",
        choices=("auto", "ddp", "fsdp"),
        default="auto",
        help="Lightning's way of training together.",
    )
    options = parser.instantiate(parse(parser, argv))

    from genomic_vit.evaluation.summary import summarise
    from genomic_vit.run_training import train_run  # heavy imports from here on, so that --help is quick
    from genomic_vit.training.machine import Processes

    config = RunConfig(**{name: getattr(options, name) for name in RunConfig.__dataclass_fields__})
    if options.resume and not options.out:
        raise ConfigError(f"--resume needs --out, the folder of the run to continue{_unfinished(Path('runs'))}.")
    out = Path(options.out or f"runs/{config.mode}-{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        result = train_run(
            config,
            out,
            resume=options.resume,
            overwrite=options.overwrite,
            skip_bad=options.skip_bad,
            cache=Path(options.cache) if options.cache else None,
            jobs=options.jobs,
            engine=options.engine,
            profile=options.profile,
            bar=progress_bar,
            processes=Processes(options.devices, options.num_nodes, options.strategy),
        )
    except KeyboardInterrupt:
        again = [word for word in argv if word not in ("--overwrite", "--resume")]
        again += [] if options.out else ["--out", str(out)]
        print(f"\ncontinue with: python -m genomic_vit.train {shlex.join(again)} --resume", file=sys.stderr)
        raise
    if result is None:  # the first process says it
        return
    print(f"held-out {summarise(result.metrics)}")
    print(f"run folder: {result.folder}")
    if result.example is None:
        return
    scan, lesion = result.example
    predict = [*(["--lesion", str(lesion)] if str(lesion) else []), "--out", str(result.folder / "predict")]
    print(f"try next: {shlex.join([sys.executable, '-m', 'genomic_vit.predict', str(out), str(scan), *predict])}")


def _unfinished(runs: Path) -> str:
    """Runs that could be meant, newest last, in words."""
    begun = [path.parent for path in runs.glob("*/split.csv") if not (path.parent / "metrics.json").exists()]
    begun.sort(key=lambda run: (run / "split.csv").stat().st_mtime)
    return f"; not complete here: {', '.join(map(str, begun))}" if begun else ""


if __name__ == "__main__":
    leave(main())
