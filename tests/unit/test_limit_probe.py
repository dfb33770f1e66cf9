"""The program that measures the limits of the machine that it runs in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from continuum_runtime import limit_probe
from continuum_runtime.limit_probe import steady_rate

RATE = 20e6
SIZE = 98_304


Limiter = Callable[[float, int, float], float]
"""When a transfer may end, by when it began, how many there were, and how long it takes at least."""


def in_slices(began: float, number: int, takes: float) -> float:
    """Each tenth of a second has its bytes at once, as the kernel does it."""
    return max(began + takes, int(number * SIZE / (RATE / 10)) / 10)


def leaking(began: float, number: int, takes: float) -> float:
    """A tenth of a second may be saved, as QEMU does it."""
    return max(began + takes, (number + 1) * SIZE / RATE - 0.1)


def unlimited(began: float, number: int, takes: float) -> float:
    del number
    return began + takes


def transferred(limiter: Limiter, speed: float, *, hiccup: float = 0.0) -> tuple[float, float]:
    """Measured rate and seconds of transfers over a disk of that speed, in bytes per second.

    `hiccup` stops all of them for so long, a quarter of a second after the first.
    """
    times, begin = [0.0], None
    while not limit_probe.is_enough(times, begin, SIZE, RATE, 0.35):
        before = times[-1]
        times.append(limiter(before, len(times) - 1, SIZE / speed))
        if before <= 0.25 < times[-1]:
            times[-1] += hiccup
        if begin is None and limit_probe.is_used_up(times, SIZE, RATE):
            begin = len(times) - 1
    return steady_rate(times[begin or 0 :], SIZE), times[-1]


@pytest.mark.parametrize("limiter", [in_slices, leaking])
@pytest.mark.parametrize("speed", [1.1, 1.2, 1.5, 3, 10, 100])
def test_what_goes_through_at_once_is_no_part_of_the_rate(limiter: Limiter, speed: float) -> None:
    rate, seconds = transferred(limiter, speed * RATE)
    assert rate == pytest.approx(RATE, rel=0.02)
    assert seconds < 3


@pytest.mark.parametrize("limiter", [in_slices, leaking])
def test_a_host_that_stops_for_a_moment_makes_no_rate_too_high(limiter: Limiter) -> None:
    rate, _ = transferred(limiter, 20 * RATE, hiccup=0.03)
    assert 0.85 * RATE < rate < 1.02 * RATE


@pytest.mark.parametrize("speed", [1.1, 1.5, 40])
def test_what_nothing_holds_up_is_as_fast_as_it_is(speed: float) -> None:
    rate, seconds = transferred(unlimited, speed * RATE)
    assert rate == pytest.approx(speed * RATE, rel=0.02)
    assert seconds < 2


@pytest.mark.parametrize("limiter", [in_slices, leaking, unlimited])
def test_a_disk_that_is_slower_than_its_limit(limiter: Limiter) -> None:
    rate, seconds = transferred(limiter, 0.6 * RATE)
    assert rate == pytest.approx(0.6 * RATE, rel=0.02)
    assert seconds < 0.5


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the control groups, and of what the kernel tells."""
    monkeypatch.setattr(limit_probe, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(limit_probe, "PROC", tmp_path / "proc")
    return tmp_path / "cgroup"


def test_memory_of_control_groups_of_version_1(groups: Path) -> None:
    write(groups.parent / "proc/self/cgroup", "5:memory:/system.slice/a.service\n0::/x\n")
    for folder, limit, above in (
        ("", 9223372036854771712, 2**28),
        ("system.slice", 9223372036854771712, 2**28),
        ("system.slice/a.service", 2**29, 2**28),
    ):
        write(groups / "memory" / folder / "memory.limit_in_bytes", f"{limit}\n")
        stat = f"cache 0\nhierarchical_memory_limit {above}\n"
        write(groups / "memory" / folder / "memory.stat", stat)
    assert limit_probe.limit_in_force() == 2**28


def test_memory_of_control_groups_of_version_2(groups: Path) -> None:
    write(groups.parent / "proc/self/cgroup", "0::/system.slice/a.service\n")
    write(groups / "memory.max", f"{2**28}\n")
    write(groups / "system.slice/memory.max", "max\n")
    write(groups / "system.slice/a.service/memory.max", f"{2**29}\n")
    assert limit_probe.limit_in_force() == 2**28
    write(groups / "memory.max", "max\n")
    write(groups / "system.slice/a.service/memory.max", "max\n")
    assert limit_probe.limit_in_force() is None


def test_cores_that_there_are_not_need_no_measurement() -> None:
    assert limit_probe.cores(1e6, 10.0, own_kernel=False) is None
    answer = limit_probe.run({"cores": {"asked": 1e6, "seconds": 10.0, "own_kernel": True}})
    assert answer == {"available": limit_probe.available(), "failed": {}}


def test_what_cannot_be_measured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_probe, "FILE", Path("/nonexistent/file"))
    answer = limit_probe.run({"disk_write": {"rate": 1e6, "seconds": 0.1}})
    assert "disk_write" not in answer
    assert answer["failed"]["disk_write"].startswith("FileNotFoundError")


def test_the_program_measures_what_the_task_names() -> None:
    task: dict[str, Any] = {
        "cores": {"asked": 0.5, "seconds": 0.05, "own_kernel": True},
        "memory": {"own_kernel": True},
    }
    command = [sys.executable, "-m", "continuum_runtime.limit_probe"]
    ended = subprocess.run(
        command, input=json.dumps(task), capture_output=True, text=True, timeout=60, check=True
    )
    answer = json.loads(ended.stdout)
    assert answer["failed"] == {}
    assert 0 < answer["cores"]["used"] <= answer["available"]
    assert answer["cores"]["spare"] >= 0
    assert answer["memory"]["bytes"] > 2**20
