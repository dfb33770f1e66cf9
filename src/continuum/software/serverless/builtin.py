"""The distribution `builtin`: a provider of ours on OpenFaaS' SDK. OpenFaaS' API, not OpenFaaS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from continuum.artifacts.catalogue import Wanted
from continuum.artifacts.images import program_image
from continuum.artifacts.store import ArtifactStore
from continuum.events import Events
from continuum.software.serverless import objects
from continuum.software.serverless.names import FUNCTIONS, GATEWAY, PORT

if TYPE_CHECKING:
    from continuum.images.containers import ContainerImage

PROGRAM = "openfaas-builtin"


def version() -> str:
    """Its version, as `v0.1.0`."""
    return ArtifactStore(Events()).version(PROGRAM)


def images() -> tuple[ContainerImage, ...]:
    """The one image that it takes."""
    return (program_image(ArtifactStore(Events()), Wanted(PROGRAM, version())),)


def manifests() -> list[dict[str, Any]]:
    """Everything in the cluster but namespaces and password."""
    (image,) = images()
    return [
        *objects.rights(
            GATEWAY,
            [
                objects.rule(["apps"], ["deployments", "deployments/scale"]),
                objects.rule([""], ["services", "secrets", "pods", "pods/log"]),
            ],
        ),
        objects.deployment(GATEWAY, [_container(image.reference)]),
        objects.gateway_service(),
    ]


def _container(image: str) -> dict[str, Any]:
    return {
        "name": GATEWAY,
        "image": image,
        "imagePullPolicy": "Never",
        "env": objects.environment({"function_namespace": FUNCTIONS, "port": str(PORT)}),
        "ports": [{"containerPort": PORT, "name": "http"}],
        "resources": {"requests": {"cpu": "50m", "memory": "40Mi"}},
        "readinessProbe": objects.probe(PORT, "/healthz"),
        "volumeMounts": [objects.PASSWORD_MOUNT],
    }
