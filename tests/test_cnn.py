import pytest
import torch

from genomic_vit.models.cnn import BACKBONES, LevelInput, MeanAndMaximum, _SignedLog, build_cnn


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


def test_a_channel_of_large_numbers_does_not_drown_the_others():
    """Heat with peaks of 30 beside a picture in [0, 1]: both reach the first layer with variance one."""
    torch.manual_seed(0)
    picture = torch.rand(8, 1, 24, 24)
    heat = torch.full((8, 1, 24, 24), 0.3)
    heat[:, :, 3:5, 3:5] = 30.0
    level = LevelInput(2)
    seen = level(torch.cat([picture, heat], dim=1))
    torch.testing.assert_close(seen.mean(dim=(0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.var(dim=(0, 2, 3), correction=0), torch.ones(2), atol=1e-3, rtol=0)
    wanted = torch.log(1 + heat)
    torch.testing.assert_close(seen[:, 1:], (wanted - wanted.mean()) / wanted.std(correction=0), atol=1e-4, rtol=1e-3)
    mirrored = torch.stack([-picture[:, 0], heat[:, 0]], dim=1)
    torch.testing.assert_close(level(mirrored)[:, 0], -seen[:, 0], atol=1e-5, rtol=0)


def test_the_small_network_pools_mean_and_maximum():
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-1.0, -1.0], [-1.0, 1.0]]]])
    torch.testing.assert_close(MeanAndMaximum()(features), torch.tensor([[3.0, -0.5, 6.0, 1.0]]))


@pytest.mark.parametrize("name", BACKBONES)
def test_convolutions_lie_channels_last(name):
    weights = [part.weight for part in build_cnn(name, 2, 1).modules() if isinstance(part, torch.nn.Conv2d)]
    assert weights and all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


def test_levelling_has_the_derivatives_of_its_formula():
    x = torch.tensor([-3.0, -0.2, 0.5, 30.0], dtype=torch.float64, requires_grad=True)
    plain = x.sign() * x.abs().log1p()
    torch.testing.assert_close(_SignedLog.apply(x), plain, rtol=0, atol=0)
    assert torch.autograd.gradcheck(_SignedLog.apply, x)
    assert torch.autograd.gradgradcheck(_SignedLog.apply, x)
    slope = torch.func.vmap(torch.func.grad(lambda one: _SignedLog.apply(one).sum()))(x.detach()[:, None])
    torch.testing.assert_close(slope[:, 0], 1 / (1 + x.detach().abs()))
    assert torch.equal(torch.func.jvp(_SignedLog.apply, (x.detach(),), (torch.ones_like(x),))[1], slope[:, 0])
    zero = torch.zeros(1, requires_grad=True)
    assert torch.autograd.grad(_SignedLog.apply(zero), zero)[0] == 1  # the formula as written gives 0 there
