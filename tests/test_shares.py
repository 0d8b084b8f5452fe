"""A batch shared among processes is the batch of one process: its stacks, draws, statistics, losses and gradients."""

import socket
from itertools import chain

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from genomic_vit.cli import leave
from genomic_vit.config import AugmentConfig
from genomic_vit.config_tree import from_tree
from genomic_vit.data.augment import augment
from genomic_vit.data.shares import Share, SharedBatches, share_of
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.training import ranks
from genomic_vit.training.batch_norm import ShareBatchNorm, SharedBatchNorm2d
from genomic_vit.training.losses import Truth, heat_on_lesion, masked_bce
from genomic_vit.training.module import StageModule
from genomic_vit.training.stages import look, schedule

WORLD = 2
UNEVEN, EMPTY = (slice(0, 3), slice(3, 5)), (slice(0, 5), slice(5, 5))  # shares of a batch of five
NAN = float("nan")


@pytest.mark.parametrize("length", [1, 7, 16, 17, 18])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_shares_together_are_the_batches_of_one_process(length, world):
    order = torch.randperm(length).tolist()
    alone = list(SharedBatches(order, 8, 0, 1, drop_lone=True))
    shares = [list(SharedBatches(order, 8, rank, world, drop_lone=True)) for rank in range(world)]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == alone
    assert list(chain(*alone)) == (order[:16] if length == 17 else order)  # batch norm cannot learn from one stack
    for parts in zip(*shares, strict=True):
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_share_says_where_it_lies():
    assert [share_of(5, rank, 3) for rank in range(3)] == [Share(0, 1, 5), Share(1, 3, 5), Share(3, 5, 5)]
    batches = SharedBatches(range(18), 8, 1, 3, drop_lone=True)
    assert [batches.share(number).whole for number in range(len(batches))] == [8, 8, 2]
    assert [len(share) for share in batches] == [
        batches.share(number).stop - batches.share(number).first for number in range(3)
    ]


def test_a_stack_is_augmented_alike_in_whichever_share():
    hu, lesion = torch.rand(5, 9, 12, 12) * 1000 - 900, torch.rand(5, 9, 12, 12)
    whole = augment(hu, lesion, AugmentConfig(), torch.Generator().manual_seed(3))
    for first, stop in ((0, 2), (2, 2), (2, 5)):
        generator = torch.Generator().manual_seed(3)
        mine = augment(hu[first:stop], lesion[first:stop], AugmentConfig(), generator, Share(first, stop, 5))
        assert all(torch.equal(a, b[first:stop]) for a, b in zip(mine, whole, strict=True))
        once = torch.Generator().manual_seed(3)
        augment(hu, lesion, AugmentConfig(), once)
        assert torch.equal(generator.get_state(), once.get_state())  # the next batch's draws are in step too


def test_each_process_drops_out_its_own_but_draws_the_same_augmentation(monkeypatch):
    config = from_tree({}, "here")
    module = StageModule(build_model(config), schedule("joint", config.training)[0], config, 0, torch.ones(1))
    masks, draws = [], []
    for rank in (0, 1):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        module.on_train_epoch_start()
        masks.append(torch.rand(8))
        draws.append(torch.rand(8, generator=module.generator))
    assert not torch.equal(*masks) and torch.equal(*draws)


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(5, 2, 6, 4, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 30.0]).view(1, 2, 1, 1)


def normed(mine, affine):
    """A step of batch norm on a share, against nn.BatchNorm2d on the whole batch."""
    torch.manual_seed(1)
    plain = nn.Sequential(nn.BatchNorm2d(2, affine=affine, momentum=0.3)).double()
    shared = nn.Sequential(nn.BatchNorm2d(2, affine=affine, momentum=0.3)).double()
    if affine:
        for net in (plain, shared):
            nn.init.constant_(net[0].weight, 0.7)
            nn.init.constant_(net[0].bias, -0.2)
    keys = list(shared.state_dict())
    ShareBatchNorm().apply(shared)
    assert type(shared[0]) is SharedBatchNorm2d and list(shared.state_dict()) == keys
    whole, part = batch().requires_grad_(), batch()[mine].requires_grad_()
    wanted, found = plain(whole), shared(part)
    (wanted**3).sum().backward()
    (found**3).sum().backward()
    close = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(found, wanted[mine], **close)
    torch.testing.assert_close(part.grad, whole.grad[mine], **close)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(shared[0], name), getattr(plain[0], name), **close)
    for ours, theirs in zip(shared.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ranks.total(ours.grad), theirs.grad, **close)
    ShareBatchNorm().revert(shared)
    assert type(shared[0]) is nn.BatchNorm2d
    torch.testing.assert_close(shared.eval()(batch()), plain.eval()(batch()), **close)


