"""A bridge of the user's own that a deployment's machines are put on; it is left as it is.

All that we add to it is this host's address in the deployment's block, which a file remembers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from continuum import state_file
from continuum.deployment import Deployment
from continuum.errors import NotPossibleHere
from continuum.infrastructure.plan import InfrastructurePlan
from continuum.machine import Command, run_on_host

_NOTE = "machines/address-on-bridge"


def refuse(plan: InfrastructurePlan) -> None:
    """Raise when the bridge that the user named is not there.

    Raises:
        NotPossibleHere: there is no such bridge here.
    """
    name = plan.network.bridge
    if plan.network.joined and not Path("/sys/class/net", name, "bridge").is_dir():
        raise NotPossibleHere(
            f"there is no bridge {name} on this host",
            where="infrastructure.bridge",
            hint="make it on every host, or leave infrastructure.bridge out to have one made",
        )


def ensure(deployment: Deployment, plan: InfrastructurePlan) -> bool:
    """Give this host its address on the bridge, if it is the one that has one; True when changed."""
    refuse(plan)
    network = plan.network
    if plan.host:
        return False
    address = f"{network.host_address}/{network.block.prefixlen}"
    note = f"{network.bridge} {address}\n"
    path = deployment.folder / _NOTE
    if state_file.read_text(path) not in (None, note):
        remove(deployment)
    if _has(network.bridge, address):
        return False
    # Written first: who is killed in between takes off an address that is not there.
    deployment.write(_NOTE, note)
    run_on_host(Command(("ip", "address", "add", address, "dev", network.bridge))).check(
        f"this host cannot be given an address on bridge {network.bridge}"
    )
    return True


def holds(deployment: Deployment) -> bool:
    """Whether this host has the address on the bridge that it was given for the deployment."""
    given = _given(deployment)
    return given is not None and _has(*given)


def remove(deployment: Deployment) -> bool:
    """Take this host's address off the bridge; True when it was there."""
    given = _given(deployment)
    if given is None or not _has(*given):
        return False
    name, address = given
    run_on_host(Command(("ip", "address", "del", address, "dev", name))).check(
        f"the address {address} cannot be taken off bridge {name}"
    )
    return True


def _given(deployment: Deployment) -> tuple[str, str] | None:
    words = (state_file.undamaged(state_file.read_text(deployment.folder / _NOTE)) or "").split()
    return (words[0], words[1]) if len(words) == 2 else None


def _has(name: str, address: str) -> bool:
    shown = run_on_host(Command(("ip", "-json", "address", "show", "dev", name)))
    found: list[dict[str, Any]] = json.loads(shown.text or "[]") if shown.exit_code == 0 else []
    return any(
        f"{each.get('local')}/{each.get('prefixlen')}" == address
        for interface in found
        for each in interface.get("addr_info", [])
    )
