"""What services, resource managers and execution models are.

Each has two halves: *install* steps that are baked into the machine image, and a role that
Ansible applies to live machines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from continuum.experiment.model import Experiment
    from continuum.images.recipe import InstallStep
    from continuum.infrastructure.plan import InfrastructurePlan
    from continuum.machine import Machine
    from continuum.secret import Secret


@dataclass(frozen=True)
class RolePlay:
    """One role on some machines.

    Attributes:
        role: name of a folder in `roles`.
        machines: names of the machines, at least one.
        variables: what the role's templates read; the same for all of these machines.
        per_machine: variables of single machines.
        roles: the folder that holds the role.
        secrets: variables that stand in no file but that of the machine; each of them has a name of
            its own in the whole deployment, and tasks that read them say `no_log`.
    """

    role: str
    machines: tuple[str, ...]
    roles: Path
    variables: Mapping[str, Any] = field(default_factory=dict)
    per_machine: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricsTarget:
    """What answers with figures in Prometheus' format.

    Attributes:
        job: what it is part of: `machines`, `broker`, `kubelet`, ….
        machine: name of the machine that it is on.
        address, port: where the observing machine reaches it.
        path: of the page.
        scheme: `http` or `https`.
        token: whether it asks for the token that `ResourceManager.metrics_access` puts down.
    """

    job: str
    machine: str
    address: str
    port: int
    path: str = "/metrics"
    scheme: str = "http"
    token: bool = False


class Service(ABC):
    """An operating service on machines, as `mqtt`."""

    name: ClassVar[str]

    def skip(self, experiment: Experiment) -> str | None:
        """Why it has no use in this experiment, and is left out; None when it has."""
        del experiment
        return None

    @abstractmethod
    def install(self) -> tuple[InstallStep, ...]:
        """Steps for the machine image."""

    def machines(self, experiment: Experiment, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the machines that it concerns, where it is wanted on some."""
        del experiment
        return wanted

    @abstractmethod
    def configure(
        self, experiment: Experiment, plan: InfrastructurePlan, machines: tuple[str, ...]
    ) -> tuple[RolePlay, ...]:
        """Roles for live machines; a pure function."""

    def configure_beside(
        self,
        experiment: Experiment,
        plan: InfrastructurePlan,
        services: Mapping[str, tuple[str, ...]],
    ) -> tuple[RolePlay, ...]:
        """The same for a service that must know the others: all services, with their machines."""
        return self.configure(experiment, plan, services[self.name])

    @abstractmethod
    def ready(self, machine: Machine) -> bool:
        """Whether the service answers on the machine now."""

    @property
    @abstractmethod
    def logs(self) -> tuple[str, ...]:
        """Systemd units whose journal holds the service's log."""


class ResourceManager(ABC):
    """Who places workers on machines."""

    name: ClassVar[str]
    cluster: ClassVar[bool] = False
    """Whether it joins the machines to a cluster of Kubernetes, with its control plane on
    `experiment.control_machine`."""

    @abstractmethod
    def skip(self, experiment: Experiment) -> str | None:
        """Why the manager cannot carry this experiment; None when it can."""

    @abstractmethod
    def install(self, experiment: Experiment) -> tuple[InstallStep, ...]:
        """Steps for the machine image."""

    @abstractmethod
    def configure(self, experiment: Experiment, plan: InfrastructurePlan) -> tuple[RolePlay, ...]:
        """Roles for live machines; a pure function."""

    @property
    def execution_models(self) -> tuple[str, ...]:
        """Execution models that work on this manager."""
        return ("process",)

    def services(self, experiment: Experiment) -> Mapping[str, tuple[str, ...]]:
        """Services that the manager itself needs, each with its machines."""
        del experiment
        return {}

    def versions(self, experiment: Experiment) -> Mapping[str, str]:
        """Versions of what it brings, by name, for the record of a run."""
        del experiment
        return {}

    def control_machine(self, experiment: Experiment) -> str | None:
        """The machine that `kubectl` works on; None for a manager without a cluster."""
        del experiment
        return None

    def metrics(
        self, experiment: Experiment, plan: InfrastructurePlan
    ) -> tuple[MetricsTarget, ...]:
        """Where its figures are, for the service `observability`; a pure function."""
        del experiment, plan
        return ()

    def metrics_access(self, experiment: Experiment, token_file: str) -> tuple[RolePlay, ...]:
        """Roles that put into that file, on the observing machine, what opens `metrics`."""
        del experiment, token_file
        return ()

    def missing(self, experiment: Experiment, machines: Mapping[str, Machine]) -> list[str]:
        """What is not ready now, each in half a sentence; empty when all is."""
        del experiment, machines
        return []

    def log(self, experiment: Experiment, machines: Mapping[str, Machine]) -> str:
        """What tells why something does not get ready: the last lines of whoever is in the way."""
        del experiment, machines
        return ""

    def keep(self, experiment: Experiment, machines: Mapping[str, Machine]) -> Mapping[str, bytes]:
        """Private files for the deployment's folder, by name, as `kubeconfig`."""
        del experiment, machines
        return {}


