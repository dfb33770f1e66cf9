"""Programs that end when we do, however we end, and whose mounts end with them."""

from __future__ import annotations

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


def dying_with_us(program: tuple[str, ...], limit: float) -> tuple[str, ...]:
    """`program`, killed after `limit` seconds and when the thread that starts it dies."""
    bounded = ("timeout", "--signal=KILL", f"{limit:g}", *_DIES_WITH_PARENT, *program)
    return (*_DIES_WITH_PARENT, *bounded)


def arguments(program: tuple[str, ...], limit: float) -> tuple[str, ...]:
    """The same in mount and process namespaces of its own: nothing of it outlives it."""
    return dying_with_us((*_NAMESPACES, *program), limit)
