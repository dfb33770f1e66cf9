"""A way out to other networks, for deployments that ask for one."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

from continuum import folders
from continuum.infrastructure.host.addresses import name_servers, search_domains
from continuum.machine import Command, run_on_host

_SERVERS = 3

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
    """A resolver's configuration that works from inside a machine; empty when there is none.

    Machines have no IPv6, and the C library asks three name servers at most.
    """
    for path in files:
        usable = [server for server in name_servers(path) if _is_usable(server)][:_SERVERS]
        if usable:
            domains = search_domains(path)
            search = f"search {' '.join(domains)}\n" if domains else ""
            return search + "".join(f"nameserver {server}\n" for server in usable)
    return ""


def _is_usable(server: str) -> bool:
    """Tell whether a machine can reach a name server: IPv4, and not of this host alone."""
    try:
        address = ipaddress.IPv4Address(server)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_link_local)


def obstacles(files: tuple[Path, ...] = _RESOLVERS) -> list[str]:
    """Obstacles between machines and other networks or from names there, one sentence each."""
    found = []
    shown = run_on_host(Command(("ip", "-json", "-4", "route", "show", "default"))).check()
    if not any(json.loads(shown.text or "[]")):
        found.append(
            "machines will reach no other network: this host has no default route for IPv4, the only "
            "protocol that machines have"
        )
    if not resolver(files):
        servers = dict.fromkeys(server for path in files for server in name_servers(path))
        reason = (
            f"this host's name servers ({', '.join(servers)}) cannot be reached from them"
            if servers
            else f"{files[0]} names no name server"
        )
        found.append(
            f"machines will resolve no names of other networks: {reason}; name one with an IPv4 "
            f"address of its network in {files[0]}"
        )
    return found
