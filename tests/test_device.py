"""On a GPU the same comes out as on a CPU. Skipped where there is none."""

import json

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from genomic_vit import ViT, attention_rollout
from genomic_vit.config import SlabConfig
from genomic_vit.config_tree import from_tree
from genomic_vit.data.prepare import Cases
from genomic_vit.data.slab import cut_slab
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.predict import main as predict
from genomic_vit.train import main as train
from genomic_vit.training.fit import fit
from genomic_vit.training.losses import Truth
from genomic_vit.training.profile import matrix_peak
from genomic_vit.training.stages import look, schedule
from tests.scans import ball, chest, grid_of

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
CONFIG = from_tree({"slab": {"tile_px": 16}, "vit": {"width": 32, "depth": 3, "heads": 4, "dropout": 0.0}}, "here")


def step(device, dtype=torch.float64, precision=None):
    """Loss and gradients of one joint step on the CPU's weights and grids."""
    torch.manual_seed(0)
    model = build_model(CONFIG).to(dtype)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    grid, lesion = torch.rand(4, 1, 48, 48, dtype=dtype), (torch.rand(4, 1, 48, 48) > 0.9).to(dtype)
    truth = Truth(torch.tensor([[1.0], [0.0], [1.0], [float("nan")]], dtype=dtype), lesion, torch.ones(1, dtype=dtype))
    model, truth = model.to(device).train(), Truth(*(vars(truth)[name].to(device) for name in vars(truth)))
    (stage,) = schedule("joint", CONFIG.training)
    with torch.autocast(device, precision or torch.bfloat16, enabled=precision is not None):
        output = look(model, stage, grid.to(device), truth.lesion, torch.arange(4, device=device))
        loss = sum(weight * one(output, truth) for weight, one in stage.losses)
    loss.backward()
    return loss.item(), {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("method", ["dense", "streamed"])
def test_the_rollout_is_that_of_the_cpu(fusion, method):
    torch.manual_seed(0)
    vit, image = ViT((96, 96), patch_px=8, width=32, depth=3, heads=4).double(), torch.rand(2, 1, 96, 96).double()
    found = []
    for device in ("cpu", DEVICE):
        seen = vit.to(device)(image.to(device))
        row = attention_rollout(seen.attention, fusion=fusion, method=method, residual=0.3)
        weight = torch.linspace(-1, 1, row.shape[1], dtype=row.dtype, device=device)
        gradient = torch.autograd.grad((row * weight).sum(), vit.blocks[0].attention.qkv.weight)[0]
        found.append((row.detach().cpu(), gradient.cpu()))
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-12)


def test_a_joint_step_is_that_of_the_cpu():
    (loss, gradients), (loss_there, gradients_there) = step("cpu"), step(DEVICE)
    assert loss == pytest.approx(loss_there, abs=1e-10)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_there[name], gradient, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_a_step_in_half_precision_is_near(precision):
    """Eight bits of mantissa, through some ten layers and batch norm over four images."""
    loss, _ = step("cpu", torch.float32)
    near, gradients = step(DEVICE, torch.float32, precision)
    assert near == pytest.approx(loss, abs=0.05)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_the_peak_is_that_of_a_gpu():
    assert matrix_peak(torch.device(DEVICE), torch.bfloat16) > 1e12


@pytest.mark.parametrize("mode", ["joint", "staged"])
def test_what_a_gpu_trained_a_cpu_uses(mode, tmp_path, capsys):
    small = ["--phantom.patients", "24", "--training.epochs", "2", "--split.folds", "3", "--split.validation", "0.3"]
    given = [*small, "--precision", "bf16-mixed", "--device", DEVICE, "--cache", str(tmp_path / "cache")]
    assert train(["--mode", mode, *given, "--out", str(tmp_path / "run"), "--profile"]) == 0
    last = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("try next: "))
    scan, lesion = last.split()[6], last.split()[8]
    answers = []
    for device in (DEVICE, "cpu"):
        out = tmp_path / device
        assert predict([str(tmp_path / "run"), scan, "--lesion", lesion, "--out", str(out), "--device", device]) == 0
        answers.append(json.loads((out / "prediction.json").read_text())["probability"]["mutant"])
    assert answers[0] == pytest.approx(answers[1], abs=2e-3)  # TF32 in the GPU's convolutions


class StopOnce(Callback):
    """The user's Ctrl-C at the second epoch's second step."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.current_epoch == 1 and batch_idx == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_with_deterministic_a_stopped_run_ends_bit_for_bit(precision, tmp_path):
    settings = {"precision": precision, "epochs": 3, "batch_size": 4, "lesion_weight": 0.5, "deterministic": True}
    config = from_tree({"slab": {"tile_px": 16}, "device": DEVICE, "training": settings}, "here")
    geometry, found = grid_of(spacing_mm=(1.25, 0.7, 0.7), shape=(40, 80, 80)), []
    slab = cut_slab(chest(geometry), ball(geometry), SlabConfig(tile_px=16))
    cases = Cases([slab] * 12, (np.arange(12) % 2)[:, None].astype(float), [str(number) for number in range(12)])
    try:
        for stops in ([], [StopOnce()]):
            torch.manual_seed(0)
            model, folder = build_model(config), tmp_path / f"{len(stops)}"
            if stops:
                with pytest.raises(KeyboardInterrupt):
                    fit(model, cases, cases, config, folder, stops)
            fit(model, cases, cases, config, folder)
            found.append({name: value.cpu() for name, value in model.state_dict().items()})
    finally:
        torch.use_deterministic_algorithms(False)
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


class NoWaiting(Callback):
    """From an epoch's third step on, torch raises where the CPU waits for the GPU."""

    def __init__(self):
        self.watched = 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx >= 2:
            torch.cuda.set_sync_debug_mode("error")
            self.watched += 1

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_a_step_waits_for_nothing(precision, tmp_path):
    settings = {"precision": precision, "epochs": 2, "batch_size": 4, "lesion_weight": 0.5}
    config = from_tree({"slab": {"tile_px": 16}, "device": DEVICE, "training": settings}, "here")
    geometry, watch = grid_of(spacing_mm=(1.25, 0.7, 0.7), shape=(40, 80, 80)), NoWaiting()
    slab = cut_slab(chest(geometry), ball(geometry), SlabConfig(tile_px=16))
    labels, names = (np.arange(20) % 2)[:, None].astype(float), [str(number) for number in range(20)]
    cases = Cases([slab] * 20, labels, names)
    try:
        fit(build_model(config), cases, cases, config, tmp_path, [watch])
        torch.cuda.set_sync_debug_mode("error")
        with pytest.raises(RuntimeError, match="synchronizing"):  # it was at work
            torch.ones(1, device=DEVICE).item()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert watch.watched == 2 * 3
