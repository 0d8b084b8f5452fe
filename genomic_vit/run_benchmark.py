"""A benchmark, whole: check the cohort, run every part that is not kept yet, compare, report."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import joblib
import pandas as pd
import yaml

from genomic_vit.cohort.manifest import read_manifest
from genomic_vit.comparison.files import write_predictions
from genomic_vit.comparison.part import STUDY, Outcome, is_done
from genomic_vit.comparison.part_heat import heat_results
from genomic_vit.comparison.parts import list_parts, run_parts
from genomic_vit.comparison.study import BenchmarkError, Study, plan_study
from genomic_vit.data.prepare import Prepared
from genomic_vit.data.scan_record import ScanRecord
from genomic_vit.data.workers import Engine
from genomic_vit.evaluation.arms import ARMS, trained_for
from genomic_vit.evaluation.comparison import compare
from genomic_vit.evaluation.out_of_fold import OutOfFold, collect
from genomic_vit.evaluation.plan import BenchmarkConfig, members
from genomic_vit.evaluation.report import Findings
from genomic_vit.run import Bar, phantom_manifest, prepare_cohort, record_scans
from genomic_vit.training.environment import changes, environment
from genomic_vit.training.lock import locked, no_room_said
from genomic_vit.training.machine import best_device, check_arithmetic
from genomic_vit.training.whole import write_text

log = logging.getLogger(__name__)


def run_benchmark(
    config: BenchmarkConfig,
    out: Path,
    *,
    cache: Path,
    engine: Engine = "loky",
    jobs: int = -1,
    skip_bad: bool = False,
    bar: Bar | None = None,
) -> tuple[Findings, list[Outcome]]:
    """Run what is not kept in `out` yet, and compare; writes results.csv, predictions.csv, excluded.csv.

    Args:
        config: of the benchmark.
        out: folder; parts of an earlier run of the same settings in it are kept.
        cache: folder of prepared slabs and the phantom.
        engine, jobs: where parts run, as `run_each` takes them.
        skip_bad: leave unusable cases out.
        bar: gives progress bars for preparing; None shows none.

    Returns:
        what was found, and the parts that failed.

    Raises:
        UserError: cohort or settings cannot be used; nothing is trained then.
    """
    check_arithmetic(config.run.training, best_device(config.run.device))
    with locked(out), no_room_said(out):
        prepared = prepare_cohort(config.run, cache, skip_bad=skip_bad, jobs=jobs, engine=engine, bar=bar)
        listed = len(read_manifest(config.run.data or phantom_manifest(config.run.phantom, cache), ()).cases)
        used = round(sum(1 / slab.siblings for slab in prepared.slabs))  # rows: one may have given several cases
        unlabelled = listed - used - len(prepared.excluded)
        records = record_scans(config.run, prepared, cache, jobs=jobs, engine=engine, bar=bar)
        return compare_cohort(config, prepared, out, unlabelled=unlabelled, records=records, engine=engine, jobs=jobs)


def compare_cohort(
    config: BenchmarkConfig,
    prepared: Prepared,
    out: Path,
    *,
    unlabelled: int = 0,
    records: Sequence[ScanRecord] | None = None,
    engine: Engine = "loky",
    jobs: int = -1,
) -> tuple[Findings, list[Outcome]]:
    """`run_benchmark` of a prepared cohort; `unlabelled` counts what it left out, `records` are of its cases' scans."""
    study, fold_names, left_out, warnings = plan_study(config, prepared, records)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "config.yaml", yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(config))), sort_keys=False))
    write_text(out / "environment.json", json.dumps(environment(), indent=2))
    prepared.write_excluded(out)
    joblib.dump(study, out / STUDY)
    failed = run_parts(study, list_parts(study, dict(left_out)), out, engine, jobs)
    (out / STUDY).unlink()
    found = compare_parts(study, out, fold_names, left_out, warnings, failed, unlabelled)
    found.results.to_csv(out / "results.csv", index=False)
    write_predictions(found, out / "predictions.csv")
    return found, failed


def compare_parts(
    study: Study,
    out: Path,
    fold_names: tuple[str, ...],
    left_out: Sequence[tuple[str, str]],
    warnings: Sequence[str],
    failed: Sequence[Outcome],
    unlabelled: int,
) -> Findings:
    """Read all parts back and compare the arms whose every part is there."""
    config, cohort, arms, gone = study.config, study.prepared.cohort, [], list(left_out)
    scores, done = {}, []
    for part in list_parts(study, dict(left_out)):
        if is_done(out, study, part):
            scores[part] = pd.read_csv(part.folder(out) / "scores.csv", dtype={"case": str, "arm": str})
            done.append(json.loads((part.folder(out) / "done.json").read_text(encoding="utf-8")))
    for name in config.arms:
        if name in dict(left_out):
            continue
        source = trained_for(ARMS[name])
        own = {(part.seed, part.fold): frame for part, frame in scores.items() if part.arm == source}
        arm = collect(name, own, cohort, config.seeds, config.unit)
        if arm is None:
            lost = [str(outcome.part) for outcome in failed if outcome.part.arm == source]
            gone.append((name, f"parts failed: {'; '.join(lost)}" if lost else "cases are left without a score"))
        else:
            arms.append(arm)
    if not arms:
        why = f"{failed[0].part}: {failed[0].reason}" if failed else "{}: {}".format(*gone[0])
        raise BenchmarkError(f"every arm failed; the first: {why}")
    missing = reference_missing(config, arms, dict(gone))
    made = made_elsewhere([told.get("environment", {}) for told in done])  # parts of before that was kept have none
    groups = {condition: members(condition, cohort.covariates) for condition in config.subgroups}
    results = compare(
        cohort, arms, study.folds, config.reference, groups, config.minimum, config.unit, config.run.seed,
        within_folds=config.site is not None,
    )  # fmt: skip
    told, untold = heat_results(study, out, [arm.arm for arm in arms])
    results = pd.concat([results, told], ignore_index=True) if len(told) else results
    return Findings(
        config,
        study.prepared,
        study.folds,
        fold_names,
        tuple(arms),
        results,
        tuple(gone),
        (*missing, *made, *warnings, *untold),
        unlabelled,
        sum(told["seconds"] for told in done),
        study.checked,
    )


def reference_missing(config: BenchmarkConfig, arms: Sequence[OutOfFold], gone: dict[str, str]) -> list[str]:
    """A warning, also logged, where no arm can be compared with the reference."""
    if config.reference in {arm.arm for arm in arms}:
        return []
    warning = (
        f"the reference {config.reference} is missing ({gone[config.reference]}): no differences from it are given. "
        "Run the same command again, or choose another --reference."
    )
    log.warning("%s", warning)
    return [warning]


def made_elsewhere(environments: Sequence[Mapping[str, str]]) -> list[str]:
    """A warning, also logged, where parts were not made under the versions and on the machine of now.

    Args:
        environments: of each part; what one lacks is not known, and not warned of.
    """
    now = environment()
    differ = [each for then in environments if (each := changes(then, now))]
    if not differ:
        return []
    listed = []
    for name in now:
        counts = Counter(each[name][0] for each in differ if name in each)
        if counts:
            listed.append(f"{name} {', '.join(f'{then} ({n})' for then, n in counts.items())}, now {now[name]}")
    warning = (
        f"{len(differ)} of {len(environments)} parts were made under other versions or on another machine than this "
        f"report tells: {'; '.join(listed)}. Numbers may differ for that alone; to have all parts made alike, give "
        "another --out."
    )
    log.warning("%s", warning)
    return [warning]
