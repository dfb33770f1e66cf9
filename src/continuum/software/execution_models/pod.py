"""A worker as a pod: a Deployment of one replica, which the scheduler can put on one machine only.

Its files lie on the machine, where a process would have them. A worker that ends is started again
by its kubelet; that it ended stays known by the number of its starts.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from continuum.errors import ContinuumError
from continuum.machine import Command
from continuum.secret import opened, texts
from continuum.software.contract import ExecutionModel, ProcessSpec
from continuum.software.execution_models.looks import Patience, SharedLook
from continuum.software.execution_models.mounts import mounted_folders
from continuum.software.execution_models.ready_files import with_ready_files
from continuum.software.managers.kubernetes.kubectl import Kubectl

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.images.recipe import InstallStep
    from continuum.machine import Machine

OURS = "app.kubernetes.io/managed-by=continuum"
"""Label of everything that we put into a cluster."""

PLACE_LIMIT = 15.0
"""Seconds in which the scheduler must find a node: one that has just come back takes no pods yet."""

STOP_LIMIT = 30.0
_STOP_SECONDS = 5
_NAME = "app.kubernetes.io/name"
_ON = "continuum/machine"
_START = "continuum/start"
_HOPELESS = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
# What has ended is started again by its kubelet, and must not write over what it has written.
_INTO = """\
import os, signal, sys
try:
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
except FileExistsError:
    signal.pause()
