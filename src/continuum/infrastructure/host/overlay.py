"""What joins the bridges of several hosts to one network: a VXLAN interface, as a port of the bridge.

Each host knows the others by their addresses: what has no known place goes to all of them
(head-end replication), so no multicast is needed. Known by its alias, as the bridge is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from continuum.deployment import Deployment
from continuum.errors import StepFailed
from continuum.infrastructure.host import bridge
from continuum.infrastructure.plan import InfrastructurePlan
from continuum.machine import Command, run_on_host

HEADERS = 50
"""Bytes that VXLAN, UDP, IPv4 and the inner Ethernet header take of a packet between hosts."""

_FIRST_PORT = 61_000
_PORTS = 4_000
"""Above those that Linux gives to programs by itself. One per deployment, so that a rule about the
port is about nothing else."""

_EVERYBODY = "00:00:00:00:00:00"
_INTERFACES = Path("/sys/class/net")


def name_of(identity: str) -> str:
    """The interface of a deployment."""
    return f"ctv{identity}"


def port_of(identity: str) -> int:
    """The UDP port at which the hosts of a deployment hear one another."""
    return _FIRST_PORT + int(identity, 16) % _PORTS


def number_of(identity: str) -> int:
    """The network's number (VNI): 24 bits."""
    return int(identity, 16) & 0xFFFFFF


def ensure(deployment: Deployment, plan: InfrastructurePlan) -> bool:
    """Make the interface, or bring it to what the plan says; True when anything was changed.

    Raises:
        StepFailed: the kernel refuses, or an interface of that name is not ours.
    """
    name = name_of(plan.identity)
    wanted = set(plan.peers)
    if not wanted or plan.network.joined:
        return remove(deployment)
    there = _read(name)
    if there is not None and not _is_ours(there, deployment):
        raise bridge.foreign(name, f'an interface labelled "{there.get("ifalias", "")}"')
    if there is not None and not _fits(there, plan):
        remove(deployment)
        there = None
    changed = there is None
    if there is None:
        command = (
            *(
                "ip",
                "link",
                "add",
                name,
                "address",
                bridge.mac_of(name, deployment),
                "type",
                "vxlan",
            ),
            *("id", str(number_of(plan.identity)), "dstport", str(port_of(plan.identity))),
        )
        run_on_host(Command(command)).check(
            "the network between the hosts cannot be made", hint="continuum doctor"
        )
        bridge.no_ipv6(name)
        mtu = ("mtu", str(plan.network.mtu)) if plan.network.mtu else ()
        for last in (
            ("alias", bridge.label(deployment)),
            (*mtu, "master", plan.network.bridge),
            ("up",),
        ):
            run_on_host(Command(("ip", "link", "set", name, *last))).check(
                "the network between the hosts cannot be set up", hint="continuum doctor"
            )
    known = _peers(name)
    for peer in sorted(known - wanted):
        _peer("del", name, peer)
    for peer in sorted(wanted - known):
        _peer("append", name, peer)
    return changed or known != wanted


def remove(deployment: Deployment) -> bool:
    """Remove the interface, if it is ours; True when it was there."""
    name = name_of(deployment.identity)
    there = _read(name)
    if there is None or not _is_ours(there, deployment):
        return False
    result = run_on_host(Command(("ip", "link", "delete", name)))
    if (_INTERFACES / name).exists():
        result.check(f"interface {name} cannot be removed")
    return True


def _read(name: str) -> dict[str, Any] | None:
    if not (_INTERFACES / name).exists():
        return None
    shown = run_on_host(Command(("ip", "-json", "-details", "link", "show", "dev", name)))
    found: list[dict[str, Any]] = json.loads(shown.text or "[]")
    return found[0] if found else None


def _is_ours(there: dict[str, Any], deployment: Deployment) -> bool:
    """By its label; by its hardware address when we were killed before the label was on it."""
    if there.get("ifalias"):
        return bool(there["ifalias"] == bridge.label(deployment))
    return bool(there.get("address") == bridge.mac_of(str(there["ifname"]), deployment))


def _fits(there: dict[str, Any], plan: InfrastructurePlan) -> bool:
    data: dict[str, Any] = there.get("linkinfo", {}).get("info_data", {})
    return (
        data.get("id") == number_of(plan.identity)
        and data.get("port") == port_of(plan.identity)
        and there.get("master") == plan.network.bridge
        and "UP" in there.get("flags", [])
        and bool(there.get("ifalias"))
        and plan.network.mtu in (None, there.get("mtu"))
    )


def _peers(name: str) -> set[str]:
    shown = run_on_host(Command(("bridge", "-json", "fdb", "show", "dev", name))).check()
    entries: list[dict[str, Any]] = json.loads(shown.text or "[]")
    return {str(each["dst"]) for each in entries if each.get("mac") == _EVERYBODY and "dst" in each}


def _peer(action: str, name: str, peer: str) -> None:
    command = ("bridge", "fdb", action, _EVERYBODY, "dev", name, "dst", peer)
    result = run_on_host(Command(command))
    if result.exit_code != 0:
        raise StepFailed(
            f"host {peer} cannot be added to the network between the hosts",
            where=str(command),
            output=result.last_output,
        )
