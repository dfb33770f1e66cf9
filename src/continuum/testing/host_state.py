"""What of a host Continuum could leave behind: compared before and after by tests."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from continuum.infrastructure.host import cgroups
from continuum.machine import Command, run_on_host

State = Mapping[str, frozenset[str]]

WORKER = "PYTEST_XDIST_WORKER"
"""The variable that names one of pytest's workers, in all that it has started."""

_GROUP = re.compile(r"continuum-[0-9a-f]{8}")
_WORDS = ("continuum", "lxc", "ctm-")
_TEMPORARY = ("ansible", "continuum", "mmdebstrap", "pip-")
_MAY_END = ("processes", "network namespaces", "temporary files")
"""What others on the host end by themselves: only what is new counts."""


def snapshot() -> State:
    """Interfaces, mounts, firewall rules, control groups, processes, namespaces, and temporary files."""
    return {
        "interfaces": frozenset(_interfaces()),
        "mounts": frozenset(_mounts()),
        "rules": frozenset(_rules()),
        "control groups": frozenset(_groups()),
        "processes": frozenset(_processes()),
        "network namespaces": frozenset(_namespaces()),
        "temporary files": frozenset(_temporary_files()),
        "forwarding": frozenset({Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()}),
    }


def difference(before: State, after: State) -> dict[str, dict[str, list[str]]]:
    """What was added and what is gone, by kind; empty when the host is as it was."""
    found: dict[str, dict[str, list[str]]] = {}
    for kind, now in after.items():
        added = sorted(now - before[kind])
        gone = [] if kind in _MAY_END else sorted(before[kind] - now)
        if added or gone:
            found[kind] = {"added": added, "gone": gone}
    return found


def ancestors(process: int) -> Iterator[int]:
    """A process, its parent and so on, as far as they are still there."""
    while process > 0:
        yield process
        try:
            status = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            return
        process = int(status.rpartition(")")[2].split()[1])


def _interfaces() -> Iterator[str]:
    shown = run_on_host(Command(("ip", "-json", "-details", "link", "show"))).check()
    interfaces: list[dict[str, Any]] = json.loads(shown.text or "[]")
    for each in interfaces:
        kind = each.get("linkinfo", {}).get("info_kind", "")
        alias = Path("/sys/class/net", each["ifname"], "ifalias")
        label = alias.read_text().strip() if alias.exists() else ""
        yield f"{each['ifname']} {kind} {each.get('master', '')} {label}".strip()


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        yield f"{before.split(' ')[4]} {after.split(' ')[0]}"


def _rules() -> Iterator[str]:
    for table in ("filter", "nat", "mangle", "raw"):
        result = run_on_host(Command(("iptables-save", "-t", table)))
        for line in result.text.splitlines():
            if line.startswith("-A ") or (line.startswith(":") and " - " in line):
                yield f"{table} {line.partition(' [')[0]}"


def _temporary_files() -> Iterator[str]:
    """What programs that we start leave there when they are killed."""
    for entry in Path(tempfile.gettempdir()).iterdir():
        if entry.name.lstrip(".").startswith(_TEMPORARY):
            yield str(entry)


def _groups() -> Iterator[str]:
    for hierarchy in cgroups.detect().hierarchies:
        for path, _, _ in os.walk(hierarchy):
            if any(word in path for word in _WORDS):
                yield path


def _processes() -> Iterator[str]:
    mine = set(ancestors(os.getpid()))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in mine:
            continue
        try:
            title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if any(word in title for word in _WORDS):
            yield f"{entry.name} {title.strip()}{_owner(entry)}"


def _owner(process: Path) -> str:
    """Whose a process is, as far as can be seen: a deployment's, or that of a worker of pytest."""
    try:
        group = _GROUP.search((process / "cgroup").read_text())
        if group is not None:
            return f" of {group[0]}"
        variables = (process / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return next(
        (f" of {each.partition('=')[2]}" for each in variables if each.startswith(f"{WORKER}=")), ""
    )


def _namespaces() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield f"{(entry / 'ns' / 'net').readlink()}{_owner(entry)}"
            except OSError:
                continue
    named = Path("/run/netns")
    if named.is_dir():
        yield from (f"named {entry.name}" for entry in named.iterdir())