os.dup2(file, 1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Pod(ExecutionModel):
    """Pods of a cluster, by `kubectl` on its control machine."""

    name: ClassVar[str] = "container"

    def __init__(
        self,
        experiment: Experiment | None = None,
        machines: Mapping[str, Machine] | None = None,
    ) -> None:
        super().__init__(experiment, machines)
        self._without_place = Patience(PLACE_LIMIT)
        self._items = SharedLook(lambda: self._kubectl.get("deployments,pods", selector=OURS))

    def install(self) -> tuple[InstallStep, ...]:
        """Nothing: the resource manager brings what runs pods."""
        return ()

    def start(self, machine: Machine, process: ProcessSpec) -> None:
        """Put its files and make its Deployment.

        Raises:
            StepFailed: the control plane refuses it.
        """
        for path, content in process.files.items():
            machine.put(content, path)
        earlier = tuple(filter(None, (process.ready_file, process.output)))
        if earlier:
            machine.run(Command(("rm", "-f", *earlier))).check()
        made = deployment(process, self._share(machine), start=uuid.uuid4().hex)
        self._kubectl.apply([made], secrets=frozenset(texts(process.secrets)))

    def state(self, machine: Machine, process: ProcessSpec) -> str:
        """`starting`, `ready` (its ready file is there), `ended`, `failed`, or `absent`."""
        return self.states(machine, (process,))[process.name]

    def states(self, machine: Machine, processes: Sequence[ProcessSpec]) -> dict[str, str]:
        """State by name of several on one machine, asked for at once."""
        items = [
            item for item in self._items() if item["metadata"]["labels"].get(_ON) == machine.name
        ]
        found = {process.name: pod_state(items, process.name) for process in processes}
        for name in found:
            if self._without_place.is_over(name, finds_no_place(pods_of(items, name) or ())):
                found[name] = "failed"
        return with_ready_files(machine, processes, found)

    def stop(self, machine: Machine, process: ProcessSpec) -> None:
        """Delete its Deployment, and wait until its pod is gone."""
        self._delete(machine, f"{_NAME}={process.name},{_ON}={machine.name}")

    def stop_all(
        self,
        machine: Machine,
        processes: Sequence[ProcessSpec],  # noqa: ARG002  nobody else has our label
    ) -> None:
        """Delete everything of ours on the machine."""
        self._delete(machine, f"{OURS},{_ON}={machine.name}")

    def log(self, machine: Machine, process: ProcessSpec, lines: int = 0) -> str:
        """What it wrote, in all its lives, and what its pod waits for."""
        selector = f"{_NAME}={process.name}"
        last = f"--tail={lines or -1}"
        found = []
        # The API server would try for half a minute to reach a machine that is gone.
        for earlier in ("--previous", "--previous=false") if answers(machine) else ():
            told = self._kubectl.run("logs", f"--selector={selector}", last, earlier)
            if told.exit_code == 0 and told.text:
                found.append(told.text)
        try:
            pods = self._kubectl.get("pods", selector=selector)
        except ContinuumError as error:
            return "\n".join([*found, error.message])
        return "\n".join([*found, *(reason for pod in pods for reason in reasons(pod))])

    @cached_property
    def _kubectl(self) -> Kubectl:
        assert self.experiment is not None
        control = self.experiment.control_machine
        assert control is not None
        return Kubectl(self.machines[control])

    @cached_property
    def _shares(self) -> dict[str, tuple[float, float]]:
        assert self.experiment is not None
        return shares(self.experiment, self._kubectl.get("nodes"))

    def _share(self, machine: Machine) -> tuple[float, float]:
        return self._shares.get(machine.name, (1.0, 1.0))

    def _delete(self, machine: Machine, selector: str) -> None:
        # In the foreground: what makes pods must be gone before they go, or it makes others.
        seconds = STOP_LIMIT if answers(machine) else 1
        done = self._kubectl.run(
            *("delete", "deployments", f"--selector={selector}", "--ignore-not-found"),
            *("--cascade=foreground", "--wait=true", f"--timeout={seconds:.0f}s"),
            limit=2 * STOP_LIMIT,
        )
        if done.exit_code != 0:
            # A machine that is gone never says that its pods have ended.
            self._kubectl.run(
                *("delete", "pods", f"--selector={selector}", "--ignore-not-found"),
                *("--force", "--grace-period=0"),
            ).check(f"pods on {machine.name} could not be deleted")


def answers(machine: Machine) -> bool:
    """Whether a machine does anything at all."""
    try:
        return machine.run(Command(("true",), timeout=10)).exit_code == 0
    except ContinuumError:
        return False


def deployment(
    process: ProcessSpec, share: tuple[float, float] = (1.0, 1.0), *, start: str = ""
) -> dict[str, Any]:
    """The object for a worker; a pure function.

    Args:
        process: the worker; its machine's name is the node's.
        share: of its cores and of its memory, how much is asked of the scheduler: a machine may be
            larger than what its host, or its own programs, leave it.
        start: another for every start, so that each makes a new pod.
    """
    labels = {
        _NAME: process.name,
        "app.kubernetes.io/managed-by": "continuum",
        _ON: process.machine,
    }
    folders = mounted_folders(process)
    container = {
        "name": "worker",
        "image": process.image,
        "imagePullPolicy": "IfNotPresent",
        **({"command": command(process)} if process.arguments else {}),
        "env": [
            {"name": name, "value": literally(value)}
            for name, value in {**process.environment, **opened(process.secrets)}.items()
        ],
        "workingDir": process.working_directory,
        "resources": resources(process, share),
        "volumeMounts": [
            {"name": f"folder-{number}", "mountPath": path}
            for number, path in enumerate(folders, start=1)
        ],
    }
    ports = [port for port in (process.port, process.metrics_port) if port is not None]
    if ports:
        container["ports"] = [{"containerPort": port, "hostPort": port} for port in ports]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": process.name, "namespace": "default", "labels": labels},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {_NAME: process.name}},
            "template": {
                "metadata": {"labels": {**labels, _START: start}},
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": process.machine},
                    # It stays where it is, also when its machine is not heard of for a while.
                    "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    # As the first process of a container it would not be ended by a signal.
                    "shareProcessNamespace": True,
                    "terminationGracePeriodSeconds": _STOP_SECONDS,
                    "containers": [container],
                    "volumes": [
                        {
                            "name": f"folder-{number}",
                            "hostPath": {"path": path, "type": "DirectoryOrCreate"},
                        }
                        for number, path in enumerate(folders, start=1)
                    ],
                },
            },
        },
    }


def command(process: ProcessSpec) -> list[str]:
    """Program and arguments; where its output goes to a file, by the image's Python."""
    before = ("python3", "-I", "-S", "-c", _INTO, process.output) if process.output else ()
    return [literally(word) for word in (*before, *process.arguments)]


