"""How things of a deployment are called on this host, and where they lie; pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from continuum.deployment import Deployment
from continuum.infrastructure.plan import MachineSpec, NetworkPlan


def prefix(identity: str) -> str:
    """What the names of a deployment's containers and virtual machines begin with."""
    return f"ctm-{identity}-"


def interface_name(network: NetworkPlan, spec: MachineSpec, identity: str) -> str:
    """The host's end of a machine's interface, at most 15 characters."""
    number = int(ipaddress.IPv4Address(spec.address)) - int(network.block.network_address)
    return f"ct{identity}{number:x}"


def bridge_name(deployment: Deployment) -> str:
    """The bridge of a deployment."""
    return f"ctm{deployment.identity}"


def machines_folder(deployment: Deployment) -> Path:
    """What a deployment's machines have on disk lies here."""
    return deployment.folder.absolute() / "machines"


@dataclass(frozen=True)
class Place:
    """Names and places of one machine on this host."""

    name: str
    machine: str
    folder: Path
    identity: str

    @classmethod
    def of(cls, machine: str, machines: Path, identity: str) -> Self:
        """Those of a machine; `machines` is the deployment's folder for them."""
        name = f"{prefix(identity)}{machine}"
        return cls(name, machine, machines / name, identity)

    @property
    def console(self) -> Path:
        """What the machine has said on its console."""
        return self.folder / "console.log"
