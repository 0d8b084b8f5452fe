"""The CNN that classifies picture and heat together: a small one written out, or a MONAI backbone by name."""

from __future__ import annotations

from torch import nn

BACKBONES = ("small", "resnet18", "resnet50", "densenet121", "efficientnet-b0")


def build_cnn(name: str, channels: int, targets: int, dropout: float = 0.0) -> nn.Module:
    """A CNN from (b, channels, H, W) to logits (b t).

    Args:
        name: one of BACKBONES; "small" has 0.3 million weights and suits a CPU, the others are MONAI's 2-D networks
            with random weights.
        channels: of the input.
        targets: t.
        dropout: before the last layer of "small", and DenseNet's own.

    Raises:
        ValueError: the name is not known.
    """
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
    """Four stages of two 3 × 3 convolutions, halving each time, then the mean over the picture."""
    stages: list[nn.Module] = []
    for width in (16, 32, 64, 128):
        stages += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(2),
        ]  # fmt: skip
        channels = width
    return nn.Sequential(
        *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, targets)
    )
