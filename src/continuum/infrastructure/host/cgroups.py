"""Control groups as this host has them: version 1, version 2, or both side by side."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from continuum.errors import StepFailed

MOUNTS = Path("/proc/self/mountinfo")
CONTROLLERS = ("cpu", "cpuset", "memory", "io", "pids", "devices")


@dataclass(frozen=True)
class ControlGroups:
    """What the host can limit.

    Attributes:
        versions: 1 or 2 for each controller of `CONTROLLERS` that there is. Version 1's `blkio`
            is called `io` here.
        hierarchies: where each hierarchy is mounted.
        folders: the one of them that each controller is in.
        swap_limit: whether memory and swap together can be limited.
    """

    versions: Mapping[str, int] = field(default_factory=dict)
    hierarchies: tuple[Path, ...] = ()
    folders: Mapping[str, Path] = field(default_factory=dict)
    swap_limit: bool = False


def detect(mounts: Path = MOUNTS) -> ControlGroups:
    """What this host has, read from its mounts."""
    versions: dict[str, int] = {}
    hierarchies: list[Path] = []
    folders: dict[str, Path] = {}
    for line in mounts.read_text(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ")[:3]
        if kind not in ("cgroup", "cgroup2"):
            continue
        point = Path(before.split(" ")[4])
        hierarchies.append(point)
        if kind == "cgroup":
            for option in options.split(","):
                name = "io" if option == "blkio" else option
                if name in CONTROLLERS:
                    versions[name] = 1
                    folders[name] = point
        else:
            listed = (point / "cgroup.controllers").read_text().split()
            # Version 2 limits devices by programs, not by a controller.
            for name in (*listed, "devices"):
                if name in CONTROLLERS:
                    versions.setdefault(name, 2)
                    folders.setdefault(name, point)
    swap_limit = _swap_limit(versions, hierarchies)
    return ControlGroups(versions, tuple(hierarchies), folders, swap_limit)


def _swap_limit(versions: Mapping[str, int], hierarchies: list[Path]) -> bool:
    version = versions.get("memory")
    if version is None:
        return False
    pattern = "memory.memsw.limit_in_bytes" if version == 1 else "*/memory.swap.max"
    return any(next(point.glob(pattern), None) is not None for point in hierarchies)


def folders_of(groups: ControlGroups, name: str) -> list[Path]:
    """The group of that name in each hierarchy that has it."""
    return [point / name for point in groups.hierarchies if (point / name).is_dir()]


def groups_of(process: int, groups: ControlGroups) -> list[Path]:
    """The groups of a process's threads, in every hierarchy; none for those in the topmost group."""
    found: dict[Path, None] = {}
    for listed in Path(f"/proc/{process}/task").glob("*/cgroup"):
        try:
            lines = listed.read_text().splitlines()
        except OSError:
            continue
        for name in dict.fromkeys(line.split(":", 2)[2].lstrip("/") for line in lines):
            found.update(dict.fromkeys(folders_of(groups, name) if name else ()))
    return list(found)


def processes_in(folder: Path) -> set[int]:
    """Processes in a group and in all groups below it."""
    found: set[int] = set()
    for inner in _inside_out(folder):
        try:
            found.update(int(line) for line in (inner / "cgroup.procs").read_text().split())
        except OSError:
            continue
    return found


def remove(folder: Path, *, limit: float = 10.0) -> None:
    """Kill what is in a group and below, and remove it.

    Raises:
        StepFailed: something in it cannot be killed within the limit, in seconds.
    """
    deadline = time.monotonic() + limit
    while folder.is_dir():
        for process in processes_in(folder) - {os.getpid()}:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        blocked = ""
        for inner in _inside_out(folder):
            try:
                inner.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                blocked = f"{inner}: {error.strerror}"
        if not blocked:
            return
        if time.monotonic() > deadline:
            raise StepFailed(
                "a control group of ours cannot be removed",
                where=blocked,
                output=f"processes: {sorted(processes_in(folder))}",
            )
        time.sleep(0.02)


def _inside_out(folder: Path) -> Iterator[Path]:
    for path, _, _ in os.walk(folder, topdown=False):
        yield Path(path)