def counted(mine):
    """Means over what is known: the mean over processes is the mean over the whole batch, however unevenly it lies."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    labels = torch.tensor([[1.0, NAN], [NAN, NAN], [0.0, NAN], [1.0, 1.0], [NAN, 0.0]], dtype=torch.float64)
    heat = torch.rand(5, 1, 4, 4, generator=generator, dtype=torch.float64)
    lesion = torch.zeros(5, 1, 4, 4, dtype=torch.float64)
    lesion[[0, 3, 4], 0, 1, 1] = 1.0
    weight = torch.tensor([1.0, 3.0], dtype=torch.float64)
    pairs = (
        (masked_bce(logits[mine], labels[mine], weight, ranks.mean_everywhere), masked_bce(logits, labels, weight)),
        (heat_on_lesion(heat[mine], lesion[mine], ranks.mean_everywhere), heat_on_lesion(heat, lesion)),
    )
    for part, whole in pairs:
        torch.testing.assert_close(ranks.total(part) / WORLD, whole, rtol=1e-12, atol=0)
    nothing = masked_bce(logits[mine], torch.full_like(labels, NAN)[mine], weight, ranks.mean_everywhere)
    assert ranks.total(nothing) == 0


def stepped(mine, attention):
    """Gradients of a joint step on a share, averaged over processes, against those of the whole batch."""
    config = from_tree(
        {
            "slab": {"tile_px": 16},
            "vit": {"width": 16, "heads": 2, "depth": 2, "dropout": 0.0},
            "cnn": {"dropout": 0.0},
            "rollout": {"attention": attention},
            "training": {"lesion_weight": 0.5},
        },
        "here",
    )
    torch.manual_seed(0)
    stage, model = schedule("joint", config.training)[0], build_model(config).double().train()
    grid, lesion = torch.rand(5, 1, 48, 48, dtype=torch.float64), torch.rand(5, 1, 48, 48, dtype=torch.float64)
    labels, weight = torch.tensor([[1.0], [0.0], [NAN], [1.0], [0.0]], dtype=torch.float64), torch.ones(1).double()

    def gradients(part, count_by):
        model.zero_grad()
        output = look(model, stage, grid[part], lesion[part], torch.arange(5)[part])
        truth = Truth(labels[part], lesion[part], weight)
        if count_by == "here":  # the plain losses, of one process that has it all
            parts = (
                masked_bce(output.logits, truth.labels, weight),
                masked_bce(output.vit_logits, truth.labels, weight),
                heat_on_lesion(output.heat, truth.lesion),
            )
            loss = sum(share * part for (share, _), part in zip(stage.losses, parts, strict=True))
        else:
            loss = sum(share * part(output, truth) for share, part in stage.losses)
        loss.backward()
        return {name: value.grad for name, value in model.named_parameters()}

    wanted = gradients(slice(None), "here")
    ShareBatchNorm().apply(model)
    for name, found in gradients(mine, "everywhere").items():
        torch.testing.assert_close(ranks.total(found) / WORLD, wanted[name], rtol=1e-7, atol=1e-12, msg=name)


def one_of_two(rank, port):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    for shares in (UNEVEN, EMPTY):
        for affine in (True, False):
            normed(shares[rank], affine)
        counted(shares[rank])
        for attention in ("auto", "dense"):
            stepped(shares[rank], attention)
    assert ranks.gathered(rank) == [0, 1]
    leave(0)


def test_two_processes_with_uneven_or_empty_shares_are_as_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(one_of_two, (port,), nprocs=WORLD)


def test_batch_norm_alone_is_that_of_torch_in_half_precision_too():
    torch.manual_seed(0)
    image = batch().to(torch.bfloat16)
    wanted, found = nn.BatchNorm2d(2)(image), SharedBatchNorm2d(2)(image)
    assert found.dtype == wanted.dtype == torch.bfloat16
    np.testing.assert_allclose(found.detach().float(), wanted.detach().float(), atol=0.02)  # bf16 has 8 bits
