"""What a GPU makes of the joint step: images a second, memory, and its share of the matrix peak.

    python -m benchmarks.device [--device cuda] [--sides 224 384 768] [--batches 64 32 8] [--steps 20]

The network is ViT-S/16 (12 layers, 384 wide, 6 heads) with resnet18, in bf16, AdamW fused. One step: forward, rollout,
backward and optimiser. The peak is the best of several products of two large matrices in the same run. Bars: 40 % of it
at 384 and above; a streamed rollout, forward and backward, in at most half the time of fused attention, forward and
backward, of the same layers. Runs on a CPU too, where --sides 48 --batches 2 --steps 1 is the size.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from genomic_vit.config import TrainingConfig
from genomic_vit.models.attention import AttentionMap
from genomic_vit.models.cnn import build_cnn
from genomic_vit.models.genomic_vit import GenomicViT
from genomic_vit.models.rollout import Rollout, attention_rollout
from genomic_vit.models.vit import ViT
from genomic_vit.training.losses import Truth
from genomic_vit.training.profile import matrix_peak, step_flops
from genomic_vit.training.stages import Stage, look, schedule

DEPTH, WIDTH, HEADS, PATCH_PX = 12, 384, 6, 16
BAR_PEAK, BAR_ROLLOUT = 0.40, 0.5


def network(side_px: int) -> GenomicViT:
    """ViT-S/16 and resnet18; the heat is interpolated over the whole picture as one tile."""
    vit = ViT((side_px, side_px), patch_px=PATCH_PX, width=WIDTH, depth=DEPTH, heads=HEADS)
    return GenomicViT(vit, build_cnn("resnet18", 2, 1), Rollout(DEPTH), tile_patches=side_px // PATCH_PX)


def seconds(work: Callable[[], object], steps: int, device: torch.device) -> float:
    """Median over `steps`, three more before them."""
    times = []
    for _ in range(steps + 3):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


def joint_step(model: GenomicViT, stage: Stage, grid: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Forward, backward, optimiser."""
    images = len(grid)
    truth = Truth((torch.arange(images, device=grid.device) % 2.0)[:, None], grid, grid.new_ones(1))
    with torch.autocast(grid.device.type, torch.bfloat16):
        output = look(model, stage, grid, grid, torch.arange(images, device=grid.device))
        loss = sum(weight * one(output, truth) for weight, one in stage.losses)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def step_row(side_px: int, batch: int, steps: int, device: torch.device, peak: float) -> str:
    """A line of the table of steps."""
    torch.manual_seed(0)
    model, (stage,) = network(side_px).to(device).train(), schedule("joint", TrainingConfig())
    grid = torch.rand(batch, 1, side_px, side_px, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    with torch.autocast(device.type, torch.bfloat16):
        flops = step_flops(model, stage, grid[:2], 1) * batch / 2
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    took = seconds(lambda: joint_step(model, stage, grid, optimizer), steps, device)
    held = f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB" if device.type == "cuda" else "not measured"
    tokens = (side_px // PATCH_PX) ** 2 + 1
    share = flops / took / peak
    return f"| {side_px} | {tokens} | {batch} | {1e3 * took:.1f} ms | {batch / took:.0f} | {held} | {share:.0%} |"


def rollout_row(side_px: int, batch: int, steps: int, device: torch.device) -> str:
    """Streamed rollout against fused attention, both forward and backward through q and k of all layers, in bf16."""
    tokens = (side_px // PATCH_PX) ** 2 + 1
    shape = (DEPTH, batch, HEADS, tokens, WIDTH // HEADS)
    q, k, v = (torch.randn(shape, device=device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    scale = (WIDTH // HEADS) ** -0.5

    def attention() -> None:
        layers = zip(q, k, v, strict=True)
        sum(F.scaled_dot_product_attention(*layer, scale=scale).sum() for layer in layers).backward()

    def rollout() -> None:
        maps = [AttentionMap(*layer, scale) for layer in zip(q, k, strict=True)]
        attention_rollout(maps, method="streamed", check=False).square().sum().backward()

    floor, ours = (seconds(work, steps, device) for work in (attention, rollout))
    return f"| {side_px} | {tokens} | {batch} | {1e3 * floor:.1f} ms | {1e3 * ours:.1f} ms | {ours / floor:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sides", type=int, nargs="+", default=[224, 384, 768])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 32, 8])
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    device = torch.device(options.device)
    sizes = list(zip(options.sides, options.batches, strict=True))
    peak = matrix_peak(device, torch.bfloat16)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}; one large product in bf16: {peak / 1e12:.2f} TFLOP/s\n")
    print(f"| grid px | n | batch | step | images/s | memory | share of the peak (bar {BAR_PEAK:.0%} from 384) |")
    print("|---|---|---|---|---|---|---|")
    for side_px, batch in sizes:
        print(step_row(side_px, batch, options.steps, device, peak), flush=True)
    print(f"\n| grid px | n | batch | fused attention | streamed rollout | ratio (bar {BAR_ROLLOUT}) |")
    print("|---|---|---|---|---|---|")
    for side_px, batch in sizes:
        print(rollout_row(side_px, batch, options.steps, device), flush=True)


if __name__ == "__main__":
    main()
