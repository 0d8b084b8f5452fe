"""A loss that is not finite stops training before it spoils what was kept."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genomic_vit.config import SlabConfig
from genomic_vit.config_tree import from_tree
from genomic_vit.data.datasets import Batch
from genomic_vit.data.prepare import Cases
from genomic_vit.data.slab import cut_slab
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.train import main as train
from genomic_vit.training import finite
from genomic_vit.training.finite import BEHIND, LossError, StopAtNaN
from genomic_vit.training.fit import fit
from tests.scans import ball, chest, grid_of

SMALL = {"slab": {"tile_px": 16}, "vit": {"width": 16, "heads": 2, "depth": 2}, "device": "cpu"}
GEOMETRY = grid_of(spacing_mm=(1.25, 0.7, 0.7), shape=(40, 80, 80))
SLAB = cut_slab(chest(GEOMETRY), ball(GEOMETRY), SlabConfig(tile_px=16))
NAMES = [f"P{number}" for number in range(12)]


def run(folder, slabs, **training):
    config = from_tree({**SMALL, "training": {"epochs": 4, "batch_size": 4, **training}}, "here")
    torch.manual_seed(0)
    labels = (np.arange(12) % 2)[:, None].astype(float)
    validation = Cases([SLAB] * 2, labels[:2], NAMES[:2])
    fit(build_model(config), Cases(slabs, labels, NAMES), validation, config, folder)


def kept(folder):
    """Weights of the checkpoints of the one stage."""
    files = sorted((folder / "checkpoints/joint").glob("*.ckpt"))
    return [torch.load(file, weights_only=True)["state_dict"] for file in files]


def test_a_spoilt_slab_is_named_with_its_batch(tmp_path):
    hu = SLAB.hu.copy()
    hu[:, 3, 3] = np.nan
    slabs = [SLAB] * 5 + [replace(SLAB, hu=hu)] + [SLAB] * 6
    with pytest.raises(LossError, match=r"epoch 0, batch \d: the loss is NaN.*Voxels of P5 are not finite") as told:
        run(tmp_path, slabs)
    named = str(told.value).split("Cases of the batch: ")[1].split(". ")[0].split(", ")
    assert "P5" in named and len(named) == 4 and set(named) <= set(NAMES)
    assert not kept(tmp_path)


class Turning:
    """Good slabs that go bad after the first epoch has been read."""

    def __init__(self):
        self.geometry, self.lesion, self.reads = SLAB.geometry, SLAB.lesion, 0

    @property
    def hu(self):
        self.reads += 1
        return SLAB.hu if self.reads <= 2 else np.full_like(SLAB.hu, np.nan)


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_the_last_good_checkpoint_is_kept(precision, tmp_path):
    with pytest.raises(LossError, match=r"epoch 2, batch .* The checkpoints of the epochs before are kept in") as told:
        run(tmp_path, [Turning(), *[SLAB] * 11], precision=precision)
    assert ("or --precision 32 (was bf16-mixed)" in str(told.value)) == (precision == "bf16-mixed")
    weights = kept(tmp_path)
    assert len(weights) == 3  # the best and the last two
    assert all(torch.isfinite(value).all() for state in weights for value in state.values())


def test_a_learning_rate_beyond_all_bounds_is_told_with_what_to_try(tmp_path):
    with pytest.raises(LossError, match=r"Their voxels are all finite.*lower --training.learning_rate \(was 1e\+36\)"):
        run(tmp_path, [SLAB] * 12, learning_rate=1e36)
    assert not kept(tmp_path)


def test_weights_spoilt_by_the_very_last_step_are_seen_in_validation(tmp_path):
    with pytest.raises(LossError, match=r"epoch 0: the validation loss is nan.* and training has stopped"):
        run(tmp_path, [SLAB] * 12, learning_rate=1e36, batch_size=12)  # one step an epoch
    assert not kept(tmp_path)


class Event:
    """Stands for a GPU's: what was recorded is there at once, or only when waited for."""

    def __init__(self, there):
        self.there = there

    def query(self):
        return self.there

    def synchronize(self):
        self.there = True


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("bad", "told_in"), [(0, BEHIND), (3, 3 + BEHIND), (5, "validation")])
def test_processes_judge_a_batch_after_the_same_step_however_fast_their_gpus_are(bad, told_in, fast, monkeypatch):
    """A process that tells its cases while another still learns would wait for it forever. Six batches."""
    events = []

    def on_its_way(verdict):
        events.append(Event(fast))
        return verdict, events[-1]

    monkeypatch.setattr(finite, "_to_cpu", on_its_way)
    module = SimpleNamespace(stage=SimpleNamespace(name="joint"), config=from_tree(SMALL, "here"))
    trainer = SimpleNamespace(lightning_module=module, current_epoch=0)
    hu, labels = torch.zeros(2, 9, 4, 4), torch.zeros(2, 1)
    watch, step = StopAtNaN(NAMES), None
    with pytest.raises(LossError, match=rf"batch {bad}: the loss is NaN.*Cases of the batch: P{bad}, P{bad + 1}\."):
        for step in range(6):
            loss = torch.tensor(torch.nan if step >= bad else 1.0)
            watch.on_train_batch_end(
                trainer, module, {"loss": loss}, Batch(hu, hu, labels, torch.tensor([step, step + 1])), step
            )
            assert [event.there for event in events[: max(0, step + 1 - BEHIND)]] == [True] * max(0, step + 1 - BEHIND)
        step = "validation"
        watch.on_validation_start(trainer, module)
    assert step == told_in
    assert fast or events[-1].there == (told_in == "validation" and bad == 5)  # later ones were not waited for


def test_the_command_says_it_and_ends_with_code_2(tmp_path, capsys):
    small = ["--slab.tile_px", "16", "--vit.width", "16", "--vit.heads", "2", "--vit.depth", "1", "--split.folds", "3"]
    places = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run"), "--device", "cpu", "--jobs", "1"]
    rate = ["--training.learning_rate", "1e36", "--training.batch_size", "4"]
    assert train(["--phantom.patients", "24", "--split.validation", "0.3", *small, *places, *rate]) == 2
    said = capsys.readouterr().err
    assert re.search(r"error: stage joint, epoch 0, batch .*Cases of the batch: \w+, \w+, \w+, \w+\.", said)
    assert not (tmp_path / "run/model.safetensors").exists()
