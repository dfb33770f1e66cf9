"""What an application is: how its worker and its endpoint start, and what a sample holds.

Endpoints speak one line format, whoever wrote them: one JSON object a line on the file that the
load plan names, in the fields of `continuum.benchmark.samples`. A field that is missing is null.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from continuum.experiment.arrivals import Kind, offsets_ns, phase_ns
from continuum.infrastructure.providers.contract import PluginSettings
from continuum.software.contract import ProcessSpec
from continuum_runtime.open_loop import ARRIVALS_FILE

if TYPE_CHECKING:
    import pyarrow as pa

    from continuum.benchmark.execute import Collected, Run
    from continuum.benchmark.statistics import Quantity
    from continuum.events import Step
    from continuum.experiment.model import Experiment
    from continuum.images.containers import ContainerImage
    from continuum.images.recipe import InstallStep
    from continuum.infrastructure.plan import InfrastructurePlan

RUN_FOLDER = "/var/lib/continuum/run"
"""On every machine; one folder for each process in it. Emptied before each run."""


@dataclass(frozen=True)
class Worker:
    """One worker: where it runs and what it may use. `number` counts from 1 over the run.

    `gateway` is the address of the machine through whose gateway a worker that is a function is
    called; "" for one that is asked directly.
    `metrics_port` is a port of its own on its machine for figures in Prometheus' format; None where
    nobody collects them.
    """

    name: str
    number: int
    machine: str
    address: str
    cpu: float
    memory: int
    gateway: str = ""
    metrics_port: int | None = None


@dataclass(frozen=True)
class Endpoint:
    """One endpoint, and the worker that answers it; None when it answers itself.

    `metrics_port` is as a worker's.
    """

    name: str
    number: int
    machine: str
    address: str
    cpu: float
    memory: int
    worker: Worker | None
    metrics_port: int | None = None


@dataclass(frozen=True)
class Load:
    """What one endpoint does in one repetition.

    Attributes:
        repetition: counts from 1.
        seed: of this endpoint in this repetition.
        frequency: requests per second, on average.
        warmup, duration: seconds; requests of the warm-up come first and are marked.
        answer_timeout: seconds from when a request is due until it counts as lost.
        folder: the endpoint's own folder on its machine. It makes the file `ready` there when
            it could start, waits for the file `start`, which holds the Unix time in ns from which
            its requests count, and writes its samples to `samples.jsonl`.
        arrivals: `periodic`: the first request is due at that time, the others at multiples of
            1 / `frequency` after it. Else they are due at `offsets_ns` after it, which
            `arrivals_file` holds; see `continuum.experiment.arrivals`.
        trace, column: where `arrivals` is `file`: its path, and the endpoint's column, from 0.
    """

    repetition: int
    seed: int
    frequency: float
    warmup: float
    duration: float
    answer_timeout: float
    folder: str
    arrivals: Kind = "periodic"
    trace: str = ""
    column: int = 0

    @property
    def requests(self) -> tuple[int, int]:
        """Requests of the warm-up, and of the measured time after it."""
        if self.offsets_ns is not None:
            first = bisect_left(self.offsets_ns, self.warmup * 1e9)
            return first, len(self.offsets_ns) - first
        first = round(self.warmup * self.frequency)
        return first, max(1, round(self.duration * self.frequency))

    @cached_property
    def offsets_ns(self) -> tuple[int, ...] | None:
        """Due times of requests, ns after the repetition's start; None where they are periodic.

        Raises:
            InvalidExperiment: the file that holds them has gone, or is another one.
        """
        return offsets_ns(
            self.arrivals,
            frequency=self.frequency,
            seconds=self.warmup + self.duration,
            seed=self.seed,
            file=self.trace,
            column=self.column,
        )

    @property
    def phase_ns(self) -> int:
        """The interval between the repetition's start and the time in the file `start`: 0 unless
        requests are periodic.
        """
        if self.offsets_ns is not None:
            return 0
        return phase_ns(self.frequency, self.warmup + self.duration, self.seed)

    @property
    def last_due(self) -> float:
        """Seconds from the repetition's start until the last request is due; 0 without any."""
        if self.offsets_ns is not None:
            return self.offsets_ns[-1] / 1e9 if self.offsets_ns else 0.0
        return self.phase_ns / 1e9 + (sum(self.requests) - 1) / self.frequency

    @property
    def arrivals_file(self) -> str:
        """The path of the endpoint's `offsets_ns`, one a line; "" where requests are periodic."""
        return "" if self.offsets_ns is None else f"{self.folder}/{ARRIVALS_FILE}"

    @property
    def files(self) -> dict[str, bytes]:
        """The files for every endpoint's process: `arrivals_file`, where there is one."""
        if self.offsets_ns is None:
            return {}
        return {self.arrivals_file: "".join(f"{each}\n" for each in self.offsets_ns).encode()}


@dataclass(frozen=True)
class Misfit:
    """Why an experiment does not fit an application.

    Attributes:
        reason: one line of words.
        path: the key to blame, from the root of a TOML file.
        hint: what to write instead.
        lacking: nothing that is written is wrong; this version, this host, or the machines as
            large as they are, do not carry it.
    """

    reason: str
    path: tuple[str | int, ...] = ("benchmark", "application")
    hint: str = ""
    lacking: bool = False


