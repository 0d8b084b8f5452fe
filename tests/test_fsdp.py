"""Weights sharded over two processes (torch FSDP, on CPUs by gloo): a step and a whole fit are those of one process."""

import csv
import os
import shutil
import socket
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.strategies import fsdp as lightning_fsdp
from torch.distributed.fsdp import FullStateDictConfig, FullyShardedDataParallel, StateDictType
from torch.distributed.fsdp.api import FullOptimStateDictConfig

from genomic_vit.cli import leave
from genomic_vit.config import SlabConfig
from genomic_vit.config_tree import from_tree
from genomic_vit.data.prepare import Cases
from genomic_vit.data.slab import cut_slab
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.training import fit as fitting
from genomic_vit.training import ranks
from genomic_vit.training.batch_norm import ShareBatchNorm
from genomic_vit.training.fit import fit
from genomic_vit.training.losses import masked_bce
from genomic_vit.training.machine import ALONE, Processes
from genomic_vit.training.module import StageModule
from genomic_vit.training.stages import schedule
from tests.scans import ball, chest, grid_of

WORLD, CLIP = 2, 0.05


class Looking(StageModule):
    """A stage whose forward pass is the network's, so that FSDP can stand around it."""

    def forward(self, grid):
        return self.model(grid)


def stage_module(strategy):
    """The same weights in every process, with all a Lightning trainer would be asked for."""
    tree = {"slab": {"tile_px": 16}, "vit": {"width": 16, "heads": 2, "depth": 2, "dropout": 0}, "cnn": {"dropout": 0}}
    config = from_tree(tree | {"training": {"average": 0, "clip": CLIP, "weight_decay": 20.0}}, "here")
    torch.manual_seed(0)
    stage = schedule("joint", config.training)[0]
    module = Looking(build_model(config), stage, config, 0, torch.ones(1)).train()
    module._trainer = SimpleNamespace(strategy=strategy, estimated_stepping_batches=10)
    return module


def step(network, module, clip, grid, labels, count_by):
    """The logits after one step, and the squared norm of the gradients that this process held for it."""
    optimizer = module.configure_optimizers()["optimizer"]
    output, weight = network(grid), torch.ones(1)
    loss = masked_bce(output.logits, labels, weight, count_by) + masked_bce(output.vit_logits, labels, weight, count_by)
    loss.backward()
    clip(optimizer)
    squared = sum(weight.grad.square().sum() for weight in module.parameters() if weight.grad is not None)
    optimizer.step()
    return network(grid).logits.detach(), squared


def one_of_two(rank, port):
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    grid = torch.rand(5, 1, 48, 48, generator=generator)
    labels, mine = torch.tensor([[1.0], [0.0], [0.0], [1.0], [0.0]]), (slice(0, 3), slice(3, 5))[rank]
    alone = stage_module(None)
    wanted, norm = step(
        alone, alone, lambda _: torch.nn.utils.clip_grad_norm_(alone.parameters(), CLIP), grid, labels,
        lambda summed, known: summed / known,
    )  # fmt: skip

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    strategy = FSDPStrategy()
    module = stage_module(strategy)
    ShareBatchNorm().apply(module.model)
    shapes = {id(weight): weight.ndim for weight in module.parameters()}
    strategy.model = FullyShardedDataParallel(module, use_orig_params=True, device_id=torch.device("cpu"))
    assert any(shapes[id(weight)] > 1 >= weight.ndim for weight in module.parameters())  # pieces are flat
    decayed, plain = module.configure_optimizers()["optimizer"].param_groups
    assert {shapes[id(weight)] for weight in plain["params"]} == {1}
    assert 1 not in {shapes[id(weight)] for weight in decayed["params"]} and decayed["weight_decay"] == 20
    found, piece = step(
        strategy.model, module, lambda optimizer: module.configure_gradient_clipping(optimizer, CLIP, "norm"),
        grid[mine], labels[mine], ranks.mean_everywhere,
    )  # fmt: skip
    torch.testing.assert_close(found, wanted[mine], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ranks.total(piece), norm, rtol=1e-4, atol=0)
    leave(0)


def test_a_sharded_step_decays_and_clips_as_a_whole_one():
    mp.spawn(one_of_two, (free_port(),), nprocs=WORLD)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class OnCPU(FSDPStrategy):
    """Lightning's FSDP, which it has for GPUs only. A module moved by it is not told; so it is told wrongly."""

    def _setup_model(self, model):
        model._device = torch.device("cuda", 7)
        given = {"mixed_precision": self.mixed_precision_config, "sharding_strategy": self.sharding_strategy}
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"), **given, **self.kwargs)


