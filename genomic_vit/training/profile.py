"""Where a stage's time goes: each part of a step, and how near its arithmetic comes to what the device can do."""

from __future__ import annotations

import copy
import logging
import time
from collections import Counter
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import Profiler
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from genomic_vit.config import RunConfig
from genomic_vit.models.genomic_vit import GenomicViT
from genomic_vit.training.losses import Truth
from genomic_vit.training.stage_profile import STEP, StageProfile
from genomic_vit.training.stages import Stage, look

ENDINGS = {  # of the names that Lightning gives its actions
    "train_dataloader_next": "load",
    "transfer_batch_to_device": "load",
    "batch_to_device": "load",
    ".training_step": "loss",
    ".backward": "backward",
    "zero_grad": "optimizer",
    "optimizer_step": "optimizer",
    "clip_gradients": "optimizer",
    "save_checkpoint": "checkpoint",
}
log = logging.getLogger(__name__)


class StepProfiler(Profiler):
    """Lightning's profiler with its many actions summed up by what they are for, each without what runs inside it.

    On a GPU every border between parts waits for the device, so parts are right and their sum is a little more than a
    step takes unwatched.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: Counter[str] = Counter()
        self.steps = 0
        self._open: list[tuple[str, str]] = []  # (action, part), outermost first
        self._since = time.perf_counter()

    def start(self, action_name: str) -> None:
        self._tick()
        within = self._open[-1][1] if self._open else "other"
        self._open.append((action_name, part_of(action_name, within)))
        self.steps += action_name.endswith(".training_step") and action_name.startswith("[Strategy]")

    def stop(self, action_name: str) -> None:
        if not any(action == action_name for action, _ in self._open):
            return  # begun before this profiler was
        self._tick()
        while self._open.pop()[0] != action_name:
            pass

    def _tick(self) -> None:
        """Book the time since the last border on the innermost part that is open."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[self._open[-1][1] if self._open else "other"] += now - self._since
        self._since = now


def part_of(action: str, within: str) -> str:
    """What an action of Lightning's, or a section of ours, is for; `within` is what the one around it is for."""
    if within == "validation" or "validation" in action or "val_dataloader" in action or "val_next" in action:
        return "validation"
    if action in STEP:
        return action
    if "RecentAverage" in action:
        return "average"
    return next((part for ending, part in ENDINGS.items() if action.endswith(ending)), within)


def step_flops(model: GenomicViT, stage: Stage, grid: Tensor, targets: int) -> int:
    """Floating-point operations of the matrix products and convolutions of one step on grids like `grid`, (b 1 H W)."""
    model = copy.deepcopy(model).to(grid.device)  # batch norm and gradients stay as they are
    for name, part in model.named_children():
        part.requires_grad_(name in stage.learns)
    truth = Truth(grid.new_ones(len(grid), targets), torch.ones_like(grid), grid.new_ones(targets))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # the counter sees no other thread than this (models/blocks.py)
        with FlopCounterMode(display=False, custom_mapping=ON_CPU) as counter:
            output = look(model, stage, grid, truth.lesion, torch.arange(len(grid), device=grid.device))
            sum(weight * loss(output, truth) for weight, loss in stage.losses).backward()
    finally:
        torch.set_num_threads(threads)
    return counter.get_total_flops()


def _forward(q: torch.Size, k: torch.Size, v: torch.Size, *_: object, **__: object) -> int:
    return sdpa_flop_count(q, k, v)


def _backward(out: torch.Size, q: torch.Size, k: torch.Size, v: torch.Size, *_: object, **__: object) -> int:
    return sdpa_backward_flop_count(out, q, k, v)


ON_CPU = {  # torch counts the fused attention of GPUs only
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}


def matrix_peak(device: torch.device, dtype: torch.dtype, tries: int = 5) -> float:
    """Operations a second of a large square matrix product on `device`, the best of `tries`."""
    side = 8192 if device.type == "cuda" else 1536
    a, b = torch.rand(2, side, side, device=device).to(dtype)
    best = 0.0
    for _ in range(tries + 1):  # the first warms up, and may be the best all the same
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


class TellProfile(Callback):
    """At the end of a stage, logs its table and writes profile_STAGE.csv.

    Args:
        profiler: that the trainer was given.
        model: what learns, or one like it: under FSDP a process has no more than pieces of what learns.
        stage: what was trained.
        config: of the run.
        folder: run folder.
    """

    def __init__(
        self, profiler: StepProfiler, model: GenomicViT, stage: Stage, config: RunConfig, folder: Path
    ) -> None:
        self.profiler, self.model, self.stage, self.config, self.folder = profiler, model, stage, config, folder

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        seconds, steps = Counter(self.profiler.seconds), self.profiler.steps
        if not steps:
            return
        config, device = self.config, trainer.strategy.root_device
        side_px, targets = 3 * config.slab.tile_px, len(config.targets)
        grid = torch.zeros(2, 1, side_px, side_px, device=device, dtype=module.dtype)
        flops = step_flops(self.model, self.stage, grid, targets)
        flops = flops * config.training.batch_size // (2 * trainer.world_size)
        if not trainer.is_global_zero:  # all took the step above, whose batch norm and losses are of all processes
            return
        dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(config.training.precision, module.dtype)
        kind = f"{str(dtype).removeprefix('torch.')} on {device.type}, {torch.get_num_threads()} threads"
        told = StageProfile(seconds, steps, flops, matrix_peak(device, dtype), kind, config.training.compile)
        log.info("stage %s: %s", self.stage.name, told)
        told.write(self.folder / f"profile_{self.stage.name}.csv")
