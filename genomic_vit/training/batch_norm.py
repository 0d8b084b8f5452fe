"""Batch norm over the whole batch, wherever its stacks are; torch's own SyncBatchNorm is for GPUs only."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import Tensor, nn

from genomic_vit.training.ranks import learnt_total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d whose mean and variance are those of all processes' stacks, a process without any included.

    Every process must run it equally often, forward and backward. In evaluation it is nn.BatchNorm2d.
    """

    def forward(self, image: Float[Tensor, "b channel H W"]) -> Float[Tensor, "b channel H W"]:
        if not self.training:
            return super().forward(image)
        given, image = image.dtype, image.to(torch.promote_types(image.dtype, torch.float32))
        count = image.new_full((1,), image.numel() / image.shape[1])
        sums = learnt_total(torch.cat([image.sum(dim=(0, 2, 3)), count]))
        count = sums[-1].detach()
        centred = image - rearrange(sums[:-1] / count, "channel -> 1 channel 1 1")
        variance = learnt_total(centred.square().sum(dim=(0, 2, 3))) / count
        self._remember(sums[:-1].detach() / count, variance.detach() * count / (count - 1).clamp(min=1))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        normed = centred * rearrange(scale, "channel -> 1 channel 1 1")
        if self.affine:
            normed = normed + rearrange(self.bias, "channel -> 1 channel 1 1")
        return normed.to(given)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch; its variance is the unbiased one."""
        if not self.track_running_stats:
            return
        self.num_batches_tracked += 1
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), weight)
        self.running_var.lerp_(variance.to(self.running_var), weight)


class ShareBatchNorm(LayerSync):
    """Lightning's plugin that puts SharedBatchNorm2d in the place of BatchNorm2d while a stage is trained, and back."""

    def apply(self, model: nn.Module) -> nn.Module:
        return _exchange(model, nn.BatchNorm2d, SharedBatchNorm2d)

    def revert(self, model: nn.Module) -> nn.Module:
        return _exchange(model, SharedBatchNorm2d, nn.BatchNorm2d)


def _exchange(model: nn.Module, old: type[nn.BatchNorm2d], new: type[nn.BatchNorm2d]) -> nn.Module:
    """Modules of exactly class `old` as `new`, with the very same weights and statistics, changed in place."""
    for name, child in model.named_children():
        if type(child) is old:
            other = new(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            other._parameters, other._buffers, other.training = child._parameters, child._buffers, child.training
            setattr(model, name, other)
        else:
            _exchange(child, old, new)
    return model
