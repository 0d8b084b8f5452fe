"""python -m genomic_vit.doctor: can this cohort be used? A verdict a case, with the repair of what is wrong."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from genomic_vit.cli import (
    add_reading_options,
    parse,
    progress_bar,
    read_config_file,
    reading_options,
    run_command,
)

UNUSABLE = 1
SHOWN = 40  # of a larger cohort the terminal shows the worst, and every unusable case up to:
UNUSABLE_SHOWN = 400
WIDTH = 160  # of what is written to a file or pipe
COLOURS = {"unusable": "red", "doubtful": "yellow", "usable": "green"}


def main(argv: list[str] | None = None) -> int:
    """Parse, inspect, print; returns the exit code: 1 where a case cannot be used."""
    unusable: list[str] = []
    code = run_command(lambda: unusable.extend(doctor(sys.argv[1:] if argv is None else argv)))
    return code or (UNUSABLE if unusable else 0)


def doctor(argv: list[str]) -> list[str]:
    """Inspect a cohort, print and write the inventory; the names of the cases that cannot be used."""
    options = parse(_parser(), argv)
    config = read_config_file(options.config)
    given = reading_options(options)
    on_gap = given.pop("on_gap", config.scan.on_gap)
    config = replace(config, lesion=replace(config.lesion, **given), scan=replace(config.scan, on_gap=on_gap))
    targets = tuple(name.strip() for name in (options.target or "").split(",") if name.strip())

    from genomic_vit.data.examine import examine  # heavy imports from here on, so that --help is quick

    out = Path(options.out) if options.out else None
    with _ready(out) if out else nullcontext() as pictures:
        with progress_bar("inspecting cases") as progress:
            inventory = examine(
                Path(options.cohort),
                config,
                targets=targets or (config.targets if config.data and config.target else ()),
                jobs=options.jobs,
                progress=progress,
                pictures=pictures,
            )
        _print(inventory)
        if out:
            _write(inventory, pictures, out, options.cohort)
    return [report.case for report in inventory.reports if report.verdict == "unusable"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m genomic_vit.doctor",
        description="Inspect every case of a cohort as training would read it: scan, lesion, labels, duplicates and "
        "identifiers. Exit code 1 if any case cannot be used.",
    )
    parser.add_argument("cohort", metavar="MANIFEST_OR_FOLDER", help="manifest CSV, or a folder of DICOM files")
    parser.add_argument("--out", metavar="DIR", help="folder for doctor.csv and doctor.html, with a picture a case")
    parser.add_argument("--config", metavar="FILE", help="YAML of the run meant: labels, lesion, slab, split")
    parser.add_argument("--target", metavar="NAMES", help="label columns, with commas (default: all of 1 and 0)")
    add_reading_options(parser)
    parser.add_argument("--jobs", type=int, default=-1, help="processes; -1 takes all cores")
    return parser


def _print(inventory) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    counted = Counter(report.verdict for report in inventory.reports)
    shown = inventory.reports
    if len(shown) > SHOWN:
        ill = sorted(shown, key=lambda report: list(COLOURS).index(report.verdict))
        shown = ill[: min(max(SHOWN, counted["unusable"]), UNUSABLE_SHOWN)]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("case", "verdict", "scan", "spacing mm", "lesion", "to know"):
        table.add_column(name, overflow="fold")
    for report in shown:
        facts = report.facts
        lesion = f"{facts['lesion_ml']} ml, {facts['lesion_slices']} slices" if "lesion_ml" in facts else ""
        told = "\n".join(escape(str(one)) for one in report.findings)
        scan = " ".join(filter(None, (facts.get("series_chosen"), facts.get("kernel")))) or facts.get("voxels", "")
        colour = COLOURS[report.verdict]
        table.add_row(escape(report.case), f"[{colour}]{report.verdict}[/{colour}]", escape(scan),
                      facts.get("spacing_mm", ""), lesion, told)  # fmt: skip
    console.print(table)
    if len(shown) < len(inventory.reports):
        more = max(counted["unusable"] - UNUSABLE_SHOWN, 0)
        ill = f", {more} of them unusable" if more else ""
        console.print(
            f"and {len(inventory.reports) - len(shown)} cases more{ill}; --out writes them all", highlight=False
        )
    for remark in inventory.remarks:
        console.print(escape(remark), highlight=False)
    console.print(", ".join(f"{counted[verdict]} {verdict}" for verdict in COLOURS), highlight=False)


def _ready(out: Path):
    """The folder, made and tried before anything is inspected; what holds the pictures until they are written."""
    from genomic_vit.data.picture_file import InventoryError, PictureFile

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InventoryError(
            f"{out}: cannot be made ({problem.strerror}); name another folder with --out."
        ) from problem
    for name in ("doctor.csv", "doctor.html"):
        if (out / name).is_dir():
            raise InventoryError(f"{out / name}: is a folder, where a file is to be written; name another with --out.")
    return PictureFile(out)


def _write(inventory, pictures, out: Path, cohort: str) -> None:
    from genomic_vit.evaluation.inventory_page import write_inventory

    pages = write_inventory(out, inventory.reports, pictures, f"Inventory of {cohort}", inventory.remarks)
    where = f"{out / 'doctor.html'}" + (f" and {pages - 1} pages more" if pages > 1 else "")
    print(f"every case with its facts: {out / 'doctor.csv'}; with its picture: {where}")


if __name__ == "__main__":
    sys.exit(main())
