"""python -m genomic_vit.manifest: a manifest out of a download or PACS export, and what a public collection holds."""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from genomic_vit.cli import parse, progress_bar, read_config_file, run_command
from genomic_vit.config import ConfigError, LabelsConfig, LesionConfig

USAGE = """python -m genomic_vit.manifest PRESET --dicom DIR [--labels CSV] --out cases.csv
       python -m genomic_vit.manifest PRESET --plan [--out plan.csv]
       python -m genomic_vit.manifest PRESET --dicom DIR --download [--labels CSV --out cases.csv]"""
NAMES = ("nsclc-radiogenomics", "lung1", "lidc", "msd-lung", "dicom")


def main(argv: list[str] | None = None) -> int:
    """Parse, build, print; returns the exit code."""
    return run_command(lambda: manifest(sys.argv[1:] if argv is None else argv))


def manifest(argv: list[str]) -> None:
    options = parse(_parser(), argv)
    _check(options)
    from genomic_vit.cohort.presets import PRESETS

    preset = PRESETS[options.preset]
    if options.lesion_series is not None:
        preset = replace(preset, lesion_series=options.lesion_series, not_lesion="")
    if options.plan or options.download:
        _plan(options, preset)
    if options.out and not options.plan:
        _build(options, preset)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m genomic_vit.manifest",
        usage=USAGE,
        description="Build a manifest: the right series, lesion and label of every patient, or why not.",
    )
    parser.add_argument("preset", metavar="PRESET", help=f"{', '.join(NAMES)} (a tree of your own)")
    parser.add_argument("--dicom", metavar="DIR", help="tree of DICOM files, of any depth and mixture")
    parser.add_argument("--nifti", metavar="DIR", help="folder Task06_Lung of the Decathlon (msd-lung)")
    parser.add_argument("--labels", metavar="TABLE", help="clinical CSV or XLSX with one row a patient")
    parser.add_argument("--config", metavar="FILE", help="YAML whose sections labels and lesion hold further rules")
    parser.add_argument("--out", metavar="FILE", help="manifest to write; with --plan, a CSV of every series")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    parser.add_argument("--points", metavar="CSV", help="tumour points in mm, for patients without a lesion object")
    parser.add_argument("--target", metavar="NAMES", help="targets, with commas (default: all that can be learned)")
    parser.add_argument("--key", metavar="COLUMN", help="column of TABLE that names the patient")
    parser.add_argument("--sheet", metavar="NAME", help="sheet of an XLSX (default: the first)")
    parser.add_argument("--min-cases", type=int, metavar="N", help="fewest positives, and negatives, of a target")
    parser.add_argument("--allow-outcome-columns", action="store_true", help="allow covariates known after treatment")
    parser.add_argument("--lesion-series", metavar="REGEX", help="SeriesDescription of the SEG or RTSTRUCT to take")
    parser.add_argument("--roi", help="ROI or segment that is the lesion: number, name, or pattern such as GTV*")
    parser.add_argument("--frame", choices=("lps", "ras"), help="frame of points and boxes in mm (default: lps)")
    parser.add_argument("--on-gap", choices=("error", "resample"), help="series with missing slices: refuse, or fill")
    parser.add_argument("--plan", action="store_true", help="say what would be used, from the index of the extra idc")
    parser.add_argument("--download", action="store_true", help="fetch what the plan names into DIR (the extra idc)")
    parser.add_argument(
        "--without-lesion", action="store_true", help="take patients without a lesion object too (for --field lung)"
    )
    return parser


def _check(options: argparse.Namespace) -> None:
    """Raise ConfigError where the preset is unknown or options do not go together."""
    if options.preset not in NAMES:
        near = difflib.get_close_matches(options.preset, NAMES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(NAMES)}"
        raise ConfigError(f"no preset {options.preset!r}; {hint}")
    folder, other = ("nifti", "dicom") if options.preset == "msd-lung" else ("dicom", "nifti")
    if getattr(options, other):
        raise ConfigError(f"{options.preset} is read with --{folder} DIR, not --{other}")
    if options.plan and options.download:
        raise ConfigError("--plan says what --download would fetch; give one of them")
    if not options.plan and getattr(options, folder) is None:
        raise ConfigError(f"name the folder of the scans with --{folder} DIR (or ask for a --plan)")
    if not (options.plan or options.download or options.out):
        raise ConfigError("name the manifest to write with --out cases.csv")
    if options.labels is None and (options.key or options.sheet or options.target):
        raise ConfigError("--key, --sheet and --target belong to a clinical table; name it with --labels")