class Application(ABC):
    """What is benchmarked. One instance serves one run."""

    name: ClassVar[str]
    settings_type: ClassVar[type[PluginSettings]] = PluginSettings
    beside_worker: ClassVar[bool] = False
    """The ability to run an endpoint on its worker's machine too, to measure what programs add."""

    def __init__(self, settings: PluginSettings) -> None:
        self.settings = settings

    @abstractmethod
    def skip(self, experiment: Experiment) -> str | None:
        """Why the experiment does not fit this application; None when it does."""

    def misfit(self, experiment: Experiment) -> Misfit | None:
        """The same with the key to blame and what would mend it, where the application knows."""
        reason = self.skip(experiment)
        return None if reason is None else Misfit(reason)

    @abstractmethod
    def install(self) -> tuple[InstallStep, ...]:
        """Steps for the machine image."""

    def container_image(self) -> ContainerImage:
        """What its worker runs in with the execution model `container`.

        By default the same programs as in a machine, from the same install steps.
        """
        from continuum.images import containers, oci  # noqa: PLC0415  only where it is needed
        from continuum.images.recipe import Recipe  # noqa: PLC0415
        from continuum.images.runtime import runtime_tree  # noqa: PLC0415

        recipe = Recipe.collect([runtime_tree(), *self.install()])
        return containers.of_recipe(self.name.replace("_", "-"), recipe, oci.Config())

    def function_image(self) -> ContainerImage | None:
        """What its worker runs in with the execution model `function`: the image's own program
        serves HTTP on port 8080. None when its worker cannot be a function.
        """
        return None

    def services(self, experiment: Experiment) -> tuple[str, ...]:
        """Services that every worker machine needs."""
        del experiment
        return ()

    @abstractmethod
    def worker(self, worker: Worker, endpoints: tuple[Endpoint, ...]) -> ProcessSpec:
        """The worker's process; `endpoints` are those that it answers."""

    @abstractmethod
    def endpoint(self, endpoint: Endpoint, load: Load) -> ProcessSpec:
        """The endpoint's process for one repetition."""

    def driver(self, experiment: Experiment, plan: InfrastructurePlan) -> Driver | None:
        """Who carries out the repetitions of an application that has no endpoints; else None.

        A pure function. With a driver neither `worker` nor `endpoint` is called.
        """
        del experiment, plan
        return None

    @property
    def noun(self) -> str:
        """What one sample is, in one word: of which there may be two by adding an s."""
        return "request"

    def quantities(self) -> tuple[Quantity, ...]:
        """What is computed from each sample, in the order of the table; the first is the whole."""
        from continuum.benchmark.statistics import QUANTITIES  # noqa: PLC0415  slow to import

        return QUANTITIES

    def columns(self) -> pa.Schema:
        """The application's own columns, beside those that every sample has."""
        import pyarrow as pa  # noqa: PLC0415  slow to import; reading an experiment needs none

        return pa.schema([])

    def complete(self, sample: dict[str, Any]) -> Mapping[str, Any]:
        """Values of the application's own columns, from one sample as the endpoint wrote it."""
        return {name: sample.get(name) for name in self.columns().names}

    def agreement(self, sample: Mapping[str, Any]) -> bool | None:
        """Whether a completed sample's result is the right one; None when it cannot be said."""
        del sample
        return None

    def expected_requests(self, load: Load) -> int | None:
        """Requests that the endpoint makes in one repetition; None when only it knows."""
        del load
        return None

    def servers(self, worker: Worker | Endpoint) -> int | None:
        """Requests that a worker, or an endpoint which answers itself, works on at a time.

        None when it cannot be said.
        """
        del worker
        return None

    def request_bytes(self) -> float | None:
        """Bytes of a request on average, as far as it is known before a run; None when it is not."""
        return None

    def transport(self) -> Transport | None:
        """How requests cross the network, for the expectation; None when it cannot be said."""
        return None

    def function_transport(self) -> Transport | None:
        """The same for requests to a function, which cross by HTTP."""
        return None


class Driver(ABC):
    """Carries out the repetitions of an application that has no endpoints.

    Made by a pure function, and with all that is needed to tell what will be done.

    Attributes:
        machines: names of the machines that it works on.
        lines: what will be done, for a person, one thing a line.
    """

    machines: tuple[str, ...]
    lines: tuple[str, ...]

    @abstractmethod
    def drive(self, run: Run, repetition: int, collected: Collected, step: Step) -> None:
        """Carry out one repetition; whatever happens, it ends in time.

        Rows, reasons and logs go to `collected`, also those from before an error.
        """

    @abstractmethod
    def clear(self, run: Run) -> None:
        """Remove what this or an earlier run left on the machines, which may be gone.

        Raises:
            ContinuumError: something could not be removed.
        """


class Locating(Application):
    """Base of applications that know which key is to blame: they give `misfit` instead of `skip`."""

    @abstractmethod
    def misfit(self, experiment: Experiment) -> Misfit | None:
        """Why the experiment does not fit, which key is to blame, and what would mend it."""

    def skip(self, experiment: Experiment) -> str | None:
        """The reason alone."""
        found = self.misfit(experiment)
        return None if found is None else found.reason


class Driven(Application):
    """Base of applications that have no endpoints, and so no workers that answer them."""

    def worker(self, worker: Worker, endpoints: tuple[Endpoint, ...]) -> ProcessSpec:
        """There is none."""
        raise NotImplementedError(f"{self.name}: {worker.name} for {endpoints}")

    def endpoint(self, endpoint: Endpoint, load: Load) -> ProcessSpec:
        """There is none."""
        raise NotImplementedError(f"{self.name}: {endpoint.name} with {load}")

    @abstractmethod
    def driver(self, experiment: Experiment, plan: InfrastructurePlan) -> Driver:
        """Who carries out the repetitions; a pure function."""


@dataclass(frozen=True)
class Transport:
    """Bytes that cross beside the payload, per request and per answer, above TCP.

    `protocol_bytes` are the headers of the application's protocol (for MQTT: fixed header, topic);
    `answer_protocol_bytes` those of answers, None for as many.
    """

    protocol_bytes: int
    answer_protocol_bytes: int | None = None
