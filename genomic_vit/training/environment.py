"""Under which versions and on which machine something was made, and in what two such records differ."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = (
    *("genomic_vit", "torch", "lightning", "monai", "numpy", "SimpleITK", "nibabel"),
    *("scikit-learn", "scipy", "statsmodels", "pandas"),
)
NOT_COMPARED = ("memory",)  # no number depends on it, and what a system sees of it may change by a reboot
CPUINFO = Path("/proc/cpuinfo")


def environment() -> dict[str, str]:
    """Versions and machine, for the record: the whole machine, not the share of it that a process may use."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    told = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "cpu": f"{cpu_model(CPUINFO)}, {os.cpu_count()} logical cores",
        "vectors": torch.backends.cpu.get_cpu_capability(),  # of the kernels that torch chose among for this processor
    }
    if (size := memory_bytes()) is not None:
        told["memory"] = f"{size / 2**30:.0f} GiB"
    return told | {name: version(name) for name in PACKAGES}


def cpu_model(cpuinfo: Path) -> str:
    """The processor's name in a file like Linux's /proc/cpuinfo; where none is there, what Python calls it."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, names), "") or platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """Main memory of the machine; None where the system does not tell it (Windows)."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def changes(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """(then, now) of all that differs and may change a number's last bits, by name; what `then` lacks is not known."""
    return {
        name: (then[name], now[name])
        for name in now
        if name in then and name not in NOT_COMPARED and then[name] != now[name]
    }