def _plan(options: argparse.Namespace, preset) -> None:
    from genomic_vit.cohort.commons_index import read_index
    from genomic_vit.cohort.commons_plan import plan_collection
    from genomic_vit.cohort.commons_text import summary, write_plan

    if not preset.collection:
        raise ConfigError(f"{options.preset} is not in the Imaging Data Commons; there is nothing to plan or download")
    rows, version = read_index(preset.collection)
    plan = plan_collection(rows, preset, version)
    print(summary(plan, preset))
    if options.plan and options.out:
        write_plan(plan, Path(options.out), overwrite=options.overwrite)
        print(f"every series with its verdict and reason: {options.out}")
    if options.download:
        from genomic_vit.cohort.commons_fetch import fetch

        wanted = plan.wanted(without_lesion=options.without_lesion)
        fetched = fetch(wanted, Path(options.dicom))
        print(f"{fetched} series fetched into {options.dicom}, {len(wanted) - fetched} were there")


def _build(options: argparse.Namespace, preset) -> None:
    from genomic_vit.cohort.build import Labelled, check_free, put_to_cases, read_labels, read_points, write_manifest
    from genomic_vit.cohort.gather import gather_dicom, gather_msd

    config = read_config_file(options.config)
    labels, lesion = _label_rules(options, config.labels), _lesion_rules(options, config.lesion, preset.roi)
    on_gap = options.on_gap or config.scan.on_gap
    out = Path(options.out)
    check_free(out, overwrite=options.overwrite)
    asked = tuple(name.strip() for name in (options.target or "").split(",") if name.strip())
    read = read_labels(labels, asked)  # before many headers are read
    if preset.files == "msd":
        gathered = gather_msd(Path(options.nifti))
    else:
        points = read_points(Path(options.points)) if options.points else None
        with progress_bar("reading headers") as progress:
            gathered = gather_dicom(
                Path(options.dicom),
                preset,
                lesion,
                points=points,
                on_gap=on_gap,
                lesionless=options.without_lesion,
                progress=progress,
            )
    labelled = put_to_cases(*read, gathered.cases, labels) if read and gathered.cases else Labelled()
    left_out = write_manifest(out, gathered, labelled)
    print(f"{out}: {len(gathered.cases)} cases of {len({case.patient for case in gathered.cases})} patients")
    for line in (*labelled.targets, *labelled.covariates):
        print(f"  {line}")
    for _, reason in labelled.refused:
        print(f"  left out: {reason}")
    if left_out:
        print(f"{len(gathered.excluded) + len(gathered.damaged)} left out, each with its reason: {left_out}")
    train = ["--data", str(out), "--target", ",".join(target.name for target in labelled.targets) or "TARGET"]
    changed = ["--on-gap", on_gap] if on_gap != "error" else []
    changed += ["--field", "lung"] if any(case.lesion is None for case in gathered.cases) else []
    changed += [word for name in ("roi", "frame") if (value := getattr(lesion, name)) != getattr(LesionConfig(), name)
                for word in (f"--{name}", value)]  # fmt: skip
    print(f"check it:   python -m genomic_vit.doctor {shlex.join([str(out), *changed])}")
    print(f"then train: python -m genomic_vit.train --mode joint {shlex.join([*train, *changed])}")


def _label_rules(options: argparse.Namespace, given: LabelsConfig) -> LabelsConfig:
    """The config's label rules, the preset's where it has none, and over them the options."""
    table = options.labels or given.table
    if table is None:
        return LabelsConfig()
    known = None if options.preset == "dicom" else options.preset
    return replace(
        given,
        table=table,
        sheet=options.sheet or given.sheet,
        key=options.key or given.key,
        preset=given.preset or known,
        min_cases=given.min_cases if options.min_cases is None else options.min_cases,
        allow_outcome_columns=given.allow_outcome_columns or options.allow_outcome_columns,
    )


def _lesion_rules(options: argparse.Namespace, given: LesionConfig, roi: str) -> LesionConfig:
    return replace(given, roi=options.roi or given.roi or roi or None, frame=options.frame or given.frame)


if __name__ == "__main__":
    sys.exit(main())
