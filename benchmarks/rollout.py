"""What the rollout costs, each row against its floor in the same run.

    python -m benchmarks.rollout [op] [step] [native] [--repeats 7]

op      the rollout alone, given attention matrices: ours, the full matrix product, a loop over images and heads, each
        against one pure read of the matrices, the median of five processes. Bar: at most 1.3 times the floor at
        n >= 577, 2 times at n = 197.
step    one joint training step (ViT, rollout, CNN, forward and backward) against the same network with no rollout and
        torch's own attention, forward and backward, which is the floor. Every variant runs in a process of its own, in
        turns; time is the median, memory the peak above what the process held before its first step. Bar for auto:
        1.10 times the floor's time at n <= 577, 1.20 at 2305, 1.10 times its memory.
native  the same at 1536 x 1536 px, n = 9217, batch 1. Bar: at most 10 GB, 1.6 times the floor's time.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context

import torch
import torch.nn.functional as F

from genomic_vit.models import attention as attending
from genomic_vit.models.attention import AttentionMap
from genomic_vit.models.cnn import build_cnn
from genomic_vit.models.genomic_vit import GenomicViT
from genomic_vit.models.rollout import Rollout, attention_rollout
from genomic_vit.models.vit import ViT

OP_SIZES = ((8, 2, 12, 197), (8, 12, 12, 197), (4, 12, 6, 577), (1, 12, 12, 1765))  # (b l h n)
OP_PROCESSES = 5
STEP_SIZES = {145: (8, 192), 577: (4, 384), 2305: (1, 768)}  # n: batch, side of the grid in pixels
NATIVE = (1, 1536)
DEPTH, WIDTH, HEADS, PATCH_PX = 12, 384, 6, 16


def medians(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, all of them in turn, after one turn that does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def full_product(layers: list[torch.Tensor], residual: float = 0.5) -> torch.Tensor:
    """CLS row of the product of all n x n matrices, as public code has it, in batches."""
    eye = torch.eye(layers[0].shape[-1])
    product = None
    for layer in layers:
        mixed = (1 - residual) * layer.mean(1) + residual * eye
        product = mixed if product is None else mixed @ product
    return product[:, 0, 1:]


def image_loop(layers: list[torch.Tensor], residual: float = 0.5) -> torch.Tensor:
    """Row first, an image and a head at a time."""
    rows = []
    for image in range(layers[0].shape[0]):
        row = torch.zeros(layers[0].shape[-1])
        row[0] = 1
        for layer in reversed(layers):
            heads = [row @ head for head in layer[image]]
            row = (1 - residual) * sum(heads) / len(heads) + residual * row
        rows.append(row[1:])
    return torch.stack(rows)


def op_table(repeats: int) -> list[str]:
    """The rollout alone, each size in several processes: where it happens to lie in memory moves the ratio."""
    lines = ["| b l h n | floor: one read | ours | full product | loop | ours / floor | least, most |"]
    lines += ["|---|---|---|---|---|---|---|"]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as alone:
        for size in OP_SIZES:
            runs = list(alone.map(op_times, repeat(size, OP_PROCESSES), repeat(repeats)))
            ratios = sorted(run["ours"] / run["floor"] for run in runs)
            shown = " | ".join(f"{1e3 * statistics.median(run[name] for run in runs):.2f} ms" for name in runs[0])
            ends = f"{ratios[0]:.2f}, {ratios[-1]:.2f}"
            lines.append(f"| {' '.join(map(str, size))} | {shown} | {statistics.median(ratios):.2f} | {ends} |")
    return lines


def op_times(size: tuple[int, int, int, int], repeats: int) -> dict[str, float]:
    """Median seconds of each way, for (b l h n), in this process."""
    images, depth, heads, tokens = size
    torch.manual_seed(0)
    layers = [torch.rand(images, heads, tokens, tokens) for _ in range(depth)]
    for layer in layers:
        layer /= layer.sum(-1, keepdim=True)
    ways = {
        "floor": lambda: [layer.sum() for layer in layers],
        "ours": lambda: attention_rollout(layers),
        "full": lambda: full_product(layers),
        "loop": lambda: image_loop(layers),
    }
    torch.testing.assert_close(ways["ours"](), ways["full"](), rtol=1e-3, atol=1e-7)
    return medians(ways, 3 * repeats)


class Floor(Rollout):
    """No rollout at all: the heat is even."""

    def forward(
        self, attention: tuple[AttentionMap, ...], prefix_tokens: int, check: bool | None = None
    ) -> torch.Tensor:
        q = attention[0].q
        return q.new_ones(q.shape[0], q.shape[2] - prefix_tokens)


class FullMatrix(Rollout):
    """The product of all matrices, through autograd."""

    def forward(
        self, attention: tuple[AttentionMap, ...], prefix_tokens: int, check: bool | None = None
    ) -> torch.Tensor:
        return full_product([layer.dense() for layer in attention])


VARIANTS = {"floor": Floor, "auto": Rollout, "streamed": Rollout, "dense": Rollout, "full": FullMatrix}


def network(variant: str, side_px: int) -> GenomicViT:
    """ViT-S/16 and the small CNN, as they train jointly."""
    torch.manual_seed(0)
    attention = variant if variant in ("auto", "streamed", "dense") else "streamed"  # keeps no rows for a rollout
    vit = ViT((side_px, side_px), patch_px=PATCH_PX, width=WIDTH, depth=DEPTH, heads=HEADS, attention=attention)
    rollout = VARIANTS[variant](DEPTH, attention=attention)
    return GenomicViT(vit, build_cnn("small", 2, 1), rollout, tile_patches=side_px // PATCH_PX // 3).train()


def torchs_own(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, _rows: int, _dropout: float
) -> tuple[torch.Tensor, None, None]:
    """What a network without a rollout takes in place of attention that a rollout can share."""
    return F.scaled_dot_product_attention(q, k, v, scale=scale), None, None


def held_mb() -> float:
    """Peak memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def serve(variant: str, batch: int, side_px: int) -> None:
    """One variant in its own process: a step for each line read, answered by its seconds and peak memory."""
    if variant == "floor":
        attending.shared_attention = torchs_own
    model = network(variant, side_px)
    grid, label = torch.rand(batch, 1, side_px, side_px), torch.ones(batch, 1)
    before = held_mb()
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        output = model(grid)
        loss = F.binary_cross_entropy_with_logits(output.logits, label)
        (loss + 0.5 * F.binary_cross_entropy_with_logits(output.vit_logits, label)).backward()
        seconds = time.perf_counter() - start
        model.zero_grad(set_to_none=True)
        del output, loss
        print(json.dumps({"seconds": seconds, "mb": held_mb() - before}), flush=True)


