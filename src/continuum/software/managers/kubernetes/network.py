"""The cluster's addresses: pods within their machine's block, services beside everything else."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from continuum.images.container_runtime import CNI_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from continuum.infrastructure.plan import Block

BRIDGE = "cni0"
"""The bridge in each machine that its pods are on."""

CNI_FILE = f"{CNI_SETTINGS}/10-continuum.conflist"

_SERVICE_BLOCKS = ("172.30.0.0/16", "10.96.0.0/16", "192.168.192.0/20")


def service_block(block: Block) -> Block:
    """Addresses of services: virtual, so any will do that machines and pods do not have."""
    return next(
        found for found in map(ipaddress.IPv4Network, _SERVICE_BLOCKS) if not found.overlaps(block)
    )


def name_server(services: Block) -> str:
    """The address of the cluster's name server, by Kubernetes' custom the tenth."""
    return str(services[10])


def cni_configuration(pods: Block, tcp: Mapping[str, str]) -> dict[str, Any]:
    """A machine's pods: on a bridge of their own, with addresses from the machine's block.

    Their addresses stay as they are on the way to other machines, so that links see them. TCP
    behaves in them as on the machine: by itself a namespace begins with the kernel's own settings.
    """
    tuning = {"type": "tuning", "sysctl": dict(tcp)}
    return {
        "cniVersion": "0.4.0",
        "name": "continuum",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": True,
                "ipMasq": False,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": str(pods)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
            *([tuning] if tcp else []),
        ],
    }
