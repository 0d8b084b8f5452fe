"""The average of recent weights, which is what is judged, kept and used."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class RecentAverage(WeightAveraging):
    """Exponential moving average of weights and batch-norm statistics, taken after every step.

    Validation, checkpoints and the end of training see the average; the optimizer goes on from its own weights. One
    validation of single weights is a noisy judge on some dozen patients, that of the average is not, and the average
    is close to annealed weights at any time, so a stage loses little by being stopped early (Izmailov et al. 2018,
    arXiv 1803.05407; Morales-Brotons et al. 2024, arXiv 2411.18704).

    Args:
        decay: share of the old average kept at each step, in [0, 1); 0 takes the weights themselves. While few steps
            are behind, (1 + step) / (10 + step) where that is less, so that fresh weights are soon forgotten.
    """

    def __init__(self, decay: float) -> None:
        def update(average: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor) -> None:
            if not average[0].is_floating_point():
                for old, new in zip(average, weights, strict=True):
                    old.copy_(new)  # counters
                return
            kept = min(decay, float(1 + steps) / float(10 + steps))
            torch._foreach_lerp_(list(average), list(weights), 1 - kept)

        super().__init__(multi_avg_fn=torch.no_grad()(update))
