"""The phantom's known answer: found where it is planted, not found where it is not. Minutes each."""

import json

import pytest

from genomic_vit.train import main as train

pytestmark = pytest.mark.long


@pytest.mark.parametrize("mode", ["joint", "staged"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("signal", [1.0, 0.0])
def test_the_phantoms_signal_is_found_when_it_is_there(signal, seed, mode, tmp_path_factory, record_property):
    cache = tmp_path_factory.getbasetemp() / "cache"
    out = tmp_path_factory.mktemp("run") / "run"
    given = ["--phantom.signal", str(signal), "--phantom.seed", str(seed), "--seed", str(seed), "--cache", str(cache)]
    assert train(["--mode", mode, "--out", str(out), *given]) == 0
    auc = json.loads((out / "metrics.json").read_text())["mutant"]["by_case"]["auc"]
    print(f"signal {signal} seed {seed} {mode}: AUC {auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})")
    if signal:
        assert auc["value"] >= 0.85
    else:
        assert auc["low"] <= 0.5 <= auc["high"]
