"""Facts of this host that a run's figures depend on, from /proc and /sys; nothing is started."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def host_facts(root: Path = Path("/")) -> dict[str, str | int | float | None]:
    """Processor, cores, memory, kernel, cgroups and operating system.

    A fact that cannot be found out is None. `root` is where `/proc`, `/sys` and `/etc` lie.

    Returns:
        cpu_model; cores (that this process may use); cores_of_host; memory_bytes; kernel;
        architecture; os; cgroup_version (1 or 2: what carries the controllers); load_1min (when
        called); governor (of the first core's frequency).
    """
    return {
        "cpu_model": _field(root / "proc/cpuinfo", ("model name", "Model", "cpu model")),
        "cores": len(os.sched_getaffinity(0)),
        "cores_of_host": os.cpu_count(),
        "memory_bytes": _memory(root / "proc/meminfo"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "os": _os_name(root / "etc/os-release"),
        "cgroup_version": _cgroup_version(root / "sys/fs/cgroup"),
        "load_1min": _load(root / "proc/loadavg"),
        "governor": _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    }


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _field(path: Path, names: tuple[str, ...]) -> str | None:
    for line in (_text(path) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names and value.strip():
            return " ".join(value.split())
    return None


def _memory(path: Path) -> int | None:
    value = _field(path, ("MemTotal",))
    number = value.split()[0] if value else ""
    return int(number) * 1024 if number.isdecimal() else None


def _os_name(path: Path) -> str | None:
    for line in (_text(path) or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip("\"'")
    return None


def _cgroup_version(path: Path) -> int | None:
    if (path / "cgroup.controllers").exists():
        return 2
    return 1 if (path / "cpu").exists() or (path / "memory").exists() else None


def _load(path: Path) -> float | None:
    words = (_text(path) or "").split()
    try:
        return float(words[0]) if words else None
    except ValueError:
        return None
