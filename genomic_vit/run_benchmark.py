"""A benchmark, whole: check the cohort, run every part that is not kept yet, compare, report."""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
import yaml

from genomic_vit.cohort.manifest import read_manifest
from genomic_vit.data.prepare import Prepared
from genomic_vit.data.workers import Engine, Lost, run_each
from genomic_vit.evaluation.arms import ARMS, SwapArm, TableArm, trained_for
from genomic_vit.evaluation.comparison import compare
from genomic_vit.evaluation.faithfulness import heat_rows
from genomic_vit.evaluation.inference import slab_heat
from genomic_vit.evaluation.out_of_fold import collect
from genomic_vit.evaluation.overlay import draw_overlay
from genomic_vit.evaluation.plan import BenchmarkConfig, members
from genomic_vit.evaluation.report import Findings, example_arm, pick_examples, render_report
from genomic_vit.run import Bar, phantom_manifest, prepare_cohort
from genomic_vit.run_part import STUDY, Outcome, Part, is_done, run_part
from genomic_vit.study import BenchmarkError, Study, plan_study
from genomic_vit.training.lock import locked, no_room_said
from genomic_vit.training.machine import best_device, check_arithmetic
from genomic_vit.training.run_folder import RunFolder, environment
from genomic_vit.training.whole import write_text

