"""A loss that is not finite ends training, and the cases it came from are named."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from genomic_vit.config import UserError
from genomic_vit.data.datasets import Batch
from genomic_vit.training import ranks

SHOWN = 20  # names in the message
BEHIND = 2  # steps a GPU is given to do before the verdict on an earlier one is waited for


class LossError(UserError):
    """Training went astray; the message names the cases and says what to try."""


class Verdict(NamedTuple):
    """Whether one batch's loss was finite, on its way to the CPU.

    Args:
        finite: one bool, on the CPU; true or false once `arrived`.
        arrived: when it is there; None where it is there at once.
        batch: what was learnt from.
        number: of the batch in its epoch, from 0.
    """

    finite: Tensor
    arrived: torch.cuda.Event | None
    batch: Batch
    number: int


class StopAtNaN(Callback):
    """Looks at the loss of every batch, and raises LossError before anything that came of a bad one is kept.

    On a GPU the step does not wait: the verdict is copied while later batches are computed, and judged BEHIND steps
    later, or at the end of the epoch, before validation and its checkpoint. Never as soon as it is there: of several
    processes one may see it a step before another, and would then tell its cases while the other learns.

    Args:
        names: of the training cases, by their index in the batches.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._open: deque[Verdict] = deque()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: dict, batch: Batch, batch_idx: int
    ) -> None:
        finite = ranks.total(torch.isfinite(outputs["loss"]).int()) == ranks.world()  # all processes stop, or none
        self._open.append(Verdict(*_to_cpu(finite), batch, batch_idx))
        behind = BEHIND if self._open[-1].arrived else 0
        while len(self._open) > behind:
            self._judge(trainer, self._open.popleft())

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        while self._open:
            self._judge(trainer, self._open.popleft())

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """The last step of an epoch may spoil the weights, and no later loss shows it. Checkpoints come after this."""
        loss = trainer.callback_metrics["val_loss"]
        if not torch.isfinite(loss):
            raise LossError(
                f"{self._place(trainer)}: the validation loss is {loss:.3g}, since the weights are no longer good, and "
                f"training has stopped. {_advice(trainer)}"
            )

    def _judge(self, trainer: L.Trainer, verdict: Verdict) -> None:
        if verdict.arrived:
            verdict.arrived.synchronize()
        if verdict.finite:
            return
        odd = (~torch.isfinite(verdict.batch.hu)).flatten(1).any(dim=1)
        shares = ranks.gathered((verdict.batch.case.tolist(), verdict.batch.case[odd].tolist()))
        cases, spoilt = ([self._names[case] for case in chain(*part)] for part in zip(*shares, strict=True))
        found = (
            f"Voxels of {_listed(spoilt)} are not finite: look at it with python -m genomic_vit.doctor, and "
            "prepare into another --cache"
            if spoilt
            else "Their voxels are all finite"
        )
        raise LossError(
            f"{self._place(trainer)}, batch {verdict.number}: the loss is NaN or infinite, and training has stopped. "
            f"Cases of the batch: {_listed(cases)}. {found}. {_advice(trainer)}"
        )

    def _place(self, trainer: L.Trainer) -> str:
        return f"stage {trainer.lightning_module.stage.name}, epoch {trainer.current_epoch}"


def _to_cpu(finite: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A verdict on its way to the CPU, and when it is there; None where it was made there."""
    if not finite.is_cuda:
        return finite, None
    there = torch.empty_like(finite, device="cpu", pin_memory=True)
    there.copy_(finite, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return there, arrived


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _advice(trainer: L.Trainer) -> str:
    training = trainer.lightning_module.config.training
    kept = trainer.checkpoint_callback.dirpath if trainer.current_epoch else None
    precision = "" if training.precision == "32" else f", or --precision 32 (was {training.precision})"
    return (
        (f"The checkpoints of the epochs before are kept in {kept}. " if kept else "")
        + f"Train again into another --out with a lower --training.learning_rate (was {training.learning_rate:g})"
        f"{precision}."
    )
