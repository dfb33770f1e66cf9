r"""containerd's own log, read as the moments at which sandboxes and containers came to be.

It says when each request of the kubelet had been carried out, with nanoseconds:

    time="…" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:…,…} returns sandbox id \"…\""
    time="…" level=info msg="CreateContainer within sandbox \"…\" for &ContainerMetadata{Name:…,…}
     returns container id \"…\""
    time="…" level=info msg="StartContainer for \"…\" returns successfully"

The names of pods and containers, and their ids, hold only letters, digits, dashes and dots.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from continuum.benchmark.applications.empty.moments import nanoseconds

_LINE = re.compile(r'^time="([^"]+)" level=\w+ msg="(.*)"')
_NAME = r"([A-Za-z0-9.-]+)"
_ID = r'\\?"([0-9a-f]+)\\?"'
_SANDBOX = re.compile(
    rf"RunPodSandbox for &PodSandboxMetadata\{{Name:{_NAME},Uid:[^,]*,Namespace:{_NAME},[^}}]*\}} "
    rf"returns sandbox id {_ID}",
    re.IGNORECASE,
)
_CREATED = re.compile(
    rf"CreateContainer within sandbox {_ID} for &ContainerMetadata\{{Name:{_NAME},[^}}]*\}} "
    rf"returns container id {_ID}"
)
_STARTED = re.compile(rf"StartContainer for {_ID} returns successfully")


@dataclass
class NodeLife:
    """What one node's containerd did for the pods of one namespace; Unix time in ns.

    Attributes:
        sandboxes: when each pod's first sandbox was there, by the pod's name.
        containers: when each container had first been started, by pod and container.
    """

    sandboxes: dict[str, int] = field(default_factory=dict)
    containers: dict[tuple[str, str], int] = field(default_factory=dict)


def read(log: str, namespace: str) -> NodeLife:
    """Read a log's lines; those that say nothing of the namespace are passed over."""
    life = NodeLife()
    pods: dict[str, str] = {}
    names: dict[str, tuple[str, str]] = {}
    for line in log.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        at = _moment(found[1])
        if at is None:
            continue
        if sandbox := _SANDBOX.search(found[2]):
            pod, its_namespace, identity = sandbox.groups()
            if its_namespace == namespace:
                pods[identity] = pod
                life.sandboxes.setdefault(pod, at)
        elif created := _CREATED.search(found[2]):
            identity, name, container = created.groups()
            if identity in pods:
                names[container] = (pods[identity], name)
        elif (started := _STARTED.search(found[2])) and started[1] in names:
            life.containers.setdefault(names[started[1]], at)
    return life


def _moment(text: str) -> int | None:
    try:
        return nanoseconds(text)
    except ValueError:
        return None
