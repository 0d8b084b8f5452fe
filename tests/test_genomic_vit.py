import dataclasses

import pytest
import torch

from genomic_vit.config import RolloutConfig
from genomic_vit.config_tree import from_tree
from genomic_vit.models.genomic_vit import build_model, heat_image
from genomic_vit.models.rollout import attention_rollout
from genomic_vit.training.stages import look, schedule

CONFIG = from_tree(
    {"slab": {"tile_px": 16}, "vit": {"patch_px": 4, "width": 16, "depth": 3, "heads": 2, "registers": 2}}, "here"
)


def test_output_names_everything_on_the_way():
    torch.manual_seed(0)
    model = build_model(CONFIG).eval()
    grid = torch.rand(2, 1, 48, 48)
    output = model(grid)
    assert output.logits.shape == output.vit_logits.shape == (2, 1)
    assert output.heat.shape == grid.shape
    torch.testing.assert_close(output.heat.mean(dim=(1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(output.logits, model.cnn(torch.cat([grid, output.heat], dim=1)))
    row = attention_rollout([layer.dense() for layer in output.attention], prefix_tokens=3)
    torch.testing.assert_close(output.heat, heat_image(row.reshape(2, 1, 12, 12), 4, 4))


@pytest.mark.parametrize(
    ("rollout", "reads"),
    [({}, True), ({"learn_residual": True}, True), ({"fusion": "max"}, False), ({"discard": 0.3}, False)],
)
def test_rows_of_the_mean_are_kept_where_the_rollout_reads_them(rollout, reads):
    model = build_model(dataclasses.replace(CONFIG, rollout=RolloutConfig(**rollout)))
    width = CONFIG.vit.width
    usual, spared = 2 * width, int(CONFIG.vit.mlp_ratio * width)  # of 147
    for learns, rows in ((True, usual + spared), (False, usual)):
        seen = model.requires_grad_(learns)(torch.rand(2, 1, 48, 48)).attention
        kept = [0 if layer.mean_rows is None else layer.mean_rows.shape[1] for layer in seen]
        assert kept == [rows * reads, rows * reads, 0]  # of the last layer one row alone is read


@pytest.mark.parametrize(("mode", "rows"), [("vit", 0), ("joint", 32)])
def test_a_vit_whose_rollout_nobody_asks_for_keeps_no_rows(mode, rows):
    model, seen = build_model(CONFIG).requires_grad_(False), []
    model.vit.register_forward_hook(lambda _vit, _given, output: seen.extend(output.attention))
    grid = torch.rand(2, 1, 48, 48)
    look(model, schedule(mode, CONFIG.training)[0], grid, torch.zeros_like(grid), torch.arange(2))
    assert [0 if layer.mean_rows is None else layer.mean_rows.shape[1] for layer in seen] == [rows, rows, 0]


def test_heat_does_not_run_across_tile_borders():
    patches = torch.ones(1, 1, 6, 6)
    patches[:, :, :2, :2] = 5.0  # the first tile alone
    heat = heat_image(patches, patch_px=8, tile_patches=2)
    torch.testing.assert_close(heat[0, 0, :16, :16], heat[0, 0, 0, 0].expand(16, 16))
    torch.testing.assert_close(heat[0, 0, 16:, 16:], heat[0, 0, 47, 47].expand(32, 32))
    torch.testing.assert_close(heat[0, 0, 0, 0] / heat[0, 0, 47, 47], torch.tensor(5.0))


def test_heat_needs_whole_tiles():
    with pytest.raises(ValueError, match="7 × 6 patches do not divide into tiles of 2 × 2"):
        heat_image(torch.ones(1, 1, 7, 6), 8, 2)


def test_the_cnns_error_alone_reaches_q_and_k_of_every_block():
    torch.manual_seed(0)
    model = build_model(CONFIG).train()
    before = [block.attention.qkv.weight.detach().clone() for block in model.vit.blocks]
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    output = model(torch.rand(4, 1, 48, 48))
    torch.nn.functional.binary_cross_entropy_with_logits(output.logits, torch.tensor([[0.0], [1], [0], [1]])).backward()
    optimizer.step()
    width = CONFIG.vit.width
    for block, old in zip(model.vit.blocks, before, strict=True):
        change = (block.attention.qkv.weight.detach() - old).abs()
        assert change[:width].max() > 0, "q"
        assert change[width : 2 * width].max() > 0, "k"


def test_what_the_rollout_alone_cannot_teach():
    """Values and MLP of the last block and the ViT's head get nothing from the CNN: the reason for λ · vit loss."""
    torch.manual_seed(0)
    model = build_model(CONFIG)
    model(torch.rand(2, 1, 48, 48)).logits.sum().backward()
    last, width = model.vit.blocks[-1], CONFIG.vit.width
    assert last.attention.qkv.weight.grad[2 * width :].abs().max() == 0
    assert last.mlp[0].weight.grad is None
    assert model.vit.head.weight.grad is None


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_a_monai_head_teaches_the_vit_too(name):
    torch.manual_seed(0)
    config = from_tree(
        {"slab": {"tile_px": 16}, "vit": {"patch_px": 4, "width": 16, "heads": 2}, "cnn": {"name": name}}, "here"
    )
    model = build_model(config)
    model(torch.rand(2, 1, 48, 48)).logits.sum().backward()
    assert all(block.attention.qkv.weight.grad[:32].abs().max() > 0 for block in model.vit.blocks)
