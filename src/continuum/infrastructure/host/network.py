"""The network of one deployment on this host: bridge, rules that close it, a way out if asked for."""

from __future__ import annotations

import ipaddress
import shutil
from contextlib import suppress

from continuum import folders, state_file
from continuum.deployment import Deployment
from continuum.errors import NotPossibleHere
from continuum.infrastructure.host import (
    addresses,
    bridge,
    firewall,
    joined,
    names,
    overlay,
    routing,
    ssh_config,
)
from continuum.infrastructure.plan import InfrastructurePlan

BLOCK = "machines/block"
"""File of a deployment that keeps its addresses while the host is down."""

FORWARDING = ssh_config.CONTROL_FOLDER / "switched-forwarding-on"
"""Of no deployment: the last one that goes takes forwarding back, whichever switched it on."""


def blocks(*, but: str = "") -> list[str]:
    """Blocks of the host, and those that deployments keep over a restart, but one of them."""
    if shutil.which("ip") is None:
        raise NotPossibleHere(
            "there is no program `ip` on this host", hint="apt-get install -y iproute2"
        )
    kept = (block for block, name in _kept() if name != but)
    return sorted({*addresses.blocks_in_use(), *kept})


def _kept() -> list[tuple[str, str]]:
    """Blocks, each with the deployment that it belongs to."""
    state = folders.state_folder()
    found = []
    for path in (*state.glob(f"*/{BLOCK}"), *folders.carried_folder().glob(f"*/*/{BLOCK}")):
        # Another `down` may remove it meanwhile; and what is damaged is no block.
        text = state_file.undamaged(state_file.read_text(path)) or ""
        with suppress(ValueError):
            found.append((str(ipaddress.IPv4Network(text.strip())), path.parent.parent.name))
    return found


def block_user(block: str) -> str:
    """User of a block here, as `route through vpn0`; "" when that is not known."""
    name = dict(_kept()).get(block)
    return f'deployment "{name}"' if name else addresses.users().get(block, "")


def ensure(deployment: Deployment, plan: InfrastructurePlan) -> bool:
    """Make the bridge and the rules that close it; True when changed."""
    # Closed before there is anything to close: a rule may name a bridge that is not there yet.
    port = overlay.port_of(plan.identity)
    changed = firewall.ensure(plan.identity, plan.network, plan.peers, port)
    # An address that is left on the bridge of before would draw the packets for the new one.
    if plan.network.joined:
        changed |= bridge.remove(deployment, names.bridge_name(deployment))
        changed |= joined.ensure(deployment, plan)
    else:
        changed |= joined.remove(deployment)
        changed |= bridge.ensure(deployment, plan.network, addressed=not plan.host)
    changed |= overlay.ensure(deployment, plan)
    # Only now: who finds the addresses taken has no claim to them, and who goes down meanwhile
    # sees by the bridge that forwarding is needed.
    deployment.write(BLOCK, f"{plan.network.block}\n")
    if plan.network.internet and not plan.host:
        routing.switch_on(FORWARDING)
    return changed


def missing(deployment: Deployment, plan: InfrastructurePlan) -> list[str]:
    """Sentences on what of the network is not as `ensure` leaves it; changes nothing, needs root."""
    found = []
    if not plan.network.joined:
        lack = bridge.missing(deployment, plan.network, addressed=not plan.host)
        if lack:
            found.append(f"bridge {plan.network.bridge} {lack}")
    port = overlay.port_of(plan.identity)
    lost, wanted = firewall.missing(plan.identity, plan.network, plan.peers, port)
    if lost:
        found.append(f"{lost} of {wanted} rules that close the network are not in force")
    return found


def remove(deployment: Deployment) -> None:
    """Remove bridge and rules; take forwarding back when nobody needs it any more."""
    joined.remove(deployment)
    overlay.remove(deployment)
    bridge.remove(deployment, names.bridge_name(deployment))
    firewall.remove(deployment.identity)
    if not bridge.any_of_ours() and not firewall.let_anybody_out():
        routing.switch_off(FORWARDING)
