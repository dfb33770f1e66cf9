"""Programs that end when we do, however we end, and whose mounts end with them."""

from __future__ import annotations

from pathlib import Path

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


def dying_with_us(
    program: tuple[str, ...],
    limit: float,
    temporary: Path | None = None,
    *,
    user: tuple[int, int] | None = None,
) -> Command:
    """`program`, killed after `limit` seconds, and when the thread that starts it dies.

    `temporary` is where it puts its temporary files: what is killed leaves them there. `user` is
    the user and group that it runs as where we are root; ours when None.
    """
    environment = {} if temporary is None else {"TMPDIR": str(temporary)}
    other = () if user is None else (f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups")
    return Command((*_DIES_WITH_PARENT, *other, *program), timeout=limit, environment=environment)


def in_own_namespaces(
    program: tuple[str, ...], limit: float, temporary: Path | None = None
) -> Command:
    """The same in mount and process namespaces of its own: nothing of it outlives it."""
    return dying_with_us((*_NAMESPACES, *program), limit, temporary)
