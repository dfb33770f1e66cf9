"""Blocks of IPv4 addresses that this host uses already."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

from continuum.errors import StepFailed
from continuum.machine import Command, run_on_host

RESOLVER = Path("/etc/resolv.conf")


def blocks_in_use() -> list[str]:
    """Every block that a route of any table leads to, an interface is in, or a resolver is in."""
    return sorted(
        {str(block) for block in (*_routes(), *_interfaces(), *_resolvers()) if block.prefixlen},
        key=ipaddress.IPv4Network,
    )


def _routes() -> list[ipaddress.IPv4Network]:
    shown = run_on_host(Command(("ip", "-json", "-4", "route", "show", "table", "all"))).check()
    routes: list[dict[str, Any]] = json.loads(shown.text or "[]")
    return [
        ipaddress.IPv4Network(route["dst"])
        for route in routes
        if route.get("dst", "default") != "default"
        and route.get("type") not in ("broadcast", "multicast")
    ]


def _interfaces() -> list[ipaddress.IPv4Network]:
    shown = run_on_host(Command(("ip", "-json", "-4", "address", "show"))).check()
    interfaces: list[dict[str, Any]] = json.loads(shown.text or "[]")
    return [
        ipaddress.IPv4Network(f"{address['local']}/{address['prefixlen']}", strict=False)
        for interface in interfaces
        for address in interface.get("addr_info", [])
    ]


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
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            return []
        raise StepFailed(f"cannot read {path}: {error.strerror}", where=str(path)) from error
    lines = (line.split() for line in text.splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
