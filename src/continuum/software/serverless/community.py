"""The distribution `community`: OpenFaaS Community Edition, its official images, pinned.

Gateway and provider, as its chart sets them up; calls are synchronous. What the images are comes
from the values of that chart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from continuum.images import foreign
from continuum.software.serverless import objects
from continuum.software.serverless.names import FUNCTIONS, GATEWAY, NAMESPACE, PORT

if TYPE_CHECKING:
    from continuum.images.containers import ContainerImage

VERSION = "0.27.13"
"""Of the gateway."""

GATEWAY_IMAGE = f"ghcr.io/openfaas/gateway:{VERSION}"
PROVIDER_IMAGE = "ghcr.io/openfaas/faas-netes:0.18.17"

TERMS = (
    "OpenFaaS Community Edition is OpenFaaS Ltd's, under a licence of its own: not to be resold or "
    "distributed, and for commercial use only 60 days and one installation per company "
    "(https://github.com/openfaas/faas/blob/master/EULA.md)"
)

_PROVIDER = "faas-netes"
_PROVIDER_PORT = 8081
_ANSWER_SECONDS = 60


def images() -> tuple[ContainerImage, ...]:
    """The images of gateway and provider, from their registry."""
    return (foreign.of_registry(GATEWAY_IMAGE), foreign.of_registry(PROVIDER_IMAGE))


def manifests() -> list[dict[str, Any]]:
    """Everything in the cluster but namespaces and password."""
    gateway, provider = images()
    return [
        *objects.rights(
            GATEWAY,
            [
                objects.rule(["apps"], ["deployments"]),
                objects.rule(
                    [""],
                    ["services", "secrets", "pods", "pods/log", "endpoints", "namespaces"],
                ),
                objects.rule(["openfaas.com"], ["profiles"]),
            ],
        ),
        objects.deployment(
            GATEWAY, [_gateway(gateway.reference), _provider(provider.reference)], folders=("tmp",)
        ),
        objects.gateway_service(),
    ]


def _gateway(image: str) -> dict[str, Any]:
    timeout = f"{_ANSWER_SECONDS}s"
    return {
        "name": GATEWAY,
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["./gateway"],
        "env": objects.environment(
            {
                "read_timeout": f"{_ANSWER_SECONDS + 5}s",
                "write_timeout": f"{_ANSWER_SECONDS + 5}s",
                "upstream_timeout": timeout,
                "functions_provider_url": f"http://127.0.0.1:{_PROVIDER_PORT}/",
                "direct_functions": "false",
                "function_namespace": FUNCTIONS,
                "basic_auth": "true",
                "secret_mount_path": "/var/secrets",
                "scale_from_zero": "true",
                "max_idle_conns": "1024",
                "max_idle_conns_per_host": "1024",
                "async": "false",
            }
        ),
        "ports": [{"containerPort": PORT, "name": "http"}],
        "readinessProbe": objects.probe(PORT, "/healthz"),
        "volumeMounts": [objects.PASSWORD_MOUNT],
    }


def _provider(image: str) -> dict[str, Any]:
    return {
        "name": _PROVIDER,
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["./faas-netes"],
        "env": objects.environment(
            {
                "port": str(_PROVIDER_PORT),
                "function_namespace": FUNCTIONS,
                "profiles_namespace": NAMESPACE,
                "read_timeout": f"{_ANSWER_SECONDS}s",
                "write_timeout": f"{_ANSWER_SECONDS}s",
                "image_pull_policy": "IfNotPresent",
                "http_probe": "true",
                "readiness_probe_initial_delay_seconds": "0",
                "readiness_probe_timeout_seconds": "5",
                "readiness_probe_period_seconds": "1",
                "liveness_probe_initial_delay_seconds": "10",
                "liveness_probe_timeout_seconds": "5",
                "liveness_probe_period_seconds": "10",
                "cluster_role": "false",
            }
        ),
        "ports": [{"containerPort": _PROVIDER_PORT, "name": "provider"}],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  the container's own
    }
