"""`training.deterministic` reaches torch while a network trains, and changes nothing on a CPU, which is so already."""

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from genomic_vit.config import SlabConfig
from genomic_vit.config_tree import from_tree
from genomic_vit.data.prepare import Cases
from genomic_vit.data.slab import cut_slab
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.training.fit import fit
from tests.scans import ball, chest, grid_of


class Asked(Callback):
    """Whether torch took only kernels of a fixed order, at each step."""

    def __init__(self):
        self.found = set()

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.found.add(torch.are_deterministic_algorithms_enabled())


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    torch.use_deterministic_algorithms(False)


def trained(folder, deterministic: bool, cnn: str) -> tuple[set, dict[str, torch.Tensor]]:
    geometry, asked = grid_of(spacing_mm=(1.25, 0.7, 0.7), shape=(40, 80, 80)), Asked()
    slab = cut_slab(chest(geometry), ball(geometry), SlabConfig(tile_px=16))
    cases = Cases([slab] * 8, (np.arange(8) % 2)[:, None].astype(float), [str(number) for number in range(8)])
    training = {"epochs": 1, "batch_size": 4, "lesion_weight": 0.5, "deterministic": deterministic}
    tree = {"slab": {"tile_px": 16}, "vit": {"width": 24, "heads": 2, "depth": 2}, "cnn": {"name": cnn}}
    config = from_tree(tree | {"device": "cpu", "training": training}, "here")
    torch.manual_seed(0)
    model = build_model(config)
    fit(model, cases, cases, config, folder, [asked])
    return asked.found, model.state_dict()


@pytest.mark.parametrize("cnn", ["small", "resnet18"])
def test_it_reaches_torch_and_a_cpu_trains_as_without(cnn, tmp_path):
    asked, with_it = trained(tmp_path / "with", True, cnn)
    left, without = trained(tmp_path / "without", False, cnn)
    assert (asked, left) == ({True}, {False})
    for name, value in with_it.items():
        assert torch.equal(value, without[name]), name
