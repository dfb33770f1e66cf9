"""A bridge of the user's own, which no deployment made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from continuum.machine import Command, run_on_host

BRIDGE = "br-users"


def ip(*arguments: str) -> str:
    return run_on_host(Command(("ip", *arguments))).check().text


def addresses() -> str:
    """This host's addresses on the bridge, one in each line."""
    return ip("-oneline", "-4", "address", "show", "dev", BRIDGE)


@contextmanager
def users_bridge(folder: Path) -> Iterator[None]:
    """The bridge, while it is needed; its label, the folder, tells other lanes whose it is."""
    ip("link", "add", BRIDGE, "type", "bridge")
    try:
        ip("link", "set", BRIDGE, "alias", str(folder), "up")
        yield
    finally:
        ip("link", "delete", BRIDGE)
