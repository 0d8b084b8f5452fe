"""Where the time goes: each second is booked once, on what it was for; operations by hand."""

import csv
import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from genomic_vit.config import SlabConfig
from genomic_vit.config_tree import from_tree
from genomic_vit.data.prepare import Cases
from genomic_vit.data.slab import cut_slab
from genomic_vit.models import blocks
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.training import profile
from genomic_vit.training.fit import fit
from genomic_vit.training.profile import StepProfiler, matrix_peak, step_flops
from genomic_vit.training.stage_profile import BESIDE, STEP, StageProfile
from genomic_vit.training.stages import schedule
from tests.scans import ball, chest, grid_of

CONFIG = from_tree(
    {"slab": {"tile_px": 16}, "vit": {"width": 16, "heads": 2, "depth": 2}, "device": "cpu", "mode": "staged"}
    | {"training": {"epochs": 2, "batch_size": 4}},
    "here",
)


def test_each_second_is_booked_once_on_the_innermost_part(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(profile.time, "perf_counter", lambda: now[0])
    profiler = StepProfiler()

    def spend(seconds, *actions):
        if actions:
            with profiler.profile(actions[0]):
                spend(seconds, *actions[1:])
        else:
            now[0] += seconds

    spend(1.0, "run_training_epoch", "[_TrainingEpochLoop].train_dataloader_next")
    spend(2.0, "run_training_epoch", "[Strategy]SingleDeviceStrategy.batch_to_device")
    with profiler.profile("[LightningModule]StageModule.optimizer_step"):
        spend(8.0)
        with profiler.profile("[Strategy]SingleDeviceStrategy.training_step"):
            spend(16.0)
            spend(32.0, "augment")
            spend(64.0, "vit")
        spend(128.0, "[Strategy]SingleDeviceStrategy.backward")
    spend(256.0, "[Strategy]SingleDeviceStrategy.validation_step", "vit")
    spend(512.0, "[Callback]RecentAverage.on_train_batch_end")
    spend(1024.0, "[Callback]RichProgressBar.on_train_batch_end")
    profiler.stop("begun before there was a profiler")
    expected = {"load": 3, "optimizer": 8, "loss": 16, "augment": 32, "vit": 64, "backward": 128, "validation": 256}
    expected |= {"average": 512, "other": 1024}
    assert {part: seconds for part, seconds in profiler.seconds.items() if seconds} == expected
    assert profiler.steps == 1


def test_operations_of_the_cnn_by_hand():
    """Two a multiplication and addition; backward twice as many, but for the picture, which learns nothing."""
    (stage,) = schedule("cnn", CONFIG.training)
    batch, side, channels, products, first = 2, 48, 1, 0, 0
    for width in (16, 32, 64, 128):
        for inputs in (channels, width):
            products += batch * side * side * 9 * inputs * width
            first = first or products
        channels, side = width, side // 2
    last = batch * 2 * channels
    model = build_model(CONFIG, heat_channels=0).train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    found = step_flops(model, stage, torch.rand(batch, 1, 48, 48), targets=1)
    assert found == 2 * (3 * products - first + 3 * last)
    for name, value in model.state_dict().items():  # counting changes nothing
        assert torch.equal(value, weights[name])


def test_products_that_threads_do_apart_are_counted(monkeypatch):
    torch.manual_seed(0)
    model, (stage,) = build_model(CONFIG).train(), schedule("joint", CONFIG.training)
    grid, found, threads = torch.rand(2, 1, 48, 48), [], torch.get_num_threads()
    torch.set_num_threads(2)
    for large in (blocks.LARGE, 0):
        monkeypatch.setattr(blocks, "LARGE", large)
        found.append(step_flops(model, stage, grid, targets=1))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert found[0] == found[1] > 0


def test_fused_attention_on_a_cpu_is_counted():
    q = torch.rand(2, 3, 10, 4)
    with FlopCounterMode(display=False, custom_mapping=profile.ON_CPU) as counter:
        F.scaled_dot_product_attention(q, q, q)
    assert counter.get_total_flops() == 2 * 2 * 2 * 3 * 10 * 10 * 4


def test_the_peak_is_that_of_products():
    assert 1e9 < matrix_peak(torch.device("cpu"), torch.float32, tries=1) < 1e14


def test_the_table_and_the_file_by_hand(tmp_path):
    """Ten steps; arithmetic of 1 + 2 + 3 + 0.5 + 3.5 = 10 s at 2 GFLOP a step is 2 GFLOP/s, a quarter of the peak."""
    seconds = Counter({"vit": 1.0, "rollout": 2.0, "cnn": 3.0, "loss": 0.5, "backward": 3.5, "load": 6.0, "other": 4.0})
    told = StageProfile(seconds, 10, 2_000_000_000, 8e9, "float32 on cpu")
    text = str(told)
    assert text.startswith("10 steps in 20.0 s, 1600.0 ms a step") and "compiled" not in text
    assert "2.00 GFLOP a step, 2.0 GFLOP/s, 25% of the 8 GFLOP/s of one large matrix product (float32 on cpu)" in text
    told.write(tmp_path / "profile.csv")
    with (tmp_path / "profile.csv").open() as file:
        rows = {row.pop("part"): row for row in csv.DictReader(file)}
    assert list(rows) == [*STEP, *BESIDE, "arithmetic"]
    rates = {"gflop_a_step": "2", "gflop_a_s": "2", "peak_gflop_a_s": "8", "share_of_peak": "0.2500"}
    shown = {"seconds": "10.0000", "ms_a_step": "1000.000", "share": "0.5000"}
    assert rows["arithmetic"] == shown | rates
    assert rows["cnn"] == {"seconds": "3.0000", "ms_a_step": "300.000", "share": "0.1500"} | dict.fromkeys(rates, "")


def test_a_compiled_network_is_not_said_to_take_no_time(tmp_path):
    told = StageProfile(
        Counter({"loss": 6.0, "backward": 4.0}), 10, 2_000_000_000, 8e9, "float32 on cpu", compiled=True
    )
    assert (
        "compiled: vit, rollout, cnn run as one and cannot be told apart; they are in loss. Compiling itself is in loss"
        in str(told)
    )
    assert not any(line.split()[0] in ("vit", "rollout", "cnn") for line in str(told).splitlines())
    told.write(tmp_path / "profile.csv")
    with (tmp_path / "profile.csv").open() as file:
        rows = {row["part"]: row for row in csv.DictReader(file)}
    assert list(rows) == [part for part in (*STEP, *BESIDE, "arithmetic") if part not in ("vit", "rollout", "cnn")]
    assert rows["arithmetic"]["share_of_peak"] == "0.2500"


@pytest.mark.parametrize(("precision", "kind"), [("32", "float32"), ("bf16-mixed", "bfloat16"), ("64", "float64")])
def test_a_stage_tells_where_its_time_went(precision, kind, tmp_path, caplog):
    config = replace(CONFIG, training=replace(CONFIG.training, precision=precision))
    geometry = grid_of(spacing_mm=(1.25, 0.7, 0.7), shape=(40, 80, 80))
    slab = cut_slab(chest(geometry), ball(geometry), SlabConfig(tile_px=16))
    labels, names = (np.arange(8) % 2)[:, None].astype(float), [str(number) for number in range(8)]
    cases = Cases([slab] * 8, labels, names)
    torch.manual_seed(0)
    with caplog.at_level(logging.INFO):
        fit(build_model(config), cases, cases, config, tmp_path, profile=True)
    assert "stage vit: 4 steps in" in caplog.text and f"of one large matrix product ({kind} on cpu" in caplog.text
    for stage in ("vit", "cnn"):
        with (tmp_path / f"profile_{stage}.csv").open() as file:
            rows = {row["part"]: float(row["seconds"]) for row in csv.DictReader(file)}
        assert list(rows) == [*STEP, *BESIDE, "arithmetic"]
        spent = {part for part, seconds in rows.items() if seconds > 0}
        assert {"load", "augment", "vit", "backward", "optimizer", "validation", "checkpoint", "average"} <= spent
        assert (rows["cnn"] > 1e-3) == (stage == "cnn")