def whole_state(module, world_size, rank0_only=True):
    """Lightning's, without moving what is collected to the CPU: torch 2.13 frees it first where it is there already."""
    weights, optimizer = FullStateDictConfig(rank0_only=False), FullOptimStateDictConfig(rank0_only=False)
    return FullyShardedDataParallel.state_dict_type(module, StateDictType.FULL_STATE_DICT, weights, optimizer)


def fitted(folder, processes=ALONE, profile=False):
    """The network after both stages of `staged`, each of two epochs of three batches."""
    tree = {
        "slab": {"tile_px": 16},
        "vit": {"width": 16, "heads": 2, "depth": 2, "dropout": 0.0},
        "cnn": {"dropout": 0.0},
    }
    training = {"epochs": 2, "batch_size": 4, "average": 0, "learning_rate": 1e-4, "lesion_weight": 0.5}
    config = from_tree(tree | {"device": "cpu", "mode": "staged", "training": training}, "here")
    geometry = grid_of(spacing_mm=(1.25, 0.7, 0.7), shape=(40, 80, 80))
    slab = cut_slab(chest(geometry), ball(geometry), SlabConfig(tile_px=16))
    cases = Cases([slab] * 11, (np.arange(11) % 2)[:, None].astype(float), [str(i) for i in range(11)])
    torch.manual_seed(0)
    model = build_model(config)
    fit(model, cases, cases, config, folder, processes=processes, profile=profile)
    return model.state_dict()


def fit_of_two(rank, port, folder):
    torch.set_num_threads(1)
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": 0, "LOCAL_RANK": rank, "WORLD_SIZE": WORLD}
    os.environ.update({name: str(value) for name, value in told.items()})
    fitting.FSDPStrategy, lightning_fsdp._get_full_state_dict_context = OnCPU, whole_state
    state = fitted(folder / "run", Processes(WORLD, 1, "fsdp"), profile=True)
    if rank == 0:
        torch.save(state, folder / "run.pt")
        shutil.copytree(folder / "run", folder / "stopped")
        (folder / "stopped/checkpoints/cnn/done").unlink()
        (folder / "stopped/checkpoints/cnn/epoch_1.ckpt").unlink()  # as if killed in the second stage's last epoch
    dist.barrier()
    again = fitted(folder / "stopped", Processes(WORLD, 1, "fsdp"))
    for name, value in state.items():
        assert torch.equal(again[name], value), name
    leave(0)


def losses(run):
    """(stage, epoch, name) → value."""
    values = {}
    for path in sorted(run.glob("logs/*/session_0/metrics.csv")):
        for row in csv.DictReader(path.open()):
            told = {name: float(value) for name, value in row.items() if value and name not in ("epoch", "step")}
            values |= {(path.parents[1].name, row["epoch"], name): value for name, value in told.items()}
    return values


def test_a_sharded_fit_ends_with_whole_weights_in_every_stage_and_resumes(tmp_path):
    mp.spawn(fit_of_two, (free_port(), tmp_path), nprocs=WORLD)
    wanted, found = fitted(tmp_path / "alone"), torch.load(tmp_path / "run.pt", weights_only=True)
    assert {name: value.shape for name, value in found.items()} == {name: value.shape for name, value in wanted.items()}
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=1e-3, msg=name)
    logged, right = losses(tmp_path / "run"), losses(tmp_path / "alone")
    assert len(right) == 2 * (4 + 3) and logged == pytest.approx(right, abs=1e-3)
    for stage, parts in (("vit", "vit."), ("cnn", ("vit.", "rollout.", "cnn."))):
        best = torch.load(tmp_path / f"run/checkpoints/{stage}/best.ckpt", weights_only=True)["state_dict"]
        assert {name.removeprefix("model.") for name in best} == found.keys()
        for name in found:
            if name.startswith(parts):  # the ViT stays as its own stage left it
                assert torch.equal(found[name], best[f"model.{name}"]), name
        assert (tmp_path / f"run/profile_{stage}.csv").is_file()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_sharded_weights_and_statistics_stay_in_32_bit(precision):
    """As they do without FSDP; Lightning's own choice would take half precision for all of them."""
    strategy = fitting._spread(Processes(1, 1, "fsdp"), "cpu")["strategy"]
    strategy.precision_plugin = lightning_fsdp.FSDPPrecision(precision)
    kept = strategy.mixed_precision_config
    assert kept.param_dtype is kept.reduce_dtype is kept.buffer_dtype is None
