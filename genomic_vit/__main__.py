"""python -m genomic_vit, and the console script genomic-vit: list the commands, or run one by name."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

from genomic_vit.cli import leave

COMMANDS = {
    "train": "train a model on a cohort (without data: on the embedded phantom)",
    "predict": "a trained model on one scan: probability, heat map, picture",
    "evaluate": "a trained model on a whole other cohort",
    "benchmark": "the honest comparison: arms, folds, seeds, and a report",
    "manifest": "a manifest out of a DICOM download or export; plans and downloads public collections",
    "doctor": "can this cohort be used? a verdict a case, with the repair of what is wrong",
    "phantom": "write the synthetic cohort with a known answer",
}


def main(argv: list[str] | None = None) -> int:
    """List the commands, or run the one named first; returns the exit code."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in COMMANDS:
        return import_module(f"genomic_vit.{name}").main(rest)
    listed = "\n".join(f"  {command:10} {text}" for command, text in COMMANDS.items())
    usage = f"genomic_vit: genomic status of a lung tumour from CT, and where the answer came from\n\n{listed}\n\n"
    usage += "python -m genomic_vit.COMMAND --help, or genomic-vit COMMAND --help, tells more."
    usage += "\nFor research, not a medical device."
    if name in ("-h", "--help"):
        print(usage)
        return 0
    print(f"error: no command {name!r}\n\n{usage}", file=sys.stderr)
    return 2


def script() -> NoReturn:
    """What the console script runs: `main`, and the end that a process which trained with others needs."""
    leave(main())


if __name__ == "__main__":
    script()