def steps(variants: tuple[str, ...], batch: int, side_px: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Median seconds and peak MB of a step of each variant, in turns, one process each."""
    command = [sys.executable, "-m", "benchmarks.rollout", "--serve"]
    servers = {
        name: subprocess.Popen(
            [*command, name, str(batch), str(side_px)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in variants
    }
    for server in servers.values():
        server.stdout.readline()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    turns = (
        range(repeats + 1) if repeats > 1 else range(1, 2)
    )  # the first turn does not count, unless it is the only one
    for turn in turns:
        for name, server in servers.items():
            server.stdin.write("step\n")
            server.stdin.flush()
            answer = json.loads(server.stdout.readline())
            if turn:
                found[name].append(answer)
    for server in servers.values():
        server.stdin.close()
        server.wait()
    return {
        name: (statistics.median(a["seconds"] for a in answers), max(a["mb"] for a in answers))
        for name, answers in found.items()
    }


def step_table(repeats: int) -> list[str]:
    """Joint training steps."""
    lines = ["| n | batch | variant | step | / floor | peak memory | / floor |", "|---|---|---|---|---|---|---|"]
    for tokens, (batch, side_px) in STEP_SIZES.items():
        found = steps(tuple(VARIANTS), batch, side_px, repeats)
        lines += rows_of(found, tokens, batch)
    return lines


def rows_of(found: dict[str, tuple[float, float]], tokens: int, batch: int) -> list[str]:
    """A line a variant."""
    seconds, mb = found["floor"]
    return [
        f"| {tokens} | {batch} | {name} | {s:.2f} s | {s / seconds:.2f} | {m:.0f} MB | {m / mb:.2f} |"
        for name, (s, m) in found.items()
    ]


def native_table(repeats: int) -> list[str]:
    """One joint step at the scanner's own resolution."""
    lines = ["| n | batch | variant | step | / floor | peak memory | / floor |", "|---|---|---|---|---|---|---|"]
    found = steps(("floor",), *NATIVE, repeats) | steps(("auto",), *NATIVE, repeats)  # not both in memory at once
    return lines + rows_of(found, (NATIVE[1] // PATCH_PX) ** 2 + 1, NATIVE[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=["op", "step"], help="op, step, native (default: op step)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        variant, batch, side_px = options.serve
        return serve(variant, int(batch), int(side_px))
    tables = {"op": op_table, "step": step_table, "native": native_table}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name in options.tables:
        print("\n" + "\n".join(tables[name](options.repeats)), flush=True)


if __name__ == "__main__":
    main()
