"""The whole network through torch.compile and torch.export, in a process of its own: the types checked under test
would be traced along."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, torch
from genomic_vit.config_tree import from_tree
from genomic_vit.models.genomic_vit import build_model

torch.manual_seed(0)
way, attention = sys.argv[1:]
model = build_model(from_tree({
    "slab": {"tile_px": 16},
    "vit": {"patch_px": 4, "width": 16, "depth": 3, "heads": 2, "registers": 2},
    "rollout": {
        "attention": attention.removesuffix(" with discard"),
        "fusion": "max" if attention == "streamed" else "mean",
        "discard": 0.3 if attention.endswith("discard") else 0.0,
    },
}, "here")).eval()

def agree(batch, other):
    grid = torch.rand(batch, 1, 48, 48)
    with torch.no_grad():
        wanted, found = model(grid), other(grid)
    for name in ("logits", "vit_logits", "heat"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(found.attention, wanted.attention, strict=True):
        torch.testing.assert_close(ours.dense(), theirs.dense(), rtol=1e-5, atol=1e-6)

if way == "export":
    example = (torch.rand(3, 1, 48, 48),)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(model, example, dynamic_shapes={"grid": {0: batch}})
    other = program.module()
    for batch in (2, 5):
        agree(batch, other)
else:
    agree(3, torch.compile(model, backend=way, fullgraph=True))
print("agree")
"""


@pytest.mark.parametrize("attention", ["auto", "dense", "streamed", "auto with discard"])
@pytest.mark.parametrize("way", ["export", "aot_eager", pytest.param("inductor", marks=pytest.mark.long)])
def test_the_network_agrees_with_eager(way, attention):
    command = [sys.executable, "-c", PROGRAM, way, attention]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent, timeout=600)
    assert done.stdout.strip() == "agree", done.stderr[-3000:]
