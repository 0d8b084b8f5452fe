"""The average of recent weights, which is what is judged, kept and used."""

from __future__ import annotations

from itertools import chain

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class RecentAverage(WeightAveraging):
    """Exponential moving average of weights and batch-norm statistics, taken after every step, where they lie.

    Validation, checkpoints and the end of training see the average; the optimizer goes on from its own weights. One
    validation of single weights is a noisy judge on some dozen patients, that of the average is not, and the average
    is close to annealed weights at any time, so a stage loses little by being stopped early (Izmailov et al. 2018,
    arXiv 1803.05407; Morales-Brotons et al. 2024, arXiv 2411.18704).

    Args:
        decay: share of the old average kept at each step, in [0, 1); 0 takes the weights themselves. While few steps
            are behind, (1 + step) / (10 + step) where that is less, so that fresh weights are soon forgotten.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self._decay = decay

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Copy the weights; they are not on the device yet."""
        if stage == "fit":
            self._average_model = _Average(pl_module, self._decay)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Follow them to it. Left behind, as Lightning 2.6 leaves it, the average fetched all of them at each step."""
        self._average_model.module.to(pl_module.device)


class _Average(AveragedModel):
    """torch's, whose own update sends the count of steps to the device, and waits for it."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self._decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        steps = int(self.n_averaged)  # on the CPU, wherever the weights are
        kept = min(self._decay, (1 + steps) / (10 + steps)) if steps else 0.0
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        counters = [(old, new) for old, new in pairs if not old.is_floating_point()]
        for old, new in pairs if not steps else counters:
            old.copy_(new)
        if steps:
            averages, weights = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
            torch._foreach_lerp_(averages, weights, 1 - kept)
        self.n_averaged += 1


def _tensors(model: nn.Module) -> chain[Tensor]:
    return chain(model.parameters(), model.buffers())
