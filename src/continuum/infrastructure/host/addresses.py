"""Blocks of IPv4 addresses that this host uses already."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from continuum.errors import StepFailed
from continuum.machine import Command, run_on_host

_CARRY_NOTHING = frozenset(
    {"broadcast", "multicast", "unreachable", "blackhole", "prohibit", "throw"}
)
"""Types of routes that are no network behind: with most of them administrators keep packets for
private ranges from leaving, and a deployment's own block is nearer than they are."""

RESOLVER = Path("/etc/resolv.conf")


def blocks_in_use() -> list[str]:
    """Every block that a route of any table leads to, an interface is in, or a resolver is in."""
    return sorted((block for block in users() if _length(block)), key=ipaddress.IPv4Network)


def users() -> dict[str, str]:
    """User of each block, as `route through vpn0`."""
    return {
        **{str(server): "a name server of this host" for server in _resolvers()},
        **of_routes(_shown("-4", "route", "show", "table", "all")),
        **of_interfaces(_shown("-4", "address", "show")),
    }


def _length(block: str) -> int:
    return ipaddress.IPv4Network(block).prefixlen


def _shown(*arguments: str) -> list[dict[str, Any]]:
    shown = run_on_host(Command(("ip", "-json", *arguments))).check()
    return [each for each in json.loads(shown.text or "[]") if each]


def of_routes(routes: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Blocks of the routes that carry something, and where each leads; pure."""
    found = {}
    for route in routes:
        target = route.get("dst", "default")
        if target == "default" or route.get("type") in _CARRY_NOTHING or _is_dead(route):
            continue
        ways = [route, *route.get("nexthops", [])]
        devices = dict.fromkeys(way["dev"] for way in ways if way.get("dev"))
        through = " and ".join(devices) or "another host"
        found[str(ipaddress.IPv4Network(target))] = f"route through {through}"
    return found


def _is_dead(route: dict[str, Any]) -> bool:
    """Tell whether the kernel passes a route over, as its interface is down.

    One of an interface without a carrier (`linkdown`) may come to life at any time.
    """
    return "dead" in route.get("flags", [])


def of_interfaces(interfaces: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Blocks that interfaces are in, and their names; pure."""
    return {
        str(
            ipaddress.IPv4Network(f"{address['local']}/{address['prefixlen']}", strict=False)
        ): f"interface {interface.get('ifname', '?')}"
        for interface in interfaces
        for address in interface.get("addr_info", [])
    }


def _resolvers() -> list[ipaddress.IPv4Network]:
    found = []
    for server in name_servers(RESOLVER):
        try:
            found.append(ipaddress.IPv4Network(server))
        except ValueError:
            continue
    return found


def name_servers(path: Path) -> list[str]:
    """Addresses of the name servers in a resolver's configuration."""
    return [words[1] for words in _words(path) if words[0] == "nameserver"]


def search_domains(path: Path) -> list[str]:
    """Domains in which a resolver looks for short names: those of the last line that names any."""
    named = [words[1:] for words in _words(path) if words[0] in {"search", "domain"}]
    return [each for each in named[-1] if each != "."] if named else []


def _words(path: Path) -> list[list[str]]:
    """Keyword and values of each line; none where there is no file."""
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            return []
        raise StepFailed(f"cannot read {path}: {error.strerror}", where=str(path)) from error
    return [words for line in text.splitlines() if len(words := line.split()) > 1]
