"""Share of loading and augmentation in a training step, at the demo's size.

    python -m benchmarks.loading [--device cpu] [--tile-px 32] [--cases 96] [--epochs 8] [--out FILE.json]

Shown: what one step costs with everything in it, what of that is loading (memory-mapped slabs to a batch) and
augmentation, and the step with one batch repeated; on a CPU in seconds of CPU, all threads together. Bars: at most 5 %
on a CPU; on a GPU the step with real loading at most 1.05 x that with one batch repeated. Takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from genomic_vit.config import RunConfig, SlabConfig
from genomic_vit.data.augment import augment
from genomic_vit.data.datasets import Batch, RandomStacks, loader
from genomic_vit.data.entry import PreparedSlab, forget_maps, write_entry
from genomic_vit.data.shares import share_of
from genomic_vit.data.slab import Slab
from genomic_vit.imaging.geometry import Geometry
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.training.module import StageModule, positive_weights
from genomic_vit.training.stages import schedule

BAR_CPU, BAR_GPU = 0.05, 1.05


def write_slabs(folder: Path, cases: int, tile_px: int) -> list[PreparedSlab]:
    """Slabs as large as the phantom's (13 to 21 slices), of noise."""
    generator = np.random.default_rng(0)
    slabs = []
    for case in range(cases):
        shape = (int(generator.integers(13, 22)), tile_px, tile_px)
        geometry = Geometry(shape, np.array([1.25, 1.25, 1.25]), np.zeros(3), np.eye(3)[:, ::-1])
        hu = generator.normal(-500, 300, shape).astype(np.float32)
        slabs.append(write_entry(Slab(hu, hu > 0, geometry, 12.0), folder / f"{case}.npy"))
    return slabs


def seconds_a_step(work: Callable[[Batch], object], batches: Callable[[int], object], epochs: int, sync) -> float:
    """Mean time of a step over epochs, the first left out; the median of them."""
    clock = time.perf_counter if sync else time.process_time  # on a CPU other work must not count
    times = []
    for epoch in range(epochs + 1):
        start, steps = clock(), 0
        for batch in batches(epoch):
            work(batch)
            steps += 1
        if sync:
            sync()
        times.append((clock() - start) / steps)
    return float(np.median(times[1:]))


def measure(device: torch.device, tile_px: int, cases: int, epochs: int, folder: Path) -> dict[str, float]:
    config = RunConfig(slab=SlabConfig(tile_px=tile_px))
    slabs, labels = write_slabs(folder, cases, tile_px), (np.arange(cases) % 2.0)[:, None]
    stage = schedule("joint", config.training)[0]
    module = StageModule(build_model(config), stage, config, 0, positive_weights(labels, balance=True)).to(device)
    module.log = lambda *_, **__: None
    module.generator = generator = torch.Generator(device).manual_seed(0)
    module.model.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    sync = torch.cuda.synchronize if device.type == "cuda" else None

    def batches(epoch: int):
        draw = (0, 0, epoch)
        stacks, pinned = RandomStacks(slabs, labels, seed=draw), device.type == "cuda"
        return loader(stacks, config.training.batch_size, shuffle=draw, pinned=pinned)

    def moved(batch: Batch) -> Batch:
        return Batch(*(part.to(device, non_blocking=True) for part in batch))

    def step(batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        module.learn(moved(batch), share_of(len(batch.hu), 0, 1)).backward()
        optimizer.step()

    held = moved(next(iter(batches(0))))
    steps = len(batches(0))
    forget_maps()
    return {
        "step": seconds_a_step(step, batches, epochs, sync),
        "step, one batch repeated": seconds_a_step(step, lambda _: [held] * steps, epochs, sync),
        "loading": seconds_a_step(lambda batch: None, batches, 4 * epochs, sync),
        "augmentation": seconds_a_step(
            lambda b: augment(b.hu, b.lesion, config.augment, generator), lambda _: [held] * steps, 4 * epochs, sync
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tile-px", type=int, default=32)
    parser.add_argument("--cases", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(device, options.tile_px, options.cases, options.epochs, Path(folder))
    share = (found["loading"] + found["augmentation"]) / found["step"]
    ratio = found["step"] / found["step, one batch repeated"]
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; batch of {RunConfig().training.batch_size} stacks of 9 tiles of {options.tile_px} px")
    for part, seconds in found.items():
        print(f"  {part:28s}{1e3 * seconds:9.2f} ms")
    print(f"  loading and augmentation are {share:.1%} of the step (bar on a CPU: {BAR_CPU:.0%})")
    print(f"  with real loading a step takes {ratio:.3f} x that with one batch repeated (bar on a GPU: {BAR_GPU})")
    if options.out:
        options.out.write_text(json.dumps(found | {"share": share, "ratio": ratio, "device": name}, indent=2) + "\n")


if __name__ == "__main__":
    main()
