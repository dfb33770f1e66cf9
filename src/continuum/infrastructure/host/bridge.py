"""The bridge of one deployment on this host, known by its alias."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum.deployment import Deployment
from continuum.errors import StepFailed
from continuum.infrastructure.plan import NetworkPlan
from continuum.machine import Command, run_on_host

PORT_LIMIT = 1023
"""Interfaces that the kernel allows on one bridge."""

_ALIAS_LIMIT = 255
_MARK = "continuum "
_INTERFACES = Path("/sys/class/net")


@dataclass(frozen=True)
class Bridge:
    """A bridge that is there."""

    name: str
    label: str
    mac: str
    up: bool
    addresses: tuple[str, ...]


def label(deployment: Deployment) -> str:
    """What a bridge of the deployment carries as its alias."""
    return _label(deployment.name, deployment.root)


def _label(name: str, state_folder: Path) -> str:
    return f"{_MARK}{name} {state_folder.absolute()}"[:_ALIAS_LIMIT]


def all_bridges() -> list[Bridge]:
    """Every bridge on this host."""
    shown = run_on_host(Command(("ip", "-json", "address", "show", "type", "bridge")))
    found: list[dict[str, Any]] = json.loads(shown.check().text or "[]")
    return [
        Bridge(
            name=each["ifname"],
            label=_alias(each["ifname"]),
            mac=each.get("address", ""),
            up="UP" in each.get("flags", []),
            addresses=tuple(
                f"{address['local']}/{address['prefixlen']}"
                for address in each.get("addr_info", [])
                if address.get("family") == "inet"
            ),
        )
        for each in found
        if each
    ]


def _alias(name: str) -> str:
    try:
        return (_INTERFACES / name / "ifalias").read_text().strip()
    except OSError:
        return ""


def deployments(state_folder: Path) -> list[str]:
    """Names of the deployments in that state folder whose bridges are on this host."""
    names = []
    for found in _labels():
        words = found.split(" ", 2)
        if len(words) == 3 and found == _label(words[1], state_folder):
            names.append(words[1])
    return names


def _labels() -> list[str]:
    """Aliases of all bridges, read without `ip`: who has no machines here may not have it."""
    return [_alias(path.parent.name) for path in _INTERFACES.glob("*/bridge")]


def is_labelled(deployment: Deployment, name: str) -> bool:
    """Whether an interface of that name is there with the deployment's label."""
    return _alias(name) == label(deployment)


def missing(deployment: Deployment, network: NetworkPlan, *, addressed: bool = True) -> str:
    """Words on what the deployment's bridge lacks; "" when it is as `ensure` leaves it."""
    address = f"{network.host_address}/{network.block.prefixlen}"
    there = next((each for each in all_bridges() if each.name == network.bridge), None)
    if there is None:
        return "is not there"
    if not _is_ours(there, deployment):
        return "is another's"
    if not there.up:
        return "is down"
    if there.addresses != ((address,) if addressed else ()):
        return "has not its address"
    return ""


def any_of_ours() -> bool:
    """Whether any deployment, of whichever state folder, has a bridge on this host."""
    return any(each.startswith(_MARK) for each in _labels())


def ensure(deployment: Deployment, network: NetworkPlan, *, addressed: bool = True) -> bool:
    """Make the bridge with its label and address; True when anything was changed.

    Only the host that a deployment was begun on has an address on it (`addressed`).

    Raises:
        StepFailed: an interface of that name is there and is not ours, or another deployment has
            taken the addresses since this one was planned.
    """
    address = f"{network.host_address}/{network.block.prefixlen}"
    wanted = (address,) if addressed else ()
    name = network.bridge
    there = next((each for each in all_bridges() if each.name == name), None)
    if there is None:
        if _exists(name):
            raise foreign(name, "another interface")
        make = (
            "link",
            "add",
            name,
            "address",
            mac_of(name, deployment),
            "type",
            "bridge",
            "mcast_snooping",
            "0",
        )
        made = run_on_host(Command(("ip", *make)))
        made.check(f"bridge {name} cannot be made", hint="continuum doctor")
    elif not _is_ours(there, deployment):
        raise foreign(name, f'a bridge labelled "{there.label}"' if there.label else "a bridge")
    elif there.up and there.label and there.addresses == wanted:
        return False
    no_ipv6(name)
    for arguments in (
        ("link", "set", name, "alias", label(deployment)),
        ("address", "flush", "dev", name),
        *(("address", "add", each, "dev", name) for each in wanted),
        ("link", "set", name, "up"),
    ):
        run_on_host(Command(("ip", *arguments))).check(hint="continuum doctor")
    # Looked for only now: of two that come at once at least one sees the other.
    other = next((each for each in all_bridges() if _clashes(each, network)), None)
    if other is not None:
        remove(deployment, name)
        raise StepFailed(
            f"the addresses {network.block} were just taken by another deployment",
            where=f"interface {other.name}: {other.label}",
            hint="the same command again takes others, unless the file says which",
        )
    return True


def _clashes(bridge: Bridge, network: NetworkPlan) -> bool:
    return (
        bridge.name != network.bridge
        and bridge.label.startswith(_MARK)
        and any(
            ipaddress.IPv4Network(each, strict=False).overlaps(network.block)
            for each in bridge.addresses
        )
    )


def remove(deployment: Deployment, name: str) -> bool:
    """Remove the bridge and what is still on it, if it is ours; True when it was there."""
    there = next((each for each in all_bridges() if each.name == name), None)
    if there is None or not _is_ours(there, deployment):
        return False
    ports = _INTERFACES / name / "brif"
    for port in sorted(ports.iterdir()) if ports.is_dir() else []:
        # An interface whose machine has just ended may vanish by itself meanwhile.
        run_on_host(Command(("ip", "link", "delete", port.name)))
    result = run_on_host(Command(("ip", "link", "delete", name)))
    if _exists(name):
        result.check(f"bridge {name} cannot be removed")
    return True


def _exists(name: str) -> bool:
    return (_INTERFACES / name).exists()


def _is_ours(bridge: Bridge, deployment: Deployment) -> bool:
    """By its label; by its hardware address when we were killed before the label was on it."""
    if bridge.label:
        return bridge.label == label(deployment)
    return bridge.mac == mac_of(bridge.name, deployment)


def mac_of(name: str, deployment: Deployment) -> str:
    """A hardware address of its own: else it changes with every machine that comes or goes.

    On every host another one: they are on one network.
    """
    return "02:" + hashlib.sha256(f"{name}{deployment.host}".encode()).digest()[:5].hex(":")


def no_ipv6(name: str) -> None:
    """Keep an interface from having IPv6 addresses."""
    switch = Path("/proc/sys/net/ipv6/conf", name, "disable_ipv6")
    if switch.exists():
        switch.write_text("1")


def foreign(name: str, what: str) -> StepFailed:
    """The error when a name of ours is taken by something else."""
    return StepFailed(
        f"the name {name} is taken by {what} that is not ours",
        where=f"interface {name}",
        hint=f"look at it with `ip -details link show {name}`; it has not been touched",
    )