@dataclass(frozen=True)
class ProcessSpec:
    """A program on a machine: a worker or an endpoint.

    Attributes:
        name: unique on its machine, as `worker-1`.
        machine: name of the machine.
        arguments: program and arguments; empty for those that its image names.
        environment: variables added; they may show in lists of processes.
        secrets: variables that are handed over by a file that only root may read, and show nowhere.
        files: content by absolute path, put there before the start.
        cpu: cores that it may use, None without a limit of its own.
        memory: bytes that it may use, None without a limit of its own.
        output: file on the machine that takes its standard output, "" for the system's log.
        ready_file: file that it makes when it can take requests, "" when it makes none.
        working_directory: where it starts; "" for where its image says.
        image: the container image that it runs in, for models that need one.
        port: TCP port that it listens on, None when it listens on none.
        trial: for a function, a file on every machine that it can be asked with; "" for nothing.
        metrics_port: TCP port on which it tells figures of itself, at `/metrics` in Prometheus'
            format; None when it tells none.
    """

    name: str
    machine: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    cpu: float | None = None
    memory: int | None = None
    output: str = ""
    ready_file: str = ""
    working_directory: str = "/"
    image: str = ""
    port: int | None = None
    trial: str = ""
    metrics_port: int | None = None


@dataclass(frozen=True)
class Start:
    """How long it took until a worker was there.

    Attributes:
        worker: its name.
        kind: `cold`: it was not there; `zero`: it was, with no replica; `out`: with one.
        number: of the measurement of its kind, from 1.
        seconds: until the first good answer; for `out` until all replicas were ready.
        replicas: that there are afterwards.
        moments: for `out`, seconds until each further replica was ready.
    """

    worker: str
    kind: str
    number: int
    seconds: float
    replicas: int = 1
    moments: tuple[float, ...] = ()


class ExecutionModel(ABC):
    """How a worker runs. Endpoints are always processes.

    Made with the experiment, and with the machines when there are any to work on.
    """

    name: ClassVar[str]

    def __init__(
        self,
        experiment: Experiment | None = None,
        machines: Mapping[str, Machine] | None = None,
    ) -> None:
        self.experiment = experiment
        self.machines = dict(machines or {})

    @abstractmethod
    def install(self) -> tuple[InstallStep, ...]:
        """Steps for the machine image."""

    @abstractmethod
    def start(self, machine: Machine, process: ProcessSpec) -> None:
        """Put its files and start it; replaces one of the same name. Does not wait for it."""

    @abstractmethod
    def state(self, machine: Machine, process: ProcessSpec) -> str:
        """`starting`, `ready` (its ready file is there), `ended`, `failed`, or `absent`."""

    def states(self, machine: Machine, processes: Sequence[ProcessSpec]) -> dict[str, str]:
        """State by name of several processes on one machine."""
        return {process.name: self.state(machine, process) for process in processes}

    @abstractmethod
    def stop(self, machine: Machine, process: ProcessSpec) -> None:
        """Stop it, if it runs, and forget it."""

    def stop_all(self, machine: Machine, processes: Sequence[ProcessSpec]) -> None:
        """Stop and forget all of them, which are on that machine.

        Better all that this model has there: of those of a run that was killed nobody knows.
        """
        for process in processes:
            self.stop(machine, process)

    @property
    def tells_ready(self) -> bool:
        """Whether a process that makes no ready file is not ready before its state says so.

        Otherwise it is as soon as it runs, since nothing tells more.
        """
        return False

    @property
    def measures_starts(self) -> bool:
        """Whether `starts` measures anything."""
        return False

    def starts(
        self,
        machine: Machine,
        process: ProcessSpec,
        progress: Callable[[str], None],
    ) -> Iterator[Start]:
        """Measure how long a worker that is ready takes to be there; it may not be afterwards.

        By default nothing is measured.

        Raises:
            ContinuumError: a start could not be measured.
        """
        del machine, process, progress
        return iter(())

    @abstractmethod
    def log(self, machine: Machine, process: ProcessSpec, lines: int = 0) -> str:
        """What it wrote to the system's log; the last `lines`, 0 for all."""
