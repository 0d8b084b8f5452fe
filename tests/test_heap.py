"""Freed memory stays with a process that asks for it."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from genomic_vit.config_tree import from_tree
from genomic_vit.data.prepare import Cases
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.training import fit as fitting
from genomic_vit.training.heap import keep_freed_memory

FREED = """
import sys, torch
from pathlib import Path
from genomic_vit.training.heap import keep_freed_memory

def held_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

if sys.argv[1] == "kept":
    assert keep_freed_memory()
before = held_mb()
large = torch.ones(100 * 2**18)  # 100 MiB
del large
print(held_mb() - before)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="needs glibc")
@pytest.mark.parametrize(("how", "least_mb", "most_mb"), [("kept", 95, 120), ("as it is", -5, 20)])
def test_memory_freed_stays_where_it_is_asked_for(how, least_mb, most_mb):
    """In a process of its own: it cannot be taken back."""
    told = subprocess.run([sys.executable, "-c", FREED, how], capture_output=True, text=True, check=True)
    assert least_mb <= float(told.stdout) <= most_mb


def test_another_c_library_is_left_as_it_is(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert not keep_freed_memory()


@pytest.mark.parametrize(("device", "asked"), [("cpu", 1), ("cuda", 0)])
def test_training_on_a_cpu_asks_for_it(device, asked, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(fitting, "keep_freed_memory", lambda: calls.append(1))
    monkeypatch.setattr(fitting, "best_device", torch.device)
    config = from_tree({"device": device}, "here")
    fitting.fit(build_model(config), *[Cases((), np.empty((0, 1)), ())] * 2, config, tmp_path, stages=())
    assert len(calls) == asked
