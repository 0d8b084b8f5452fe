"""The CNN that classifies picture and heat together: a small one written out, or a MONAI backbone by name."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

BACKBONES = ("small", "resnet18", "resnet50", "densenet121", "efficientnet-b0")


def build_cnn(name: str, channels: int, targets: int, dropout: float = 0.0) -> nn.Sequential:
    """A CNN from (b, channels, H, W) to logits (b t), its input brought to one scale first (`LevelInput`).

    The weights lie channels-last, which CPUs convolve a sixth to a third faster (benchmarks/README.md), GPUs no slower.

    Args:
        name: one of BACKBONES; "small" has 0.3 million weights and suits a CPU, the others are MONAI's 2-D networks
            with random weights.
        channels: of the input.
        targets: t.
        dropout: before the last layer of "small", and DenseNet's own.

    Raises:
        ValueError: the name is not known.
    """
    network = nn.Sequential(LevelInput(channels), _backbone(name, channels, targets, dropout))
    return network.to(memory_format=torch.channels_last)


class LevelInput(nn.Module):
    """sign(x) log(1 + |x|), then each channel at mean 0 and variance 1 over the batches learnt from. No weights.

    A picture lies in [0, 1]; heat has mean one and, from a trained ViT, peaks of 30. Unlevelled, its variance is
    a hundred times the picture's and the CNN hardly sees the picture.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, image: Float[Tensor, "b channel H W"]) -> Float[Tensor, "b channel H W"]:
        learns = image.requires_grad and torch.is_grad_enabled()
        return self.norm(_SignedLog.apply(image) if learns else _signed_log(image))


class _SignedLog(torch.autograd.Function):
    """sign(x) log(1 + |x|), which keeps x alone for its derivative 1 / (1 + |x|); that is 1 at 0."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _signed_log(x)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient / (1 + x.abs())

    @staticmethod
    def jvp(ctx, tangent: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return tangent / (1 + x.abs())


def _signed_log(x: Tensor) -> Tensor:
    return x.sign() * x.abs().log1p()


def _backbone(name: str, channels: int, targets: int, dropout: float) -> nn.Module:
    if name == "small":
        return small_cnn(channels, targets, dropout)
    if name in ("resnet18", "resnet50"):
        from monai.networks import nets  # seconds to import, so only for those who ask

        return getattr(nets, name)(spatial_dims=2, n_input_channels=channels, num_classes=targets)
    if name == "densenet121":
        from monai.networks.nets import DenseNet121

        return DenseNet121(spatial_dims=2, in_channels=channels, out_channels=targets, dropout_prob=dropout)
    if name == "efficientnet-b0":
        from monai.networks.nets import EfficientNetBN

        return EfficientNetBN(name, pretrained=False, spatial_dims=2, in_channels=channels, num_classes=targets)
    raise ValueError(f"cnn.name is {name!r}; known: {', '.join(BACKBONES)}")


def small_cnn(channels: int, targets: int, dropout: float) -> nn.Sequential:
    """Four stages of two 3 × 3 convolutions, halving each time, then mean and maximum over the picture.

    The maximum lets one telling place among nine tiles count in full; the mean alone would share it out over all of
    the picture.
    """
    stages: list[nn.Module] = []
    for width in (16, 32, 64, 128):
        stages += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(2),
        ]  # fmt: skip
        channels = width
    return nn.Sequential(*stages, MeanAndMaximum(), nn.Dropout(dropout), nn.Linear(2 * channels, targets))


class MeanAndMaximum(nn.Module):
    """Mean and maximum of each channel over the picture, (b channel H W) to (b 2·channel), means first."""

    def forward(self, features: Float[Tensor, "b channel H W"]) -> Float[Tensor, "b both"]:
        return torch.cat([features.mean(dim=(-2, -1)), features.amax(dim=(-2, -1))], dim=1)
