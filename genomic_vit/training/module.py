"""One stage as a LightningModule: what a step, an epoch and a validation are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import lightning as L
import numpy as np
import torch
from einops import rearrange
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader

from genomic_vit.config import RunConfig
from genomic_vit.data.augment import augment
from genomic_vit.data.datasets import AllStacks, Batch, RandomStacks, loader, window
from genomic_vit.data.grid import to_grid
from genomic_vit.data.prepare import Cases
from genomic_vit.data.shares import Share
from genomic_vit.models.genomic_vit import GenomicViT
from genomic_vit.training import ranks
from genomic_vit.training.losses import StageOutput, Truth, masked_bce
from genomic_vit.training.stages import Stage, look


class StageData(L.LightningDataModule):
    """Training stacks drawn anew each epoch, and all validation stacks.

    Every draw depends on (seed, stage, epoch, case) alone, so a resumed run sees what the whole run would have seen,
    and several processes see together what one would.
    """

    def __init__(
        self,
        train: Cases,
        validation: Cases,
        config: RunConfig,
        stage: int,
    ) -> None:
        super().__init__()
        self.train, self.validation, self.config, self.stage = train, validation, config, stage

    def train_dataloader(self) -> DataLoader:
        draw = (self.config.seed, self.stage, self.trainer.current_epoch)
        return loader(
            RandomStacks(self.train.slabs, self.train.labels, seed=draw),
            self.config.training.batch_size,
            draw,
            ranks.rank(),
            ranks.world(),
            pinned=self._on_gpu(),
        )

    def val_dataloader(self) -> DataLoader:
        return loader(
            AllStacks(self.validation.slabs, self.validation.labels, self.config.view),
            4 * self.config.training.batch_size,
            rank=ranks.rank(),
            world=ranks.world(),
            pinned=self._on_gpu(),
        )

    def _on_gpu(self) -> bool:
        return self.trainer.strategy.root_device.type == "cuda"


class StageModule(L.LightningModule):
    """Trains the parts of a GenomicViT that learn in one stage; the others stay as they are, bit for bit.

    Args:
        model: the network, changed in place.
        stage: what learns, by which losses.
        config: of the run.
        index: the stage's place in the schedule, for its seeds.
        positive_weight: weight of a positive label, (t).
    """

    def __init__(self, model: GenomicViT, stage: Stage, config: RunConfig, index: int, positive_weight: Tensor) -> None:
        super().__init__()
        self.model, self.stage, self.config, self.index = model, stage, config, index
        self.register_buffer("positive_weight", positive_weight, persistent=False)
        for name, part in model.named_children():
            part.requires_grad_(name in stage.learns)
        # decided here: under FSDP a weight keeps its object, but a process holds a flat piece of it, or nothing
        self._decayed = {id(weight) for weight in model.parameters() if weight.ndim > 1}
        self._judged: list[tuple[Tensor, Tensor, Tensor]] = []
        self.section: Callable[[str], AbstractContextManager] = nullcontext  # told of a step's parts
        self._look_to_learn = torch.compile(self._look, dynamic=False) if config.training.compile else self._look

    def on_fit_start(self) -> None:
        self.section = self.trainer.profiler.profile

    def on_train_epoch_start(self) -> None:
        for name, part in self.model.named_children():
            part.train(name in self.stage.learns)
        seed = int(np.random.SeedSequence([self.config.seed, self.index, self.current_epoch]).generate_state(1)[0])
        # the buffer's device: under FSDP Lightning does not tell the module that it was moved
        self.generator = torch.Generator(self.positive_weight.device).manual_seed(seed)
        torch.manual_seed(seed + ranks.rank())  # dropout draws from the global generator, each process its own masks

    def training_step(self, batch: Batch, number: int) -> Tensor:
        batches = self.trainer.train_dataloader.batch_sampler
        loss = self.learn(batch, batches.share(number))
        # Lightning divides by `accumulate`, in an epoch's last step too, which may be of fewer batches
        accumulate, last = self.config.training.accumulate, len(batches) % self.config.training.accumulate
        return loss * (accumulate / last) if last and number >= len(batches) - last else loss

    def learn(self, batch: Batch, share: Share) -> Tensor:
        """The loss of this process's share of a batch, on the graph."""
        with self.section("augment"):
            hu, lesion = augment(batch.hu, batch.lesion, self.config.augment, self.generator, share)
        output, lesion = self._look_to_learn(hu, lesion, batch.case)
        truth = Truth(batch.labels, lesion, self.positive_weight)
        parts = {loss.__name__: (weight, loss(output, truth)) for weight, loss in self.stage.losses}
        total = sum(weight * value for weight, value in parts.values())
        for name, value in {"loss": total, **{name: value for name, (_, value) in parts.items()}}.items():
            self.log(
                name, value, prog_bar=name == "loss", on_step=False, on_epoch=True,
                batch_size=share.whole, sync_dist=True,
            )  # fmt: skip
        return total

    def validation_step(self, batch: Batch, _: int) -> None:
        output, _ = self._look(batch.hu, batch.lesion, batch.case)
        logits = getattr(output, self.stage.judged_by)
        self._judged.append((torch.sigmoid(logits.to(batch.labels.dtype)), batch.labels, batch.case))

    def on_validation_epoch_end(self) -> None:
        """Score the cases, each by the mean probability of its stacks, whichever processes looked at them."""
        mine = [torch.cat(part).cpu() for part in zip(*self._judged, strict=True)]
        self._judged.clear()
        probability, labels, case = (torch.cat(part) for part in zip(*ranks.gathered(mine), strict=True))
        count = torch.bincount(case).unsqueeze(1)
        mean = probability.new_zeros(len(count), probability.shape[1]).index_add_(0, case, probability) / count
        truth = torch.empty_like(mean).index_copy_(0, case, labels)
        loss = masked_bce(torch.logit(mean, eps=1e-6), truth, self.positive_weight.cpu())
        self.log("val_loss", loss.to(self.positive_weight.device), prog_bar=True, sync_dist=True)

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None, gradient_clip_algorithm: str | None
    ) -> None:
        """By the norm over all weights.

        Lightning refuses where each process holds pieces of them, under FSDP; and in mixed precision where the
        optimizer is fused: in float16 that one divides by the loss's scale after this, but in bfloat16 there is none.
        """
        if gradient_clip_val and isinstance(self.trainer.strategy, FSDPStrategy):
            self.trainer.strategy.model.clip_grad_norm_(gradient_clip_val)
        elif gradient_clip_val and self.config.training.precision == "bf16-mixed":
            learnt = [weight for group in optimizer.param_groups for weight in group["params"]]
            torch.nn.utils.clip_grad_norm_(learnt, gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> dict:
        training = self.config.training
        learnt = [weight for weight in self.model.parameters() if weight.requires_grad]
        decayed = [weight for weight in learnt if id(weight) in self._decayed]
        plain = [weight for weight in learnt if id(weight) not in self._decayed]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": training.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=training.learning_rate,
            fused=not (training.precision == "16-mixed" and training.clip),  # see configure_gradient_clipping
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, training.learning_rate, total_steps=steps, pct_start=0.15
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _look(self, hu: Tensor, lesion: Tensor, case: Tensor) -> tuple[StageOutput, Tensor]:
        """What the network says of stacks with the stage's heat, and their lesion as a grid."""
        grid = rearrange(to_grid(window(hu, self.config.view.window_hu)), "b H W -> b 1 H W")
        lesion = rearrange(to_grid(lesion.to(hu)), "b H W -> b 1 H W")
        section = nullcontext if torch.compiler.is_compiling() else self.section
        return look(self.model, self.stage, grid, lesion, case, section), lesion


def positive_weights(labels: np.ndarray, balance: bool) -> Tensor:
    """Negatives over positives of each target, (t); ones where balance is off. Labels (case t), NaN missing."""
    positive, negative = np.nansum(labels == 1, axis=0), np.nansum(labels == 0, axis=0)
    weight = negative / np.maximum(positive, 1) if balance else np.ones(labels.shape[1])
    return torch.as_tensor(weight, dtype=torch.float32)
