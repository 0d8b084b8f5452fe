"""One run, from manifest to metrics: what train, predict and evaluate share."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from lightning.pytorch.callbacks import RichProgressBar

from genomic_vit.cohort.folds import Split, split_cohort
from genomic_vit.cohort.labelled import read_cohort
from genomic_vit.cohort.manifest import check_classes
from genomic_vit.cohort.phantom import make_phantom
from genomic_vit.config import LabelsConfig, PhantomConfig, RunConfig
from genomic_vit.data.cache import cache_folder
from genomic_vit.data.case import Reading, cut_case
from genomic_vit.data.prepare import Prepared, prepare
from genomic_vit.data.slab import place_on_scan
from genomic_vit.data.workers import Engine
from genomic_vit.evaluation.explain import RELEVANCE, slab_diagnostics, write_relevance
from genomic_vit.evaluation.inference import case_probabilities, slab_heat
from genomic_vit.evaluation.metrics import score_cohort
from genomic_vit.evaluation.overlay import describe, draw_overlay
from genomic_vit.imaging.write import write_volume
from genomic_vit.models.diagnostics import describe_diagnostics, joined
from genomic_vit.models.genomic_vit import GenomicViT, build_model
from genomic_vit.models.pretrained import PretrainedReport, load_pretrained
from genomic_vit.training.checkpoints import can_continue
from genomic_vit.training.fit import fit
from genomic_vit.training.lock import locked, no_room_said
from genomic_vit.training.machine import ALONE, Processes, best_device, check_arithmetic, check_processes
from genomic_vit.training.run_folder import RunError, RunFolder, write_predictions
from genomic_vit.training.split_file import check_split
from genomic_vit.training.stages import schedule
from genomic_vit.training.together import Together
from genomic_vit.training.whole import write_text

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
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

    def prepared_cohort() -> Prepared:
        return prepare_cohort(config, cache or cache_folder(), skip_bad=skip_bad, jobs=jobs, engine=engine, bar=bar)

    shown = [StageProgressBar(leave=False)] if bar else []
    with ExitStack() as held:
        begin = partial(_begin, config, RunFolder(out), prepared_cohort, held, resume=resume, overwrite=overwrite)
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
            log.info("%s: this run is complete; nothing is left to do.", folder.path)
            return RunResult(folder.path, metrics, None)
    model, pretrained = _initial_model(config, folder if going_on else None)
    prepared = prepared_cohort()
    split = split_cohort(prepared.cohort, config.split, config.seed)
    if going_on:
        check_split(folder.split, prepared, split)
        folder.compare_environment()
    else:
        folder.start(config, prepared, split, pretrained)
    return folder, prepared, split, model


def prepare_cohort(
    config: RunConfig,
    cache: Path,
    *,
    skip_bad: bool = False,
    jobs: int = -1,
    engine: Engine = "loky",
    bar: Bar | None = None,
) -> Prepared:
    """The labelled cases of the config's manifest with their slabs; the phantom cohort is made where none is given."""
    data = Path(config.data) if config.data else phantom_manifest(config.phantom, cache, jobs, bar)
    needs_lesion = config.lesion.field == "lesion"
    cohort = read_cohort(
        data, config.targets, config.labels, config.positive, config.negative, needs_lesion=needs_lesion
    )
    labelled = ~np.isnan(cohort.labels).all(axis=1)
    if not labelled.all():
        log.warning("%s: %d of %d cases have no label and are left out", data, (~labelled).sum(), len(labelled))
    check_classes(cohort, str(data), minimum=2)
    with _bar(bar, "preparing slabs") as progress:
        return prepare(
            cohort.take(labelled),
            Reading.of(config),
            cache=cache / "slabs",
            skip_bad=skip_bad,
            jobs=jobs,
            engine=engine,
            progress=progress,
        )


