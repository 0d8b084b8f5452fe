"""One training run, from manifest to metrics."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.callbacks import RichProgressBar

from genomic_vit.cohort.folds import Split, split_cohort
from genomic_vit.config import RunConfig
from genomic_vit.data.cache import cache_folder
from genomic_vit.data.prepare import Prepared
from genomic_vit.data.scan_record import ScanRecord
from genomic_vit.data.workers import Engine
from genomic_vit.evaluation.inference import case_probabilities
from genomic_vit.evaluation.leakage import LeakError, check_leaks
from genomic_vit.models.genomic_vit import GenomicViT, build_model
from genomic_vit.models.pretrained import PretrainedReport, load_pretrained
from genomic_vit.run import Bar, prepare_cohort, record_scans
from genomic_vit.run_evaluation import evaluate_cohort
from genomic_vit.training.checkpoints import can_continue
from genomic_vit.training.fit import fit
from genomic_vit.training.lock import locked, no_room_said
from genomic_vit.training.machine import ALONE, Processes, best_device, check_arithmetic, check_processes
from genomic_vit.training.run_folder import RunFolder, write_predictions
from genomic_vit.training.split_file import check_split
from genomic_vit.training.stages import schedule
from genomic_vit.training.together import Together
from genomic_vit.training.whole import write_text

log = logging.getLogger(__name__)


class StageProgressBar(RichProgressBar):
    """Lightning's bar without the logger's version number."""

    def get_metrics(self, trainer, module) -> dict:
        return {name: value for name, value in super().get_metrics(trainer, module).items() if name != "v_num"}


@dataclass(frozen=True)
class RunResult:
    """What a finished run says.

    Args:
        folder: where everything is.
        metrics: as metrics.json holds it.
        example: (scan, lesion) of one held-out case, to try predict on; None where the run was complete before.
    """

    folder: Path
    metrics: dict
    example: tuple[Path, Path | str] | None


def train_run(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    skip_bad: bool = False,
    cache: Path | None = None,
    jobs: int = -1,
    engine: Engine = "loky",
    profile: bool = False,
    bar: Bar | None = None,
    processes: Processes = ALONE,
) -> RunResult | None:
    """Prepare, split, train and test. Nothing is written to `out` before every case has proved usable.

    Args:
        config: the run.
        out: run folder.
        resume: continue the run in `out`; it must have the same config and cohort. Where there is none yet, begin.
        overwrite: delete the run in `out` first.
        skip_bad: leave unusable cases out.
        cache: folder of prepared slabs and the phantom cohort, None for the user's cache folder.
        jobs: processes that prepare.
        engine: what runs them: loky here, ray or dask on a cluster.
        profile: log where the time of training went, and write profile_STAGE.csv into `out`.
        bar: gives progress bars; None shows none.
        processes: that train together, of which this is one. Where nothing else starts the others, this starts them by
            the command that it was started with itself (sys.argv).

    Returns:
        What the run says; None in every process but the first.

    Raises:
        UserError: the input cannot be used as asked.
        KeyboardInterrupt: stopped by the user; `resume` continues.
    """
    check_processes(processes, config.training, best_device(config.device))
    check_arithmetic(config.training, best_device(config.device))
    together = Together(processes, config.device)

    place = cache or cache_folder()

    def prepared_cohort() -> Prepared:
        return prepare_cohort(config, place, skip_bad=skip_bad, jobs=jobs, engine=engine, bar=bar)

    def records(prepared: Prepared) -> list[ScanRecord]:
        return record_scans(config, prepared, place, jobs=jobs, engine=engine, bar=bar)

    shown = [StageProgressBar(leave=False)] if bar else []
    with ExitStack() as held:
        begin = partial(
            _begin, config, RunFolder(out), prepared_cohort, records, held, resume=resume, overwrite=overwrite
        )
        begun = together.once(begin)
        if isinstance(begun, RunResult):
            return begun if together.first else None
        folder, prepared, split, model = begun
        together.on_other_nodes(prepared_cohort)
        train, validation = (prepared.some(part) for part in (split.train, split.validation))
        with together.said_once():
            fit(model, train, validation, config, folder.path, shown, profile=profile, processes=processes)
        if not together.first:
            return None
        folder.save_model(model)
        metrics = _test(model, prepared, split, config, folder)
    case = prepared.cohort.cases[split.test[0]]
    return RunResult(folder.path, metrics, (case.scan, case.lesion))


def _begin(
    config: RunConfig,
    folder: RunFolder,
    prepared_cohort: Callable[[], Prepared],
    records: Callable[[Prepared], list[ScanRecord]],
    held: ExitStack,
    *,
    resume: bool,
    overwrite: bool,
) -> tuple[RunFolder, Prepared, Split, GenomicViT] | RunResult:
    """All that is done before training, and by one process only; a result where the run was complete before.

    The folder stays locked while `held` is open.
    """
    folder.check_free(resume=resume, overwrite=overwrite)
    held.enter_context(locked(folder.path))
    held.enter_context(no_room_said(folder.path))
    folder.check_free(resume=resume, overwrite=overwrite)  # another command may have come first
    going_on = resume and folder.has_begun()
    if going_on:
        folder.check_same(config)
        if (metrics := folder.read_metrics()) is not None:
            log.info(
                "%s: this run is complete; nothing is left to do. The cohort was not looked at: the numbers are of the "
                "one that the run was trained and tested on.",
                folder.path,
            )
            return RunResult(folder.path, metrics, None)
    model, pretrained = _initial_model(config, folder if going_on else None)
    prepared = prepared_cohort()
    split = split_cohort(prepared.cohort, config.split, config.seed)
    if going_on:
        check_split(folder.split, prepared, split)
        folder.compare_environment()
    else:
        _say_leaks(prepared, split, records(prepared))
        folder.start(config, prepared, split, pretrained)
    return folder, prepared, split, model


def _say_leaks(prepared: Prepared, split: Split, records: list[ScanRecord]) -> None:
    """Warn where cases of two parts of the split belong together; a comparison is stopped by the same."""
    part = np.zeros(len(prepared.slabs), dtype=int)
    part[split.validation], part[split.test] = 1, 2
    try:
        check_leaks(prepared.cohort, prepared.slabs, part, records)
    except LeakError as leaks:
        log.warning("held-out numbers may be too good: the parts of the split share what folds must not. %s", leaks)


def _initial_model(config: RunConfig, resumed: RunFolder | None) -> tuple[GenomicViT, PretrainedReport | None]:
    """The network as a run begins, its ViT pretrained where the config asks for it.

    A resumed run that has a sound checkpoint takes everything from there; one that has not begins again.
    """
    torch.manual_seed(config.seed)
    model = build_model(config)
    if config.model.pretrained is None or (
        resumed and can_continue(resumed.checkpoints(schedule(config.mode, config.training)[0].name))
    ):
        return model, None
    report = load_pretrained(model.vit, config.model.pretrained)
    if resumed:
        resumed.check_pretrained(report)
    log.info("%s", report)
    return model, report


def _test(model: GenomicViT, prepared: Prepared, split: Split, config: RunConfig, folder: RunFolder) -> dict:
    """Write predictions.csv of validation and test cases, and metrics.json of the test cases."""
    device = best_device(config.device)
    model.to(device)
    tested = Prepared(prepared.cohort.take(split.test), prepared.some(split.test).slabs, ())
    probability, metrics = evaluate_cohort(model, tested, config, device)
    seen = np.concatenate([split.validation, split.test])
    judged = case_probabilities(model, prepared.some(split.validation).slabs, config.view, device)
    write_predictions(
        folder.path / "predictions.csv",
        prepared.cohort.take(seen),
        np.concatenate([judged, probability]),
        split.folds[seen],
        np.repeat(["validation", "test"], [len(split.validation), len(split.test)]),
    )
    write_text(folder.metrics, json.dumps(metrics, indent=2))
    return metrics