def literally(word: str) -> str:
    """A word that Kubernetes leaves as it is: it would fill in `$(NAME)`."""
    return word.replace("$", "$$")


def shares(
    experiment: Experiment, nodes: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[float, float]]:
    """How much of its machine's cores and memory each node offers, by the machine's name."""
    sizes = {
        name: (tier.cores * tier.quota, tier.memory)
        for group, tier in experiment.tiers.items()
        for name in experiment.machine_names(group)
    }
    found = {}
    for node in nodes:
        name = node["metadata"]["name"]
        if name in sizes:
            offered = node["status"]["allocatable"]
            cores, memory = sizes[name]
            found[name] = (
                min(1.0, quantity(offered["cpu"]) / cores),
                min(1.0, quantity(offered["memory"]) / memory),
            )
    return found


def resources(process: ProcessSpec, share: tuple[float, float]) -> dict[str, dict[str, str]]:
    """A worker's limits, and what is asked of the scheduler: that share of them."""
    limits, requests = {}, {}
    if process.cpu is not None:
        limits["cpu"] = f"{max(1, round(process.cpu * 1000))}m"
        requests["cpu"] = f"{max(1, math.floor(process.cpu * share[0] * 1000))}m"
    if process.memory is not None:
        limits["memory"] = str(process.memory)
        requests["memory"] = str(math.floor(process.memory * share[1]))
    return {"limits": limits, "requests": requests}


def pods_of(items: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]] | None:
    """A worker's pods since its last start that are not on their way out; None: it has none."""
    ours = [item for item in items if item["metadata"]["labels"].get(_NAME) == name]
    starts = {
        item["spec"]["template"]["metadata"]["labels"].get(_START)
        for item in ours
        if item["kind"] == "Deployment" and "deletionTimestamp" not in item["metadata"]
    }
    if not starts:
        return None
    return [
        item
        for item in ours
        if item["kind"] == "Pod"
        and item["metadata"]["labels"].get(_START) in starts
        and "deletionTimestamp" not in item["metadata"]
    ]


def pod_state(items: Sequence[Mapping[str, Any]], name: str) -> str:
    """How a worker is, by its Deployment and its pods; its ready file is not looked at."""
    pods = pods_of(items, name)
    return "absent" if pods is None else state_of(pods)


def state_of(pods: Sequence[Mapping[str, Any]]) -> str:
    """How a worker is that has these pods."""
    containers = [status for pod in pods for status in pod["status"].get("containerStatuses", ())]
    for status in containers:
        past = status.get("lastState", {}).get("terminated") or status["state"].get("terminated")
        if past is not None:
            return "ended" if past["exitCode"] == 0 else "failed"
    for status in containers:
        if status["state"].get("waiting", {}).get("reason") in _HOPELESS:
            return "failed"
    if any(pod["status"].get("phase") == "Failed" for pod in pods):
        return "failed"  # Its node has put it out, or has not let it in.
    return "ready" if any("running" in status["state"] for status in containers) else "starting"


def finds_no_place(pods: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the scheduler finds no node for one of the pods now."""
    return any(
        condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable"
        for pod in pods
        for condition in pod["status"].get("conditions", ())
    )


def reasons(pod: Mapping[str, Any]) -> list[str]:
    """What a pod waits for, or ended of, in the cluster's own words."""
    status = pod["status"]
    found = [
        f"{condition['reason']}: {condition['message']}"
        for condition in status.get("conditions", ())
        if condition["status"] == "False" and condition.get("message")
    ]
    for container in status.get("containerStatuses", ()):
        for state in (container["state"], container.get("lastState", {})):
            for what in ("waiting", "terminated"):
                if what in state:
                    told = state[what]
                    code = f" (status {told['exitCode']})" if "exitCode" in told else ""
                    found.append(f"{told.get('reason', what)}{code}: {told.get('message', '')}")
    return found


def quantity(text: str) -> float:
    """A quantity as Kubernetes writes it: `1500m`, `2`, `512Mi`, `1e3`."""
    units = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    units |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGT", start=1)}
    for unit, factor in sorted(units.items(), key=lambda pair: -len(pair[0])):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)
