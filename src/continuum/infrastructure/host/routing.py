"""A way out to other networks, for deployments that ask for one."""

from __future__ import annotations

from pathlib import Path

from continuum.infrastructure.host.addresses import name_servers

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")

_RESOLVERS = (
    Path("/etc/resolv.conf"),
    # What systemd-resolved itself asks; /etc/resolv.conf then names only this host.
    Path("/run/systemd/resolve/resolv.conf"),
    Path("/run/NetworkManager/no-stub-resolv.conf"),
)


def switch_on() -> bool:
    """Let the host forward packets; True when it did not before."""
    if _FORWARD.read_text().strip() == "1":
        return False
    _FORWARD.write_text("1")
    return True


def switch_off() -> None:
    """Stop forwarding: only after `switch_on` returned True, when nobody needs it any more."""
    _FORWARD.write_text("0")


def resolver(files: tuple[Path, ...] = _RESOLVERS) -> str:
    """A resolver's configuration that works from inside a machine; empty when there is none."""
    for path in files:
        usable = [server for server in name_servers(path) if not server.startswith(("127.", "::"))]
        if usable:
            return "".join(f"nameserver {server}\n" for server in usable)
    return ""
