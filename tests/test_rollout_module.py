"""The module around the rollout: options it holds or refuses, and a residual that is learnt."""

import pytest
import torch

from genomic_vit import attention_rollout
from genomic_vit.models.rollout import Rollout
from tests.attentions import random_maps


def test_the_module_holds_its_options():
    maps = random_maps(4, 3, 2, 3, 9)
    options = {"residual": 0.3, "fusion": "max", "discard": 0.2, "start_layer": 1}
    torch.testing.assert_close(Rollout(3, **options)(maps, 2), attention_rollout(maps, prefix_tokens=2, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual": 1.0}, "residual is 1.0; it must be between 0 and 1"),
        (
            {"residual": 1e-5, "learn_residual": True},
            "residual is 1e-05; one that is learnt must be between 0.0001",
        ),
        ({"fusion": "median"}, "fusion is 'median'; pass one of mean, max, min"),
        ({"discard": 3.0}, "discard is 3.0; pass a share"),
        ({"discard": 0.2, "attention": "streamed"}, "needs the whole matrix"),
        ({"start_layer": 3}, "start_layer is 3 with 3 layers; pass 0 to 2"),
        ({"attention": "strem"}, "method is 'strem'; pass one of auto, dense, streamed"),
    ],
)
def test_the_module_refuses_impossible_options_when_it_is_made(options, message, unchecked_types):
    with pytest.raises(ValueError, match=message):
        Rollout(3, **options)


def test_the_learnt_residual_stays_between_zero_and_one_and_learns():
    maps = random_maps(0, 3, 1, 2, 6)
    rollout = Rollout(3, residual=0.3, learn_residual=True)
    torch.testing.assert_close(rollout.shares(), torch.full((3,), 0.3))
    rollout(maps, 1)[0, 1].backward()
    assert (rollout.logit.grad.abs() > 0).all()
    rollout.logit.data.fill_(1e9)
    assert rollout(maps, 1).isfinite().all() and (rollout.shares() < 1).all()
    assert not list(Rollout(3).parameters())


@pytest.mark.parametrize("residual", [1.001e-4, 0.5, 0.99989])
def test_the_learnt_residual_begins_where_it_is_told_and_can_leave_every_place(residual):
    rollout = Rollout(3, residual=residual, learn_residual=True)
    torch.testing.assert_close(rollout.shares(), torch.full((3,), residual), rtol=0, atol=1e-6)
    assert residual != 0.5 or (rollout.shares() == 0.5).all()
    rollout.shares().sum().backward()
    assert (rollout.logit.grad > 0).all()
    if residual < 0.5:
        rollout.logit.data.fill_(-20.0)
        rollout.logit.grad = None
        rollout.shares().sum().backward()
        assert (rollout.logit.grad > 0).all()