COST = {"staged": 1.2, "vit": 0.4, "cnn": 0.5}  # of a mode's part, in the time of joint; only for the time left
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
    """Run what is not kept in `out` yet, and compare; writes results.csv, predictions.csv, heat.csv, excluded.csv.

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
        return compare_cohort(config, prepared, out, unlabelled=unlabelled, engine=engine, jobs=jobs)


def compare_cohort(
    config: BenchmarkConfig,
    prepared: Prepared,
    out: Path,
    *,
    unlabelled: int = 0,
    engine: Engine = "loky",
    jobs: int = -1,
) -> tuple[Findings, list[Outcome]]:
    """`run_benchmark` of a cohort that is prepared; `unlabelled` counts what it left out."""
    study, fold_names, left_out, warnings = plan_study(config, prepared)
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


def list_parts(study: Study, left_out: dict[str, str]) -> list[Part]:
    """All parts, seed by seed and fold by fold, so that whole folds are there early; swaps come with their network."""
    trained = dict.fromkeys(trained_for(ARMS[name]) for name in study.config.arms if name not in left_out)
    folds = int(study.folds.max()) + 1
    return [Part(arm, fold, seed) for seed in study.config.seeds for fold in range(folds) for arm in trained]


def run_parts(study: Study, parts: Sequence[Part], out: Path, engine: Engine, jobs: int) -> list[Outcome]:
    """Run the parts that are not done; tells each as it ends, with the time left. Returns those that failed."""
    left = [part for part in parts if not is_done(out, study, part)]
    if len(left) < len(parts):
        log.info("%d of %d parts are kept from before", len(parts) - len(left), len(parts))
    workers = 1 if jobs == 1 else min(len(left) or 1, joblib.cpu_count() if jobs < 1 else jobs)
    clock, failed = Clock(left, workers), []
    work = run_each(partial(_run_on_share, str(out), workers), left, engine=engine, jobs=jobs, folder=out)
    for done, (index, result) in enumerate(work, start=1):
        outcome = Outcome(left[index], 0.0, result.reason) if isinstance(result, Lost) else result
        clock.tick(outcome)
        said = f"FAILED: {outcome.reason}" if outcome.reason else f"{outcome.seconds:.0f} s"
        log.info("[%d of %d] %s: %s; %s", done, len(left), outcome.part, said, clock.left())
        if outcome.reason:
            failed.append(outcome)
    return failed


class Clock:
    """How long the parts that are left will take, from those that were done.

    Args:
        parts: to do.
        workers: at the same time.
    """

    def __init__(self, parts: Sequence[Part], workers: int) -> None:
        self._open = list(parts)
        self._workers = workers
        self._took: dict[str, list[float]] = defaultdict(list)

    def tick(self, outcome: Outcome) -> None:
        """A part ended."""
        self._open.remove(outcome.part)
        if outcome.reason is None:
            self._took[outcome.part.arm].append(outcome.seconds)

    def left_s(self) -> float | None:
        """Seconds left; None while no network has been timed that could stand for the others."""
        networks = [(_cost(arm), np.mean(took)) for arm, took in self._took.items() if _is_network(arm)]
        total = 0.0
        for part in self._open:
            if part.arm in self._took:
                total += float(np.mean(self._took[part.arm]))
            elif _is_network(part.arm):
                if not networks:
                    return None
                total += _cost(part.arm) * float(np.mean([seconds / cost for cost, seconds in networks]))
        return total / self._workers

    def left(self) -> str:
        """The same in words."""
        seconds = self.left_s()
        if seconds is None:
            return "time left not known yet"
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"


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
    patient_of = {case.case: case.patient for case in cohort.cases}
    scores, heat, seconds = {}, defaultdict(list), 0.0
    for part in list_parts(study, dict(left_out)):
        if is_done(out, study, part):
            scores[part] = pd.read_csv(part.folder(out) / "scores.csv", dtype={"case": str, "arm": str})
            if (part.folder(out) / "heat.csv").is_file():
                told = pd.read_csv(part.folder(out) / "heat.csv", dtype={"case": str})
                heat[part.arm].append(told.assign(patient=told["case"].map(patient_of), seed=part.seed))
            seconds += json.loads((part.folder(out) / "done.json").read_text(encoding="utf-8"))["seconds"]
    for name in config.arms:
        if name in dict(left_out):
            continue
        source = trained_for(ARMS[name])
        own = {(part.seed, part.fold): frame for part, frame in scores.items() if part.arm == source}
        arm = collect(name, own, cohort, config.seeds, config.unit)
        if arm is None:
            lost = [str(outcome.part) for outcome in failed if outcome.part.arm == source]
            gone.append((name, f"parts failed: {'; '.join(lost)}"))
        else:
            arms.append(arm)
    if not arms:
        raise BenchmarkError(f"every arm failed; the first: {failed[0].part}: {failed[0].reason}")
    groups = {condition: members(condition, cohort.covariates) for condition in config.subgroups}
    results = compare(cohort, arms, study.folds, config.reference, groups, config.minimum, config.unit, config.run.seed)
    told = [
        row for arm in arms if heat[arm.arm] for row in heat_rows(pd.concat(heat[arm.arm]), arm.arm, config.run.seed)
    ]
    results = pd.concat([results, pd.DataFrame(told)], ignore_index=True) if told else results
    return Findings(
        config,
        study.prepared,
        study.folds,
        fold_names,
        tuple(arms),
        results,
        tuple(gone),
        tuple(warnings),
        unlabelled,
        seconds,
    )


def write_report(found: Findings, out: Path, *, is_quick: bool = False) -> Path:
    """Write report.html into `out`, with heat examples chosen by rule; returns its path."""
    with tempfile.TemporaryDirectory() as pictures:
        examples = draw_examples(found, out, Path(pictures))
        environment = json.loads((out / "environment.json").read_text(encoding="utf-8"))
        settings = (out / "config.yaml").read_text(encoding="utf-8")
        page = render_report(found, examples, environment, settings, is_quick=is_quick)
    write_text(out / "report.html", page)
    return out / "report.html"


def draw_examples(found: Findings, out: Path, folder: Path) -> list[tuple[str, Path]]:
    """(caption, PNG) of the best, median and worst held-out case by the network that held it out, first seed."""
    config, cohort, name = found.config, found.prepared.cohort, example_arm(found.config)
    shown = [arm for arm in found.arms if arm.arm == name]
    if not shown:
        return []
    device, told = best_device(config.run.device), []
    for rule, case in pick_examples(shown[0], cohort.labels[:, 0], column=0):
        part = Part(shown[0].arm, int(found.folds[case]), config.seeds[0])
        model, slab = RunFolder(part.folder(out)).load_model(device), found.prepared.slabs[case]
        _, heat = slab_heat(model, slab, config.run.view, device)
        answer, label = shown[0].mean[case, 0], int(cohort.labels[case, 0])
        caption = f"{rule}: case {cohort.cases[case].case}, {cohort.targets[0]} {label}, probability {answer:.2f}"
        draw_overlay(slab, heat, config.run.view.window_hu, caption, folder / f"{rule}.png")
        told.append((caption, folder / f"{rule}.png"))
    return told


def write_predictions(found: Findings, path: Path) -> None:
    """One row a case and target: fold, label, then each arm's probability and threshold."""
    cohort, frames = found.prepared.cohort, []
    for column, target in enumerate(cohort.targets):
        label = cohort.labels[:, column]
        frame = pd.DataFrame(
            {
                "case": [case.case for case in cohort.cases],
                "patient": cohort.patients,
                "fold": found.folds,
                "target": target,
                "label": pd.array([None if np.isnan(value) else int(value) for value in label], dtype="Int64"),
            }
        )
        for arm in found.arms:
            frame[arm.arm] = arm.mean[:, column].round(6)
            frame[f"{arm.arm} threshold"] = arm.mean_threshold[:, column].round(6)
        frames.append(frame)
    pd.concat(frames, ignore_index=True).to_csv(path, index=False)


def _run_on_share(out: str, workers: int, part: Part) -> Outcome:
    """A part on this worker's share of the cores."""
    torch.set_num_threads(min(torch.get_num_threads(), max(1, joblib.cpu_count() // workers)))
    return run_part(out, part)


def _cost(arm: str) -> float:
    return COST.get(ARMS[arm].mode, 1.0)


def _is_network(arm: str) -> bool:
    return not isinstance(ARMS[arm], TableArm | SwapArm)
