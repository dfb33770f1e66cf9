"""What CloudCore and EdgeCore are told, as far as it differs from their defaults. Pure functions."""

from __future__ import annotations

from typing import Any

from continuum.software.managers.kubernetes.kubeadm import ADMIN, kubelet_settings

CLOUDCORE_FILE = "/etc/kubeedge/cloudcore.json"
EDGECORE_FILE = "/etc/kubeedge/edgecore.json"

RUNTIME_SOCKET = "/run/continuum/edge-runtime.sock"
"""Where EdgeCore's kubelet finds the container runtime."""

NAMESPACE = "kubeedge"
"""Where CloudCore keeps what it must remember."""

TOKEN_SECRET = "tokensecret"  # noqa: S105  the name of an object
TOKEN_KEY = "tokendata"  # noqa: S105  the name of a field

MESSAGES_PORT = 10000
JOIN_PORT = 10002
TUNNEL_PORT = 10004
CLOUDCORE_METRICS_PORT = 9091
"""On CloudCore's own machine alone."""

HEARTBEAT = 3
"""Seconds between signs of life of an edge machine. EdgeCore tries to connect again after twice as
long, so that a cut link is made good soon after it is restored."""

HANDSHAKE = 5
"""Seconds that an edge machine waits for an answer to one attempt to connect."""

_PKI = "/etc/kubernetes/pki"


def cloudcore(address: str) -> dict[str, Any]:
    """For CloudCore on the machine with that address.

    Requests for logs and for programs in pods come from the API server, which does not look at the
    certificate of whom it asks: so its own certificate does for them.
    """
    return {
        "apiVersion": "cloudcore.config.kubeedge.io/v1alpha1",
        "kind": "CloudCore",
        "kubeAPIConfig": {"kubeConfig": ADMIN},
        "modules": {
            "cloudHub": {"advertiseAddress": [address]},
            "cloudStream": {
                "enable": True,
                "tlsStreamCAFile": f"{_PKI}/ca.crt",
                "tlsStreamCertFile": f"{_PKI}/apiserver.crt",
                "tlsStreamPrivateKeyFile": f"{_PKI}/apiserver.key",
            },
        },
    }


def edgecore(
    *, machine: str, address: str, control: str, sandbox_image: str, internet: bool
) -> dict[str, Any]:
    """For EdgeCore on a machine at the edge.

    Args:
        machine: its name.
        address: its address.
        control: the address of CloudCore's machine.
        sandbox_image: what holds a pod together.
        internet: pods ask for names of other networks where their machine does.
    """
    return {
        "apiVersion": "edgecore.config.kubeedge.io/v1alpha2",
        "kind": "EdgeCore",
        "modules": {
            "edged": {
                "hostnameOverride": machine,
                "nodeIP": address,
                "podSandboxImage": sandbox_image,
                "tailoredKubeletConfig": {
                    **kubelet_settings(internet=internet),
                    "containerRuntimeEndpoint": f"unix://{RUNTIME_SOCKET}",
                    "oomScoreAdj": 0,
                },
            },
            "edgeHub": {
                "heartbeat": HEARTBEAT,
                "httpServer": f"https://{control}:{JOIN_PORT}",
                "websocket": {
                    "enable": True,
                    "handshakeTimeout": HANDSHAKE,
                    "server": f"{control}:{MESSAGES_PORT}",
                },
            },
            "edgeStream": {
                "enable": True,
                "handshakeTimeout": HANDSHAKE,
                "server": f"{control}:{TUNNEL_PORT}",
            },
        },
    }
