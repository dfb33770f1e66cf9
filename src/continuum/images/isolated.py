"""Programs that end when we do, however we end, and whose mounts end with them."""

from __future__ import annotations

from continuum.machine import Command

_DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
_NAMESPACES = (
    "unshare",
    "--mount",
    "--propagation=private",
    "--pid",
    "--fork",
    "--kill-child=KILL",
    "--mount-proc",
)


def dying_with_us(program: tuple[str, ...], limit: float) -> Command:
    """`program`, killed after `limit` seconds, and when the thread that starts it dies."""
    return Command((*_DIES_WITH_PARENT, *program), timeout=limit)


def in_own_namespaces(program: tuple[str, ...], limit: float) -> Command:
    """The same in mount and process namespaces of its own: nothing of it outlives it."""
    return dying_with_us((*_NAMESPACES, *program), limit)
