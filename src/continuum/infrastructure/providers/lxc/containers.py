"""Containers of LXC on this host: which run, starting them, ending them.

What runs is read from the titles of LXC's monitor processes, `[lxc monitor] PATH NAME`: they are
the label that outlives every file of ours. Anybody can give a process a title, and nobody but root
a place in a deployment's control group: it must have both.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from continuum import state_file
from continuum.errors import CommandFailed, StepFailed
from continuum.infrastructure.host import cgroups, processes
from continuum.infrastructure.host.console import last_lines
from continuum.infrastructure.providers.lxc import isolation
from continuum.infrastructure.providers.lxc.config import (
    SPEC_MARK,
    Container,
    Ground,
    group,
    machine_group,
)
from continuum.machine import Command, run_on_host

_TITLE = re.compile(rb"\[lxc monitor\] (.+) (\S+?)\0*")
_OURS = re.compile(r"ctm-([0-9a-f]{8})-(.+)")
_PROCESSES = Path("/proc")
_INTERFACES = Path("/sys/class/net")
_END_LIMIT = 15.0


@dataclass(frozen=True)
class Running:
    """A container that runs. `init` is None while it starts or ends."""

    lxc_path: Path
    name: str
    monitor: int
    init: int | None


def running(lxc_path: Path | None = None) -> list[Running]:
    """Every container of this host that runs, or those under one of LXC's paths."""
    found = []
    for entry in os.scandir(_PROCESSES):
        if not entry.name.isdigit():
            continue
        try:
            title = Path(entry.path, "cmdline").read_bytes()
        except OSError:
            continue
        match = _TITLE.fullmatch(title) if title.startswith(b"[lxc") else None
        if match is None:
            continue
        path, name = Path(os.fsdecode(match[1])), os.fsdecode(match[2])
        monitor = int(entry.name)
        if lxc_path in (None, path) and _is_monitor(monitor, name):
            found.append(Running(path, name, monitor, _init_of(monitor)))
    return found


def _is_monitor(process: int, name: str) -> bool:
    """Tell whether a process with such a title is what it says: root's, and where LXC put it."""
    ours = _OURS.fullmatch(name)
    if ours is None:
        return processes.may_be_ours(process)
    place, machine = f"/{group(ours[1])}/", f"/{machine_group(ours[1], ours[2])}"
    return processes.may_be_ours(process) and any(
        place in each and machine not in each for each in processes.groups(process)
    )


def _init_of(monitor: int) -> int | None:
    """The process that is number 1 in the container."""
    try:
        children = Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
    except OSError:
        return None
    for child in children:
        try:
            status = Path(f"/proc/{child}/status").read_text()
        except OSError:
            continue
        numbers = re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE)
        if numbers and numbers[1].split()[-1] == "1" and len(numbers[1].split()) > 1:
            return int(child)
    return None


def made_of(container_folder: Path) -> str | None:
    """The specification's fingerprint in a container's configuration; None without one."""
    text = state_file.undamaged(state_file.read_text(container_folder / "config"))
    first = (text or "").partition("\n")[0]
    return first.removeprefix(SPEC_MARK) if first.startswith(SPEC_MARK) else None


def is_mapped(container_folder: Path) -> bool | None:
    """Tell whether a container is configured to be in a user namespace; None without a configuration."""
    text = state_file.undamaged(state_file.read_text(container_folder / "config"))
    return None if text is None else "\nlxc.idmap = " in text


def start(container: Container, ground: Ground) -> None:
    """Start a container that is configured. Returns when its first process runs.

    Raises:
        StepFailed: LXC could not start it; with what LXC logged.
    """
    log = container.folder / "lxc.log"
    log.unlink(missing_ok=True)
    container.console.unlink(missing_ok=True)
    arguments: tuple[str, ...] = (
        shutil.which("lxc-start") or "lxc-start",
        "--daemon",
        f"--lxcpath={container.folder.parent}",
        f"--name={container.name}",
        f"--logfile={log}",
        "--logpriority=ERROR",
    )
    if ground.first_id is not None:
        arguments = isolation.mapped(
            ground.first_id, container.folder, container.hook, ground.layers, arguments
        )
    try:
        run_on_host(Command(arguments, timeout=60)).check()
    except CommandFailed as error:
        raise StepFailed(
            f"machine {container.machine} could not be started",
            where=f"container {container.name}",
            output=last_lines(log) or error.output or error.message,
            hint="continuum doctor",
        ) from error


def end_what_is_left(containers: Iterable[Container], interfaces: Iterable[str]) -> None:
    """End what runs of containers whose monitors were killed: they could not be started again.

    Args:
        containers: that have no monitor.
        interfaces: the host's ends of their networks, which go a little later than the processes.

    Raises:
        StepFailed: something of them does not end within some seconds.
    """
    groups = cgroups.detect()
    for each in containers:
        for left in cgroups.folders_of(groups, f"{group(each.identity)}/{each.machine}"):
            cgroups.remove(left)
    deadline = time.monotonic() + _END_LIMIT
    for name in interfaces:
        while (_INTERFACES / name).exists():
            if time.monotonic() > deadline:
                raise StepFailed(
                    "the network of a machine that has ended stays",
                    where=f"interface {name}",
                    hint=f"ip link delete {name}",
                )
            time.sleep(0.02)


def end(found: Iterable[Running]) -> None:
    """Kill containers and wait until LXC has cleaned up after them.

    Raises:
        StepFailed: one cannot be killed within some seconds.
    """
    monitors: dict[int, Running] = {}
    for each in found:
        handle = _open(each.monitor)
        if handle is not None:
            monitors[handle] = each
    try:
        for each in monitors.values():
            # Asked again: what was its first process may have ended, and its number be another's.
            init = _init_of(each.monitor)
            if init is not None:
                _kill(init)
        left = _wait(set(monitors), _END_LIMIT)
        for handle in left:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        if _wait(left, 5.0):
            names = ", ".join(monitors[handle].name for handle in left)
            raise StepFailed(f"containers that cannot be killed: {names}", where="LXC's monitors")
    finally:
        for handle in monitors:
            os.close(handle)


def _wait(handles: set[int], limit: float) -> set[int]:
    """Wait until the processes have ended; those that have not."""
    deadline = time.monotonic() + limit
    left = set(handles)
    poller = select.poll()
    for handle in left:
        poller.register(handle, select.POLLIN)
    while left and (remaining := deadline - time.monotonic()) > 0:
        for handle, _ in poller.poll(remaining * 1000):
            poller.unregister(handle)
            left.discard(handle)
    return left


def _open(process: int) -> int | None:
    try:
        return os.pidfd_open(process)
    except ProcessLookupError:
        return None


def _kill(process: int) -> None:
    handle = _open(process)
    if handle is None:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def put_file(folder: Path, path: str, content: bytes, mode: int) -> None:
    """Write a file of root's under a folder that a machine may have written to.

    Where the machine has put a symbolic link into the way, it is replaced: it could lead out of
    the machine. The machine must not run.
    """
    *parents, name = path.split("/")
    place = folder
    for parent in parents:
        place /= parent
        if place.is_symlink() or (os.path.lexists(place) and not place.is_dir()):
            place.unlink()
        if not place.exists():
            place.mkdir()
            # Whatever our umask is, the machine's own users must get through.
            place.chmod(0o700 if parent in ("root", ".ssh") else 0o755)
    temporary = place / f".{name}.new"
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
    temporary.replace(place / name)


def read_file(folder: Path, path: str) -> bytes | None:
    """A small file that a machine may have written; None when it is no plain file."""
    try:
        descriptor = os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(2**20)
