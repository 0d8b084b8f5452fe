"""The benchmarks still run on the code as it is; what they measure is for a quiet machine."""

import torch

from benchmarks.loading import measure


def test_loading_is_measured(tmp_path):
    found = measure(torch.device("cpu"), tile_px=16, cases=8, epochs=1, folder=tmp_path)
    assert all(seconds > 0 for seconds in found.values())
    assert found["loading"] + found["augmentation"] < found["step"]
