"""Facts of a host."""

from __future__ import annotations

import os
from pathlib import Path

from continuum.host_facts import host_facts

CPUINFO = """\
processor\t: 0
model name\t: A  Processor\t@ 3 GHz
processor\t: 1
model name\t: Another
"""


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_facts_are_read(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", CPUINFO)
    write(tmp_path, "proc/meminfo", "MemTotal:       24684084 kB\nMemFree: 1 kB\n")
    write(tmp_path, "proc/loadavg", "0.49 0.30 0.10 1/200 4711\n")
    write(tmp_path, "etc/os-release", 'ID=debian\nPRETTY_NAME="Debian 12"\n')
    write(tmp_path, "sys/fs/cgroup/cgroup.controllers", "cpu memory\n")
    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
    facts = host_facts(tmp_path)
    assert facts["cpu_model"] == "A Processor @ 3 GHz"
    assert facts["memory_bytes"] == 24684084 * 1024
    assert facts["load_1min"] == 0.49
    assert facts["os"] == "Debian 12"
    assert facts["cgroup_version"] == 2
    assert facts["governor"] == "performance"
    assert facts["kernel"] == os.uname().release


def test_cgroup_version_1_is_told_by_its_controllers(tmp_path: Path) -> None:
    (tmp_path / "sys/fs/cgroup/memory").mkdir(parents=True)
    assert host_facts(tmp_path)["cgroup_version"] == 1


def test_what_cannot_be_found_out_is_none(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemTotal: many kB\n")
    write(tmp_path, "proc/loadavg", "high\n")
    facts = host_facts(tmp_path)
    for name in ("cpu_model", "memory_bytes", "load_1min", "os", "cgroup_version", "governor"):
        assert facts[name] is None
    assert host_facts(tmp_path / "absent")["load_1min"] is None


def test_this_host_has_facts() -> None:
    facts = host_facts()
    cores = facts["cores"]
    assert isinstance(cores, int)
    assert cores >= 1
    assert isinstance(facts["memory_bytes"], int)