def phantom_manifest(phantom: PhantomConfig, cache: Path, jobs: int = -1, bar: Bar | None = None) -> Path:
    """Manifest of the embedded phantom cohort, made in the cache folder the first time."""
    folder = cache / f"phantom-{phantom.patients}-{phantom.seed}-{phantom.signal:g}"
    if (folder / "cases.csv").is_file():
        return folder / "cases.csv"
    with _bar(bar, "making the phantom cohort") as progress:
        return make_phantom(folder, phantom.patients, phantom.seed, phantom.signal, progress=progress, jobs=jobs)


def evaluate_cohort(
    model: GenomicViT, prepared: Prepared, config: RunConfig, device: torch.device
) -> tuple[np.ndarray, dict]:
    """Probabilities (case t) and metrics of a cohort, lesion diameter alone beside them."""
    cohort = prepared.cohort
    probability = case_probabilities(model, prepared.slabs, config.view, device)
    metrics = score_cohort(probability, cohort.labels, cohort.patients, cohort.targets, config.seed)
    _add_diameter_alone(metrics, prepared, config.seed)
    return probability, metrics


def _add_diameter_alone(metrics: dict, prepared: Prepared, seed: int) -> None:
    """Beside each target's metrics, what the lesion's diameter alone gives on the cases whose lesion was outlined."""
    cohort = prepared.cohort
    diameter_mm = np.array([slab.diameter_mm for slab in prepared.slabs])
    unknown = np.isnan(diameter_mm)
    if unknown.any():
        log.warning(
            "%d of %d lesions were not outlined (points, boxes, lungs): their diameter is unknown, "
            "and 'lesion diameter alone' leaves them out",
            unknown.sum(),
            len(unknown),
        )
    labels = np.where(unknown[:, None], np.nan, cohort.labels)
    scores = np.repeat(diameter_mm[:, None], len(cohort.targets), axis=1)
    alone = score_cohort(scores, labels, cohort.patients, cohort.targets, seed, only=("auc",))
    for target, report in metrics.items():
        if "by_case" in report:
            kept = ("by_case", "by_patient") if report["counts"] == alone[target]["counts"] else tuple(alone[target])
            report["diameter_alone"] = {part: alone[target][part] for part in kept}


def evaluate_run(
    run: Path,
    data: Path,
    out: Path,
    *,
    labels: tuple[str | None, str | None] = (None, None),
    reading: Mapping[str, object] = MappingProxyType({}),
    overwrite: bool = False,
    skip_bad: bool = False,
    cache: Path | None = None,
    jobs: int = -1,
    engine: Engine = "loky",
    device: str = "auto",
    bar: Bar | None = None,
) -> dict:
    """Score a run's model on another cohort; writes predictions.csv, metrics.json, excluded.csv into `out`.

    Args:
        run: run folder.
        data: manifest with the run's target columns.
        out: folder to write.
        labels: text that means positive and negative in `data`; None takes the run's.
        reading: settings of `lesion` and `on_gap` that differ from the run's.
        overwrite, skip_bad, cache, jobs, engine, bar: as `train_run`.
        device: auto, cpu, cuda or mps.

    Raises:
        UserError: run or cohort cannot be used, or `out` holds an evaluation.
    """
    if (out / "metrics.json").exists() and not overwrite:
        raise RunError(f"{out}: already holds metrics.json; pass --overwrite, or another --out.")
    folder, place = RunFolder(run), best_device(device)
    trained = folder.read_config()
    model = folder.load_model(place)
    positive, negative = labels if any(labels) else (trained.positive, trained.negative)
    config = replace(
        trained,
        data=str(data),
        target=",".join(trained.targets),
        positive=positive,
        negative=negative,
        labels=LabelsConfig(),  # the run's table knows nothing of these patients
    )
    config = _read_as(config, reading)
    prepared = prepare_cohort(config, cache or cache_folder(), skip_bad=skip_bad, jobs=jobs, engine=engine, bar=bar)
    probability, metrics = evaluate_cohort(model, prepared, config, place)
    out.mkdir(parents=True, exist_ok=True)
    outside = np.full(len(probability), "external")
    write_predictions(out / "predictions.csv", prepared.cohort, probability, np.full(len(probability), ""), outside)
    prepared.write_excluded(out)
    write_text(out / "metrics.json", json.dumps(metrics, indent=2))
    return metrics


