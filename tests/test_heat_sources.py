"""What stands in the heat channel when the rollout does not, by hand; and that the CNN is given just that."""

from functools import partial

import pytest
import torch

from genomic_vit.config import from_tree
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.models.heat_sources import HEAT_SOURCES, lesion_mask, none, rollout, shuffled, uniform, zero
from genomic_vit.training.losses import Truth
from genomic_vit.training.stages import schedule

CONFIG = from_tree({"slab": {"tile_px": 16}, "vit": {"patch_px": 8, "width": 16, "depth": 2, "heads": 2}}, "here")
CASE = torch.arange(3)


def numbered(batch):
    """Heat whose every value is its place in the batch."""
    return torch.arange(batch, dtype=torch.float32).view(-1, 1, 1, 1).expand(batch, 1, 2, 2).clone()


def test_lesion_as_heat_has_mean_one_and_is_even_where_none_shows():
    lesion = torch.zeros(2, 1, 2, 2)
    lesion[0, 0, 0, 0] = 1
    shown = lesion_mask(numbered(2), lesion, CASE[:2])
    assert shown[0, 0].tolist() == [[4, 0], [0, 0]] and shown[1, 0].tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("case", "donors"),
    [
        ([0, 1, 2], [2, 0, 1]),
        ([1, 0, 1, 0], [1, 0, 3, 2]),
        (
            [0, 0, 0, 0, 1, 1],
            [4, 5, None, None, 0, 1],
        ),  # case 0 fills more than half: the even share where none is left
        ([5], [None]),
    ],
)
def test_shuffled_heat_comes_from_another_case_of_the_batch(case, donors):
    case, heat = torch.tensor(case), numbered(len(case)) + 10
    shown = shuffled(heat, heat, case)[:, 0, 0, 0]
    for place, value in enumerate(shown.tolist()):
        assert value == 1 or case[int(value) - 10] != case[place]
    assert sum(value == 1 for value in shown.tolist()) == donors.count(None)


@pytest.mark.parametrize("source", [zero, uniform, lesion_mask, shuffled, none])
def test_the_cnn_is_given_the_source_and_the_heat_is_still_returned(source):
    torch.manual_seed(0)
    channels = 0 if source is none else 1
    model = build_model(CONFIG, heat_channels=channels).eval()
    grid, lesion = torch.rand(3, 1, 48, 48), (torch.rand(3, 1, 48, 48) > 0.9).float()
    output = model(grid, partial(source, lesion=lesion, case=CASE))
    shown = HEAT_SOURCES["rollout"](source(output.heat, lesion, CASE), lesion, CASE)
    torch.testing.assert_close(output.logits, model.cnn(torch.cat([grid, shown], dim=1)))
    torch.testing.assert_close(output.heat.mean(dim=(1, 2, 3)), torch.ones(3))


def test_rollout_is_what_the_network_does_by_itself():
    torch.manual_seed(0)
    model, grid = build_model(CONFIG).eval(), torch.rand(2, 1, 48, 48)
    assert torch.equal(model(grid).logits, model(grid, partial(rollout, lesion=grid, case=CASE[:2])).logits)


@pytest.mark.parametrize(("source", "reached"), [(rollout, True), (zero, False), (shuffled, False)])
def test_the_cnns_error_reaches_the_vit_through_its_own_heat_only(source, reached):
    model, grid = build_model(CONFIG), torch.rand(3, 1, 48, 48)
    model(grid, partial(source, lesion=grid, case=CASE)).logits.sum().backward()
    gradient = model.vit.blocks[0].attention.qkv.weight.grad
    assert (gradient is not None and bool((gradient != 0).any())) == reached


@pytest.mark.parametrize(("mode", "learns"), [("vit", ("vit",)), ("cnn", ("cnn",))])
def test_a_schedule_of_one_part_trains_that_part_alone(mode, learns):
    (stage,) = schedule(mode, CONFIG.training)
    model = build_model(CONFIG, heat_channels=0 if mode == "cnn" else 1)
    grid = torch.rand(2, 1, 48, 48)
    output = model(grid, partial(stage.heat, lesion=grid, case=CASE[:2]))
    truth = Truth(torch.tensor([[1.0], [0.0]]), grid, torch.ones(1))
    sum(weight * loss(output, truth) for weight, loss in stage.losses).backward()
    reached = {name for name, part in model.named_children() if any(p.grad is not None for p in part.parameters())}
    assert reached == set(learns)
