"""A step with weights sharded over two processes (torch's FSDP, on a CPU by gloo) is the step of one process."""

import socket
from types import SimpleNamespace

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch.strategies import FSDPStrategy
from torch.distributed.fsdp import FullyShardedDataParallel

from genomic_vit.config import from_tree
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.training import ranks
from genomic_vit.training.batch_norm import ShareBatchNorm
from genomic_vit.training.losses import masked_bce
from genomic_vit.training.module import StageModule
from genomic_vit.training.stages import schedule

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
    dist.destroy_process_group()


def test_a_sharded_step_decays_and_clips_as_a_whole_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(one_of_two, (port,), nprocs=WORLD)
