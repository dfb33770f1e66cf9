"""Kernel limits that many machines on one host run into; raised when they must be."""

from __future__ import annotations

from pathlib import Path

INOTIFY_INSTANCES = "fs.inotify.max_user_instances"
_NEIGHBOURS = "net.ipv4.neigh.default.gc_thresh"
_NEIGHBOUR_LIMIT = 2**20

INSTANCES_PER_MACHINE = 6
"""Inotify instances that systemd and its services take in one machine, rounded up."""


def read(name: str) -> int:
    """A kernel parameter, by its dotted name; 0 when this kernel has none of that name."""
    path = _path(name)
    return int(path.read_text()) if path.exists() else 0


INSTANCES_PER_NODE = 32
"""The same for a machine that carries containers, beside what every machine takes."""


def raise_for(machines: int, nodes: int = 0) -> list[str]:
    """Raise what is too low for that many machines; returns what was raised, in words.

    `nodes` of them carry containers.

    They stay raised: lowering them again could stop what was started since.
    """
    # The kernel keeps one table of neighbours for all machines together.
    neighbours = min(machines * machines, _NEIGHBOUR_LIMIT)
    wanted = {
        INOTIFY_INSTANCES: (128 + machines * INSTANCES_PER_MACHINE + nodes * INSTANCES_PER_NODE),
        f"{_NEIGHBOURS}1": neighbours,
        f"{_NEIGHBOURS}2": neighbours * 2,
        f"{_NEIGHBOURS}3": neighbours * 4,
    }
    raised = []
    # The highest threshold first: the kernel wants them in order.
    for name, value in reversed(wanted.items()):
        now = read(name)
        if 0 < now < value:
            rounded = 1 << (value - 1).bit_length()
            _path(name).write_text(str(rounded))
            raised.append(f"{name} from {now} to {rounded}")
    return raised


def _path(name: str) -> Path:
    return Path("/proc/sys", name.replace(".", "/"))