def predict_scan(
    run: Path,
    scan: Path,
    lesion: Path | str,
    out: Path,
    *,
    device: str = "auto",
    reading: Mapping[str, object] = MappingProxyType({}),
    relevance: bool = False,
    diagnostics: bool = False,
) -> dict[str, dict]:
    """Probabilities and heat of a lesion; writes prediction.json, heat.nii.gz (on the scan's grid) and overlay.png.

    Args:
        run: run folder.
        scan, lesion: as `open_scan` and `read_lesions` take them.
        out: folder to write; with several lesions one folder in it for each.
        device: auto, cpu, cuda or mps.
        reading: settings of `lesion` and `on_gap` that differ from the run's.
        relevance: also write relevance_TARGET.nii.gz and .png, the gradient-weighted rollout of each target.
        diagnostics: also log, layer by layer, what the rollout is made of.

    Returns:
        What each prediction.json holds, by the lesion's name, "" where there is one.

    Raises:
        UserError: run, scan or lesion cannot be used.
    """
    folder, place = RunFolder(run), best_device(device)
    config, model = _read_as(folder.read_config(), reading), folder.load_model(place)
    case = cut_case(scan, lesion, Reading.of(config))
    answers = {}
    for found, slab in zip(case.lesions, case.slabs, strict=True):
        probability, heat = slab_heat(model, slab, config.view, place)
        where = out / found.name
        where.mkdir(parents=True, exist_ok=True)
        write_volume(place_on_scan(heat, slab.geometry, case.scan.geometry), where / "heat.nii.gz")
        title = describe(config.targets, probability) + "   (for research, not a medical device)"
        draw_overlay(slab, heat, config.view.window_hu, title, where / "overlay.png")
        answers[found.name] = answer = {
            "probability": {target: round(float(p), 6) for target, p in zip(config.targets, probability, strict=True)},
            "scan": str(scan),
            "series": case.scan.identity.series_uid if case.scan.identity else None,
            "lesion": str(lesion),
            "lesion_extent": found.measured,
            "run": str(run),
            "heat": "attention rollout of the ViT (class-agnostic), 1.0 = even share, 0 outside the slab",
            "slices": len(slab.hu),
            "version": version("genomic_vit"),
            "notice": "For research, not a medical device.",
        }
        if relevance:
            answer["relevance"] = RELEVANCE
            write_relevance(model, slab, config, case.scan.geometry, probability, where, place)
        if diagnostics:
            log.info("%s", describe_diagnostics(joined([*slab_diagnostics(model, slab, config.view, place)])))
        write_text(where / "prediction.json", json.dumps(answer, indent=2))
    return answers


def _read_as(config: RunConfig, reading: Mapping[str, object]) -> RunConfig:
    """A run's config with other settings of reading: on_gap, and fields of LesionConfig."""
    lesion = {name: value for name, value in reading.items() if name != "on_gap"}
    scan = {name: value for name, value in reading.items() if name == "on_gap"}
    return replace(config, lesion=replace(config.lesion, **lesion), scan=replace(config.scan, **scan))


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
    tested = _take(prepared, split.test)
    probability, metrics = evaluate_cohort(model, tested, config, device)
    seen = np.concatenate([split.validation, split.test])
    judged = case_probabilities(model, _slabs(prepared, split.validation), config.view, device)
    write_predictions(
        folder.path / "predictions.csv",
        prepared.cohort.take(seen),
        np.concatenate([judged, probability]),
        split.folds[seen],
        np.repeat(["validation", "test"], [len(split.validation), len(split.test)]),
    )
    write_text(folder.metrics, json.dumps(metrics, indent=2))
    return metrics


def _take(prepared: Prepared, index: np.ndarray) -> Prepared:
    return Prepared(prepared.cohort.take(index), _slabs(prepared, index), ())


def _slabs(prepared: Prepared, index: np.ndarray) -> list:
    return [prepared.slabs[i] for i in index]


def _bar(bar: Bar | None, label: str) -> AbstractContextManager:
    return bar(label) if bar else nullcontext()
