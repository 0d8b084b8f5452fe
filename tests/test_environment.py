"""What is told of versions and machine, and when two records are said to differ."""

import os
from pathlib import Path

import pytest

from genomic_vit.training.environment import changes, cpu_model, environment, memory_bytes

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
model\t\t: 85
model name\t: Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz

processor\t: 1
model name\t: Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz
"""


def test_the_processor_is_named_where_the_system_tells_it(tmp_path):
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    assert cpu_model(tmp_path / "cpuinfo") == "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz"
    assert environment()["cpu"].endswith(f", {os.cpu_count()} logical cores")


@pytest.mark.parametrize("text", [None, "processor\t: 0\nCPU implementer\t: 0x41\n", "model name\t: \n"])
def test_where_it_does_not_python_names_it(text, tmp_path, monkeypatch):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert cpu_model(tmp_path / "cpuinfo") == "arm64"


def test_memory_is_that_of_the_machine(monkeypatch):
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        total = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemTotal:"))
        assert memory_bytes() == int(total.split()[1]) * 1024
        assert environment()["memory"] == f"{round(int(total.split()[1]) / 1024**2)} GiB"
    monkeypatch.delattr("os.sysconf")  # as on Windows
    assert memory_bytes() is None and "memory" not in environment()


def test_an_unchanged_machine_changes_nothing_and_a_record_of_before_is_no_change():
    now = environment()
    assert changes(environment(), now) == {}
    older = {name: told for name, told in now.items() if name not in ("cpu", "memory")}  # as runs once kept it
    assert changes(older | {"pretrained": {"sha256": "0"}}, now) == {}


def test_other_versions_and_processors_are_changes_and_memory_is_not():
    now = environment()
    then = now | {"torch": "1.0", "cpu": "abacus, 1 logical cores", "memory": "1 GiB"}
    assert changes(then, now) == {"torch": ("1.0", now["torch"]), "cpu": (then["cpu"], now["cpu"])}
