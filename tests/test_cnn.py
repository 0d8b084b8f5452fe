import pytest
import torch

from genomic_vit.models.cnn import BACKBONES, build_cnn


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_takes_grid_and_heat_and_learns_from_both(name):
    torch.manual_seed(0)
    cnn = build_cnn(name, channels=2, targets=3)
    image = torch.randn(2, 2, 96, 96, requires_grad=True)
    logits = cnn(image)
    logits.sum().backward()
    assert logits.shape == (2, 3)
    assert (image.grad.abs().sum(dim=(0, 2, 3)) > 0).all()


def test_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'vgg' *; known: small, resnet18, resnet50, densenet121, efficientnet-b0"):
        build_cnn("vgg", 2, 1)
