"""The benchmarks still run on the code as it is; what they measure is for a quiet machine."""

import pytest
import torch

from benchmarks.loading import measure
from benchmarks.rollout import PATCH_PX, VARIANTS, network


def test_loading_is_measured(tmp_path):
    found = measure(torch.device("cpu"), tile_px=16, cases=8, epochs=1, folder=tmp_path)
    assert all(seconds > 0 for seconds in found.values())
    assert found["loading"] + found["augmentation"] < found["step"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_of_the_step_gives_a_loss_to_go_back_through(variant):
    side_px = 3 * PATCH_PX
    output = network(variant, side_px)(torch.rand(2, 1, side_px, side_px))
    (output.logits.sum() + output.vit_logits.sum()).backward()
