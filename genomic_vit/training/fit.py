"""A schedule of stages through the Lightning trainer, each continued where it stopped."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from genomic_vit.config import RunConfig
from genomic_vit.data.prepare import Cases
from genomic_vit.models.genomic_vit import GenomicViT
from genomic_vit.training.average import RecentAverage
from genomic_vit.training.checkpoints import (
    BestCheckpoint,
    EpochCheckpoint,
    Patience,
    WholeCheckpoints,
    last_sound,
    read_best,
)
from genomic_vit.training.finite import StopAtNaN
from genomic_vit.training.module import StageData, StageModule, positive_weights
from genomic_vit.training.profile import StepProfiler, TellProfile
from genomic_vit.training.stages import Stage, schedule
from genomic_vit.training.whole import write_text

QUIET = (
    ".*does not have many workers.*",
    ".*Checkpoint directory.*exists and is not empty.*",
    ".*LeafSpec.*",
    ".*eval mode at the start of training.*",
    ".*smaller than the logging interval.*",
)
log = logging.getLogger(__name__)
ACCELERATORS = {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}


def fit(
    model: GenomicViT,
    train: Cases,
    validation: Cases,
    config: RunConfig,
    folder: Path,
    callbacks: Sequence[Callback] = (),
    stages: Sequence[Stage] | None = None,
    profile: bool = False,
) -> None:
    """Train the network in place through all stages, keeping the best epoch of each.

    Args:
        model: fresh weights.
        train, validation: cases to learn from, and to choose the epoch by.
        config: of the run.
        folder: run folder; logs/ and checkpoints/ are written into it, and stages found there are continued.
        callbacks: more of Lightning's, such as a progress bar.
        stages: to train; None takes those of the config's mode.
        profile: log where each stage's time went, and write it to profile_STAGE.csv.

    Raises:
        LossError: the loss is no longer finite.
        CheckpointError: a checkpoint cannot be written, or the best one cannot be read back.
        KeyboardInterrupt: the user stopped it; the folder holds what is needed to go on.
    """
    stages = schedule(config.mode, config.training) if stages is None else stages
    for index, stage in enumerate(stages):
        checkpoints = folder / "checkpoints" / stage.name
        module = StageModule(model, stage, config, index, positive_weights(train.labels, config.training.balance))
        if not (checkpoints / "done").exists():
            log.info("stage %d of %d, learning: %s", index + 1, len(stages), ", ".join(_learners(model, stage)))
            watched = StepProfiler() if profile else None
            told = [*callbacks, *([TellProfile(watched, stage, config, folder)] if watched else [])]
            _fit_stage(module, StageData(train, validation, config, index), stage, config, folder, told, watched)
            write_text(checkpoints / "done", "")
        module.load_state_dict(read_best(checkpoints)["state_dict"], strict=False)
    model.requires_grad_(True).eval()


def _learners(model: GenomicViT, stage: Stage) -> list[str]:
    return [name for name in stage.learns if any(True for _ in model.get_submodule(name).parameters())]


def _fit_stage(
    module: StageModule,
    data: StageData,
    stage: Stage,
    config: RunConfig,
    folder: Path,
    callbacks: Sequence[Callback],
    profiler: StepProfiler | None = None,
) -> None:
    checkpoints, logs = folder / "checkpoints" / stage.name, folder / "logs"
    session = f"session_{len(list((logs / stage.name).glob('session_*')))}"  # a resumed stage keeps its earlier logs
    best, patience = BestCheckpoint(checkpoints), config.training.patience
    with _quiet():
        trainer = L.Trainer(
            accelerator=ACCELERATORS[config.device],
            devices=1,
            max_epochs=config.training.epochs,
            reload_dataloaders_every_n_epochs=1,
            precision=config.training.precision,
            gradient_clip_val=config.training.clip,
            accumulate_grad_batches=config.training.accumulate,
            callbacks=[
                RecentAverage(config.training.average),
                StopAtNaN(data.train.names),
                *([Patience("val_loss", patience=patience)] if patience else []),
                *callbacks,
                best,
                EpochCheckpoint(checkpoints),
            ],
            plugins=[WholeCheckpoints()],
            logger=[kind(logs, stage.name, version=session) for kind in (CSVLogger, TensorBoardLogger)],
            profiler=profiler,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            enable_model_summary=False,
            enable_progress_bar=any("ProgressBar" in type(callback).__name__ for callback in callbacks),
        )
        try:
            trainer.fit(module, data, ckpt_path=last_sound(checkpoints), weights_only=True)
        except SystemExit as stop:  # Lightning's way of passing Ctrl-C on
            raise KeyboardInterrupt from stop
    log.info(
        "stage %s: %d epochs, best validation loss %.3f",
        stage.name,
        trainer.current_epoch,
        float(best.best_model_score),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's notes on what was chosen on purpose from the terminal; its other warnings stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            for message in QUIET:
                warnings.filterwarnings("ignore", message)
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
