"""A way out to other networks, for deployments that ask for one."""

from __future__ import annotations

from pathlib import Path

from continuum import folders
from continuum.infrastructure.host.addresses import name_servers

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")

_RESOLVERS = (
    Path("/etc/resolv.conf"),
    # What systemd-resolved itself asks; /etc/resolv.conf then names only this host.
    Path("/run/systemd/resolve/resolv.conf"),
    Path("/run/NetworkManager/no-stub-resolv.conf"),
)


def switch_on(mark: Path, switch: Path = _FORWARD) -> bool:
    """Let the host forward packets; True when it did not before, which the file `mark` tells."""
    if switch.read_text().strip() == "1":
        return False
    folders.make_open_folder(mark.parent)
    mark.touch()
    switch.write_text("1")
    return True


def switch_off(mark: Path, switch: Path = _FORWARD) -> bool:
    """Stop forwarding if it was switched on here; call it when nobody needs it any more."""
    if not mark.exists():
        return False
    switch.write_text("0")
    mark.unlink()
    return True


def resolver(files: tuple[Path, ...] = _RESOLVERS) -> str:
    """A resolver's configuration that works from inside a machine; empty when there is none."""
    for path in files:
        usable = [server for server in name_servers(path) if not server.startswith(("127.", "::"))]
        if usable:
            return "".join(f"nameserver {server}\n" for server in usable)
    return ""
