"""train --model.pretrained FILE, as users call it, on a small phantom."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

import genomic_vit.run_training
from genomic_vit import ViT, load_pretrained
from genomic_vit.phantom import main as phantom
from genomic_vit.train import main as train
from genomic_vit.training.run_folder import RunFolder
from tests.checkpoints import dinov2, random_vit

SMALL = [
    *["--slab.tile_px", "16", "--vit.patch_px", "8", "--vit.width", "16", "--vit.heads", "2", "--vit.depth", "2"],
    *["--training.epochs", "1", "--split.folds", "3", "--split.validation", "0.3", "--device", "cpu", "--jobs", "1"],
    *["--target", "mutant", "--training.learning_rate", "1e-12"],  # so small that what was loaded is what is saved
]
VIT = {"patch_px": 8, "width": 16, "heads": 2, "depth": 2}


@pytest.fixture(autouse=True)
def unscored(monkeypatch, caplog):
    """Runs end with their weights: intervals on metrics are tested elsewhere, and would take nearly all the time."""
    monkeypatch.setattr(genomic_vit.run_training, "_test", lambda *_: {})
    caplog.set_level("INFO")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    assert phantom([str(folder / "phantom"), "--patients", "24", "--jobs", "1"]) == 0
    return ["--data", str(folder / "phantom/cases.csv"), "--cache", str(folder / "cache"), *SMALL]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A DINOv2-like file of another image size, patch side and depth."""
    file = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.save(dinov2(random_vit((70, 70), seed=3, layer_scale=1e-5, **VIT | {"patch_px": 14, "depth": 4})), file)
    return file


@pytest.mark.parametrize(("mode", "layer_scale"), [("joint", None), ("staged", 1e-5)])
def test_a_run_begins_with_the_weights_of_the_file(mode, layer_scale, given, weights, tmp_path, caplog):
    scale = ["--vit.layer_scale", str(layer_scale)] if layer_scale else []
    out = tmp_path / "run"
    given = [*given, *scale, "--mode", mode, "--model.pretrained", str(weights), "--out", str(out)]
    assert train(given) == 0
    wanted = ViT((48, 48), **VIT, mlp_ratio=2.0, layer_scale=layer_scale)
    report = load_pretrained(wanted, weights)
    saved = load_file(out / "model.safetensors")
    for name in report.loaded:
        torch.testing.assert_close(saved[f"vit.{name}"], wanted.state_dict()[name], rtol=0, atol=1e-6)
    assert str(report) in caplog.text
    assert "blocks: the first 2 of 4" in caplog.text and "patches of 14 px resampled to 8 px" in caplog.text
    kept = json.loads((out / "environment.json").read_text())["pretrained"]
    assert kept["sha256"] == report.sha256 and kept["source"] == str(weights)
    text = (out / "config.yaml").read_text().replace(str(weights), "gone.pth")
    (out / "config.yaml").write_text(text)
    RunFolder(out).load_model(torch.device("cpu"))  # a trained network needs its weights alone
    assert train([*given, "--model.pretrained", "gone.pth", "--resume"]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--vit.width", "32"], r"vit\.pth: does not fit this ViT, where vit\.width is 32\..*set vit\.width 16"),
        (["--model.pretrained", "gone.pth"], r"gone\.pth: no such file of weights; give a path"),
        (["--model.pretraind", "x"], r"unknown option --model\.pretraind; did you mean --model\.pretrained"),
        (["--vit.layer_scale", "0"], r"vit\.layer_scale is 0\.0; give a number above 0"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(change, message, given, weights, tmp_path, capsys):
    asked = [*given, "--mode", "joint", "--model.pretrained", str(weights), "--out", str(tmp_path / "run"), *change]
    assert train(asked) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_stopped_before_its_first_checkpoint_a_run_begins_with_the_same_file_again(
    given, weights, tmp_path, monkeypatch, capsys
):
    def stop(*_, **__):
        raise KeyboardInterrupt

    file = tmp_path / "vit.pth"
    file.write_bytes(weights.read_bytes())
    given = [*given, "--mode", "joint", "--model.pretrained", str(file), "--training.learning_rate", "1e-3"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert train([*given, "--out", str(whole)]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(genomic_vit.run_training, "fit", stop)
        assert train([*given, "--out", str(stopped)]) == 130
    torch.save(dinov2(random_vit((48, 48), seed=4, **VIT)), file)
    assert train([*given, "--out", str(stopped), "--resume"]) == 2
    assert re.search(r"vit\.pth: is not the file this run began with \(SHA-256", capsys.readouterr().err)
    file.write_bytes(weights.read_bytes())
    assert train([*given, "--out", str(stopped), "--resume"]) == 0
    ours, theirs = load_file(stopped / "model.safetensors"), load_file(whole / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_another_runs_weights_are_a_beginning_too(given, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert train([*given, "--mode", "joint", "--out", str(first), "--seed", "5"]) == 0
    file = first / "model.safetensors"
    assert train([*given, "--mode", "joint", "--out", str(second), "--model.pretrained", str(file)]) == 0
    ours, theirs = load_file(second / "model.safetensors"), load_file(file)
    same = {name for name in theirs if torch.allclose(ours[name], theirs[name], rtol=0, atol=1e-6)}
    vit = {name for name in theirs if name.startswith("vit.")}
    assert same & vit == vit - {"vit.head.weight", "vit.head.bias"}
    assert "cnn.0.weight" not in same
