"""A schedule of stages through the Lightning trainer, each continued where it stopped."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path

import lightning as L
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from torch.distributed.fsdp import MixedPrecision

from genomic_vit.config import RunConfig
from genomic_vit.data.prepare import Cases
from genomic_vit.models.genomic_vit import GenomicViT
from genomic_vit.training import ranks
from genomic_vit.training.average import RecentAverage
from genomic_vit.training.batch_norm import ShareBatchNorm
from genomic_vit.training.checkpoints import (
    DONE,
    BestCheckpoint,
    EpochCheckpoint,
    Patience,
    WholeCheckpoints,
    last_sound,
    read_best,
)
from genomic_vit.training.finite import StopAtNaN
from genomic_vit.training.heap import keep_freed_memory
from genomic_vit.training.machine import ACCELERATORS, ALONE, Processes, best_device
from genomic_vit.training.module import StageData, StageModule, positive_weights
from genomic_vit.training.profile import StepProfiler, TellProfile
from genomic_vit.training.quiet import quiet
from genomic_vit.training.stages import Stage, schedule
from genomic_vit.training.together import TermAsInterrupt
from genomic_vit.training.whole import write_text

log = logging.getLogger(__name__)


def fit(
    model: GenomicViT,
    train: Cases,
    validation: Cases,
    config: RunConfig,
    folder: Path,
    callbacks: Sequence[Callback] = (),
    stages: Sequence[Stage] | None = None,
    profile: bool = False,
    processes: Processes = ALONE,
) -> None:
    """Train the network in place through all stages, keeping the best epoch of each.

    On a CPU this process keeps what memory it frees from here on (`heap.py`).

    Args:
        model: fresh weights.
        train, validation: cases to learn from, and to choose the epoch by.
        config: of the run.
        folder: run folder; logs/ and checkpoints/ are written into it, and stages found there are continued.
        callbacks: more of Lightning's, such as a progress bar.
        stages: to train; None takes those of the config's mode.
        profile: log where each stage's time went, and write it to profile_STAGE.csv.
        processes: that call this together, each with the same arguments; see `Together`.

    Raises:
        LossError: the loss is no longer finite.
        CheckpointError: a checkpoint cannot be written, or the best one cannot be read back.
        KeyboardInterrupt: the user stopped it; the folder holds what is needed to go on.
    """
    stages = schedule(config.mode, config.training) if stages is None else stages
    if best_device(config.device).type == "cpu":
        keep_freed_memory()
    for index, stage in enumerate(stages):
        checkpoints = folder / "checkpoints" / stage.name
        learner = copy.deepcopy(model) if processes.strategy == "fsdp" else model  # FSDP leaves flat pieces behind
        module = StageModule(learner, stage, config, index, positive_weights(train.labels, config.training.balance))
        if config.training.precision == "64":
            module.double()  # before the average is made of it
        if not (checkpoints / DONE).exists():
            log.info("stage %d of %d, learning: %s", index + 1, len(stages), ", ".join(_learners(model, stage)))
            data, watched = StageData(train, validation, config, index), StepProfiler() if profile else None
            told = [*callbacks, *([TellProfile(watched, model, stage, config, folder)] if watched else [])]
            _fit_stage(module, data, stage, config, folder, told, watched, processes)
            if ranks.rank() == 0:
                write_text(checkpoints / DONE, "")
        best = read_best(checkpoints)["state_dict"]
        model.load_state_dict({name.removeprefix("model."): value for name, value in best.items()})
    model.requires_grad_(True).float().eval()


def _learners(model: GenomicViT, stage: Stage) -> list[str]:
    return [name for name in stage.learns if any(True for _ in model.get_submodule(name).parameters())]


def _fit_stage(
    module: StageModule,
    data: StageData,
    stage: Stage,
    config: RunConfig,
    folder: Path,
    callbacks: Sequence[Callback],
    profiler: StepProfiler | None,
    processes: Processes,
) -> None:
    checkpoints, logs = folder / "checkpoints" / stage.name, folder / "logs"
    session = f"session_{len(list((logs / stage.name).glob('session_*')))}"  # a resumed stage keeps its earlier logs
    best, patience = BestCheckpoint(checkpoints), config.training.patience
    with quiet():
        trainer = L.Trainer(
            accelerator=ACCELERATORS[config.device],
            **_spread(processes, config.device),
            max_epochs=config.training.epochs,
            reload_dataloaders_every_n_epochs=1,
            precision=config.training.precision,
            deterministic=config.training.deterministic,
            gradient_clip_val=config.training.clip,
            accumulate_grad_batches=config.training.accumulate,
            callbacks=[
                *([RecentAverage(config.training.average)] if config.training.average else []),
                StopAtNaN(data.train.names),
                *([TermAsInterrupt()] if processes.world > 1 else []),
                *([Patience("val_loss", patience=patience)] if patience else []),
                *callbacks,
                best,
                EpochCheckpoint(checkpoints),
            ],
            plugins=[WholeCheckpoints(), *_shared_layers(processes, config.device), *_without_requeue()],
            default_root_dir=folder,  # under SLURM Lightning begins with any hpc_ckpt_N.ckpt of the current folder
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


def _spread(processes: Processes, device: str) -> dict:
    """The trainer's settings for processes that train together. Their batches are shared by `SharedBatches`."""
    spread = {"devices": processes.devices, "num_nodes": processes.num_nodes, "use_distributed_sampler": False}
    if processes.strategy == "auto" and processes.world == 1:
        return spread
    # buffers are batch norm's statistics, which every process works out alike: no need to send them at each step
    strategy = DDPStrategy(forward_sync_buffers=False)
    if processes.strategy == "fsdp":
        # autocast alone, as without it: Lightning would have weights and batch norm's statistics in half precision too
        strategy = FSDPStrategy(mixed_precision=MixedPrecision())
    return spread | {"strategy": strategy, "sync_batchnorm": best_device(device).type == "cuda"}


def _shared_layers(processes: Processes, device: str) -> list[ShareBatchNorm]:
    """Batch norm over all processes where Lightning's own, torch's SyncBatchNorm, cannot run."""
    return [ShareBatchNorm()] if processes.world > 1 and best_device(device).type != "cuda" else []


def _without_requeue() -> list[SLURMEnvironment]:
    """SLURM as Lightning finds it, but SIGUSR1 left alone: it would save an epoch's middle, where nothing can go on."""
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=False)]
