"""Checkpoints of a stage: written whole, read only where sound, and enough to go on as if nothing had happened.

A stage's folder holds best.ckpt and the last two of epoch_N.ckpt. Every draw of an epoch depends on (seed, stage,
epoch, case) alone, so the state at an epoch's end fixes all that follows: a stopped run goes back to the last sound
one. best.ckpt is written first; stopped between the two, the epoch is trained again and writes the same best.ckpt.
"""

from __future__ import annotations

import io
import logging
import re
import zlib
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from genomic_vit.config import UserError
from genomic_vit.training import ranks
from genomic_vit.training.whole import written_whole

BEST, DONE, EPOCH = "best.ckpt", "done", re.compile(r"epoch_(\d+)\.ckpt")
CHECKSUM, CHUNK = 4, 1 << 24  # bytes: CRC-32 after the archive that torch.save made, which readers of it pass over
KEPT = 2  # the last, and the one before it should the last be damaged
log = logging.getLogger(__name__)


class CheckpointError(UserError):
    """A checkpoint cannot be read or written; the message says what to do."""


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, written whole or not at all. Its strategies call this in the first process only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """As Lightning's.

        Raises:
            CheckpointError: there is no room, or the folder cannot be written; what was there before still is.
        """
        if storage_options is not None:
            raise TypeError(f"{type(self).__name__}: takes no storage_options")
        content, path = io.BytesIO(), Path(path)
        torch.save(checkpoint, content)  # in memory: torch's own writer turns a full disk into an internal error
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as part, part.open("wb") as file:
                file.write(content.getbuffer())
                file.write(zlib.crc32(content.getbuffer()).to_bytes(CHECKSUM, "little"))
        except OSError as problem:
            size_mb = len(content.getbuffer()) / 1e6
            raise CheckpointError(
                f"{path}: the checkpoint of {size_mb:.1f} MB cannot be written ({problem.strerror}); those before it "
                f"are whole. Make room for {KEPT + 2} of them there, then give the same command again, "
                "train's with --resume."
            ) from problem


class KeptCheckpoints(ModelCheckpoint):
    """Lightning's, for a folder that may be moved between sessions: Lightning would forget the best score then."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state over, its paths led into the folder of today."""

        def here(path: str) -> str:
            return str(Path(self.dirpath, Path(path).name)) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {name: here(state_dict[name]) for name in paths}
        moved["best_k_models"] = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | moved | {"dirpath": self.dirpath})


class BestCheckpoint(KeptCheckpoints):
    """The epoch of lowest validation loss, as best.ckpt."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            Path(BEST).stem,
            monitor="val_loss",
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )


class EpochCheckpoint(KeptCheckpoints):
    """The last epochs. At an epoch's end, when early stopping has judged it: before, its state would lack this epoch.

    Lightning logs an epoch's training losses after that, so they are kept here too, and logged again when resumed.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            "epoch_{epoch}",
            monitor="epoch",
            mode="max",
            save_top_k=KEPT,
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )
        self._logged: dict[str, float] = {}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the losses, then save."""
        losses = {name: float(value) for name, value in trainer.logged_metrics.items()}
        self._logged = losses | {"epoch": trainer.current_epoch, "step": trainer.global_step - 1}
        super().on_train_epoch_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Lightning's, and the losses."""
        return super().state_dict() | {"logged": self._logged}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Log the losses of the epoch that the run goes on from."""
        logged = dict(checkpoint["callbacks"][self.state_key]["logged"])
        step = logged.pop("step")
        for logger in trainer.loggers:
            logger.log_metrics(logged, step=step)
            logger.save()


class Patience(EarlyStopping):
    """Lightning's early stopping, which also stays stopped: resumed after its last epoch, it would begin another."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop at once where the state says so."""
        if self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True


def last_sound(folder: Path) -> Path | None:
    """The stage's last sound epoch_N.ckpt; None where there is none. Older ones than it needs are removed.

    Raises:
        CheckpointError: there is one, but best.ckpt beside it is not sound: going on would end without it.
    """
    numbered = [(int(named[1]), path) for path in folder.glob("*.ckpt") if (named := EPOCH.fullmatch(path.name))]
    sound, damaged = [], []
    for epoch, path in sorted(numbered, reverse=True):
        if len(sound) == KEPT:
            if ranks.rank() == 0:
                path.unlink(missing_ok=True)  # of a session that was stopped before it could, or that began with it
        elif problem := damage(path):
            damaged.append((epoch, path, problem))
        else:
            sound.append((epoch, path))
    for epoch, path, problem in damaged:
        again = f"the run goes on from epoch {sound[0][0]}, {sound[0][1].name}" if sound else "the stage begins again"
        if not sound or epoch > sound[0][0]:
            log.warning("%s: %s; %s. It ends the same, only later.", path, problem, again)
    if not sound:
        return None
    read_best(folder)
    return sound[0][1]


def can_continue(folder: Path) -> bool:
    """Whether a stage is done, or was trained far enough not to begin again."""
    return (folder / DONE).is_file() or any(damage(path) is None for path in folder.glob("epoch_*.ckpt"))


def read_best(folder: Path) -> dict[str, Any]:
    """best.ckpt of a stage.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    path = folder / BEST
    if problem := damage(path):
        raise CheckpointError(
            f"{path}: {problem}, and the best weights of stage {folder.name} are nowhere else. Put the file back from "
            f"a copy; or delete the folder {folder} and give the same command again, train's with --resume: that stage "
            "is trained again, and ends the same."
        )
    return torch.load(path, map_location="cpu", weights_only=True)


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint; None where every byte is as it was written."""
    if not path.is_file():
        return "missing"
    checksum, behind = 0, b""
    with path.open("rb") as file:
        while read := file.read(CHUNK):
            content, behind = (behind + read)[:-CHECKSUM], (behind + read)[-CHECKSUM:]
            checksum = zlib.crc32(content, checksum)
    if len(behind) < CHECKSUM:
        return "cut short"
    return None if checksum == int.from_bytes(behind, "little") else "damaged: its checksum differs"
