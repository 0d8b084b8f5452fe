"""What stands in the heat channel when the rollout does not, by hand; and that the CNN is given just that."""

from dataclasses import replace

import pytest
import torch

from genomic_vit.config import TrainingConfig
from genomic_vit.config_tree import from_tree
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.models.heat_sources import lesion_mask, none, rollout, shuffled, uniform, zero
from genomic_vit.training.losses import Truth
from genomic_vit.training.stages import look, schedule

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


@pytest.mark.parametrize("source", [zero, uniform, lesion_mask, none])
def test_what_needs_no_vit_is_the_same_without_one(source):
    lesion = (torch.rand(3, 1, 48, 48) > 0.9).float()
    assert torch.equal(source(None, lesion, CASE), source(torch.rand(3, 1, 48, 48), lesion, CASE))


def stages():
    """Every schedule's stages, with each source of heat where nothing but the CNN is computed."""
    training = TrainingConfig(lesion_weight=0.3)
    told = [stage for mode in ("joint", "staged", "vit", "cnn") for stage in schedule(mode, training)]
    (alone,) = schedule("cnn", training)
    (joint,) = schedule("joint", training)
    told += [replace(alone, heat=source) for source in (zero, uniform, lesion_mask)]
    return [*told, *schedule("vit", TrainingConfig()), replace(joint, heat=shuffled)]


@pytest.mark.parametrize("stage", stages(), ids=lambda stage: f"{stage.name}-{stage.heat.__name__}")
def test_a_stage_sees_what_the_whole_network_would_show_it(stage):
    """Whatever it does not compute, the rest is as if it had."""
    torch.manual_seed(0)
    model = build_model(CONFIG, heat_channels=0 if stage.heat is none else 1).eval()
    grid, lesion = torch.rand(3, 1, 48, 48), (torch.rand(3, 1, 48, 48) > 0.9).float()
    output = look(model, stage, grid, lesion, CASE)
    seen = model.vit(grid)
    heat = model.heat(seen.attention, (48, 48))
    whole = {"vit_logits": seen.logits, "heat": heat}
    whole["logits"] = model.cnn(torch.cat([grid, stage.heat(heat, lesion, CASE)], dim=1))
    for name, value in output._asdict().items():
        assert (value is not None) == (name in stage.computes)
        if value is not None:
            torch.testing.assert_close(value, whole[name])
    for _, loss in stage.losses:
        assert loss(output, Truth(torch.ones(3, 1), lesion, torch.ones(1))).isfinite()
    assert getattr(output, stage.judged_by) is not None


def test_rollout_is_what_the_network_does_by_itself():
    torch.manual_seed(0)
    model, grid = build_model(CONFIG).eval(), torch.rand(3, 1, 48, 48)
    (joint,) = schedule("joint", CONFIG.training)
    output = model(grid)
    assert torch.equal(output.logits, look(model, joint, grid, grid, CASE).logits)
    assert torch.equal(output.logits, model.answer(grid, output.heat))
    torch.testing.assert_close(output.heat.mean(dim=(1, 2, 3)), torch.ones(3))


@pytest.mark.parametrize(("source", "reached"), [(rollout, True), (zero, False), (shuffled, False)])
def test_the_cnns_error_reaches_the_vit_through_its_own_heat_only(source, reached):
    model, grid = build_model(CONFIG), torch.rand(3, 1, 48, 48)
    (joint,) = schedule("joint", CONFIG.training)
    look(model, replace(joint, heat=source), grid, grid, CASE).logits.sum().backward()
    gradient = model.vit.blocks[0].attention.qkv.weight.grad
    assert (gradient is not None and bool((gradient != 0).any())) == reached


@pytest.mark.parametrize(("mode", "learns"), [("vit", ("vit",)), ("cnn", ("cnn",))])
def test_a_schedule_of_one_part_trains_that_part_alone(mode, learns):
    (stage,) = schedule(mode, CONFIG.training)
    model = build_model(CONFIG, heat_channels=0 if mode == "cnn" else 1)
    grid = torch.rand(2, 1, 48, 48)
    output = look(model, stage, grid, grid, CASE[:2])
    truth = Truth(torch.tensor([[1.0], [0.0]]), grid, torch.ones(1))
    sum(weight * loss(output, truth) for weight, loss in stage.losses).backward()
    reached = {name for name, part in model.named_children() if any(p.grad is not None for p in part.parameters())}
    assert reached == set(learns)
