"""What is asked of the cluster: objects, the files that they lie in, and the calls. Pure functions.

| deployment | objects | files | calls of kubectl |
|---|---|---|---|
| `pod` | one Job, all of whose pods may run at once | one | one |
| `container` | one Job with a pod for each machine, which holds all of that machine's containers | one | one |
| `file` | a Pod each | one for each pod | one, for the whole folder |
| `call` | a Pod each | one for each pod | one for each file, one after the other |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from continuum.software.managers.kubernetes.audit import NAMESPACE
from continuum.software.managers.kubernetes.kubeadm import ADMIN

Deployment = Literal["pod", "container", "file", "call"]

KUBECTL = ("/usr/local/bin/kubectl", f"--kubeconfig={ADMIN}", f"--namespace={NAMESPACE}")
BUSYBOX = "/usr/local/bin/busybox"
_LABELS = {"app": "continuum-empty"}


@dataclass(frozen=True)
class Wish:
    """What pods an experiment asks for, whatever the repetition.

    Attributes:
        machines: nodes that are to carry them.
        pods: how many, on all of these.
        containers: in each pod; more than one only where `deployment` is `container`.
        image: reference of the container image.
        sleep: seconds for which a container lives.
        cpu, memory: cores and bytes that a container may use, None without a limit.
        shares: what part of these a container takes up of its node, of cores and of memory.
        pinned: whether the pods have to be told which nodes are theirs.
        token: whether a pod gets the token of its account, as pods do when nobody says otherwise.
    """

    deployment: Deployment
    machines: tuple[str, ...]
    pods: int
    containers: int
    image: str
    sleep: float
    cpu: float | None = None
    memory: int | None = None
    shares: tuple[float, float] = (1.0, 1.0)
    pinned: bool = False
    token: bool = True

    @property
    def total(self) -> int:
        """Rows of samples: pods, or containers."""
        return self.pods * self.containers

    @property
    def noun(self) -> str:
        """What one row is."""
        return "container" if self.deployment == "container" else "pod"


@dataclass(frozen=True)
class Asked:
    """One repetition's objects and calls.

    Attributes:
        files: objects, as JSON, by the name of their file.
        calls: files, or "" for the whole folder, by call.
        pods: the name of each pod where it is known beforehand, in order.
    """

    files: Mapping[str, str]
    calls: tuple[str, ...]
    pods: tuple[str, ...] = field(default=())

    def arguments(self, folder: str) -> list[list[str]]:
        """The calls of kubectl, with the files in a folder on the machine."""
        return [
            [*KUBECTL, "apply", "-f", f"{folder}/{name}" if name else folder] for name in self.calls
        ]


def ask(wish: Wish, repetition: int) -> Asked:
    """The objects and calls of one repetition; names tell repetitions apart."""
    name = f"empty-{repetition}"
    if wish.deployment in ("pod", "container"):
        job = _job(name, wish.pods, _spec(wish, apart=wish.deployment == "container"))
        return Asked({f"{name}.json": _text(job)}, (f"{name}.json",))
    names = tuple(f"{name}-{number}" for number in numbers(wish.pods))
    files = {f"{pod}.json": _text(_pod(pod, _spec(wish))) for pod in names}
    return Asked(files, tuple(files) if wish.deployment == "call" else ("",), names)


def container_names(wish: Wish) -> tuple[str, ...]:
    """Of the containers of one pod."""
    if wish.containers == 1:
        return ("empty",)
    return tuple(f"empty-{number}" for number in numbers(wish.containers))


def numbers(count: int) -> list[str]:
    """From 1 on, all with as many digits, so that names sort as numbers do."""
    digits = len(str(count))
    return [f"{number:0{digits}}" for number in range(1, count + 1)]


def namespace() -> dict[str, Any]:
    """The namespace of the pods."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}


def _job(name: str, pods: int, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": _LABELS},
        "spec": {
            "completions": pods,
            "parallelism": pods,
            # A pod that fails is a sample, and is not tried again in the name of another.
            "backoffLimit": 2**31 - 1,
            "template": {"metadata": {"labels": _LABELS}, "spec": spec},
        },
    }


def _pod(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": _LABELS},
        "spec": spec,
    }


def _spec(wish: Wish, *, apart: bool = False) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        # The first process of a container passes over a request to end.
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": name,
                "image": wish.image,
                "imagePullPolicy": "Never",
                "command": [BUSYBOX, "sleep", f"{wish.sleep:g}"],
                **_resources(wish),
            }
            for name in container_names(wish)
        ],
    }
    if not wish.token:
        spec["automountServiceAccountToken"] = False
    if wish.pinned:
        spec["affinity"] = {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [_among(wish.machines)]}]
                }
            }
        }
    if apart and len(wish.machines) > 1:
        # The control plane, which takes no pods, counts as a node with none: so each has one.
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": _LABELS},
            }
        ]
    return spec


def _among(machines: tuple[str, ...]) -> dict[str, Any]:
    return {"key": "kubernetes.io/hostname", "operator": "In", "values": list(machines)}


def _resources(wish: Wish) -> dict[str, Any]:
    limits: dict[str, str] = {}
    requests: dict[str, str] = {}
    cores, memory = wish.shares
    if wish.cpu is not None:
        limits["cpu"] = _cores(wish.cpu)
        requests["cpu"] = _cores(wish.cpu * cores)
    if wish.memory is not None:
        limits["memory"] = str(wish.memory)
        requests["memory"] = str(int(wish.memory * memory))
    return {"resources": {"limits": limits, "requests": requests}} if limits else {}


def _cores(number: float) -> str:
    # Rounded down: what just fits must not be refused for a thousandth.
    return f"{max(1, int(number * 1000 + 1e-6))}m"


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"
