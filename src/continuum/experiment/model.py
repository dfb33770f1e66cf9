"""What the user asked for: frozen types, and the rules over one field or several.

Both readers (`toml`, `cfg`) make an `Experiment`. Nothing here knows a provider, a manager or an
application: their own settings are checked by the plug-ins through `continuum.plugins`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_serializer,
    field_validator,
    model_validator,
)

from continuum import plugins, reasons
from continuum.errors import ContinuumError
from continuum.experiment.arrivals import POISSON_LIMIT, Kind
from continuum.experiment.names import NAME
from continuum.experiment.units import (
    Bytes,
    BytesPerSecond,
    Hertz,
    MegabitsPerSecond,
    Milliseconds,
    Percent,
    PositiveSeconds,
    Queue,
    Seconds,
)
from continuum.secret import Secret, shown

NAME_PATTERN = f"^{NAME.pattern}$"
HOST_PATTERN = (
    r"^([A-Za-z_][A-Za-z0-9_.-]*@)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$"
)
VERSION_PATTERN = r"^[0-9]+\.[0-9]+(\.[0-9]+)?$"
MACHINE_LIMIT = 4000
THIS_HOST = "this"
"""What the host that `continuum` is called on is named where hosts are named."""

PRIVATE_RANGES = tuple(
    map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
)
"""Ranges of machines' addresses (RFC 1918). Other ranges that nobody else on the internet has
mean something of their own on many hosts: 100.64/10 a provider's network, 198.18/15 a test's.
"""

RESERVED_NAMES = frozenset({"all", "host", "localhost", "ungrouped"})
"""Words that mean something else where tiers are named: to Ansible, and in `/etc/hosts`."""


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Fraction = Annotated[float, Field(ge=0.1, le=1.0)]
DelayTolerance = Annotated[Percent, Field(ge=1.0, le=10.0)]
JitterTolerance = Annotated[Percent, Field(ge=2.0, le=20.0)]
LossTolerance = Annotated[Percent, Field(ge=10.0, le=50.0)]
RateTolerance = Annotated[Percent, Field(ge=1.0, le=5.0)]
TimeTolerance = Annotated[Milliseconds, Field(ge=0.05, le=0.3)]


class Part(BaseModel):
    """Base of everything in an experiment: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class _WithSettings(Part):
    """A table with that of a plug-in in it. What is secret there shows as `***`."""

    @field_serializer("settings", check_fields=False)
    def _shown_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {key: shown({key: each})[key] for key, each in settings.items()}


class Infrastructure(_WithSettings):
    """Phase 1: who makes the machines.

    `settings` holds the table `[infrastructure.PROVIDER]`, checked by the provider.
    """

    provider: str = Field(
        default="lxc", description="What makes the machines: `lxc`, `fake`, or a plug-in."
    )
    internet: bool = Field(
        default=False, description="Give machines a way out to other networks through the host."
    )
    cpu_pin: bool = Field(
        default=False, description="Pin each core of a machine to a core of the host of its own."
    )
    address_block: str | None = Field(
        default=None,
        description="First address of the private block, as `10.20.0.0`; absent: a free one.",
    )
    bridge: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$",
        description="A bridge that every host has already, to be joined; absent: one of our own.",
    )
    this_host: bool = Field(
        default=True, description="Whether this host carries machines too, where `hosts` are named."
    )
    delete: bool = Field(default=False, description="Remove everything at the end of a run.")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="The provider's own settings.", repr=False
    )

    @field_validator("address_block")
    @classmethod
    def _private(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            address = ipaddress.IPv4Address(value)
        except ValueError as error:
            msg = f'"{value[:40]}" is not an IPv4 address, as 10.20.0.0'
            raise ValueError(msg) from error
        if not any(address in each for each in PRIVATE_RANGES):
            msg = f"{address} is not in a private range (10/8, 172.16/12, 192.168/16)"
            raise ValueError(msg)
        if int(address) % 256:
            msg = f"{address} does not start a /24; the last part must be 0"
            raise ValueError(msg)
        return str(address)


class Host(Part):
    """Another computer that carries machines, reached by SSH."""

    ssh: str = Field(
        pattern=HOST_PATTERN,
        description="As `user@host`, `user@host:port`, or a name that `ssh` knows.",
    )
    name: Name | None = Field(
        default=None, description="What it is called; absent: `host-1` and so on, by its place."
    )
    ssh_config: str | None = Field(
        default=None,
        description="Configuration file for `ssh -F`, relative to this file; absent: your own.",
    )
    folder: str | None = Field(
        default=None,
        pattern=r"^/[A-Za-z0-9/_.-]+$",
        description="Where machines and images are kept there; absent: root's own folders.",
    )


CLUSTER_MANAGERS = frozenset({"kubernetes", "kubeedge"})
"""Resource managers of ours that join machines to a cluster: known without a look at them, which
would import much. Those of other packages say it themselves."""

FUNCTION = "function"
"""The execution model that needs a cluster."""


class Tier(Part):
    """A group of equal machines."""

    machines: int = Field(
        default=1, ge=0, le=MACHINE_LIMIT, description="Number of machines in this tier."
    )
    cores: int = Field(default=1, ge=1, le=1024, description="Cores of each machine.")
    quota: Fraction = Field(
        default=1.0,
        description="Share of each core that a machine may use; what that means is the provider's.",
    )
    memory: Bytes = Field(default=2**30, ge=64 * 2**20, description="Memory of each machine.")
    disk_read: BytesPerSecond | None = Field(
        default=None, description="Most that a machine reads from disk; absent: no limit."
    )
    disk_write: BytesPerSecond | None = Field(
        default=None, description="Most that a machine writes to disk; absent: no limit."
    )
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Names of the hosts that may carry it, `this` for this one; absent: any.",
    )

    @field_validator("hosts", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class Link(Part):
    """Properties of the one-way path between tiers or machines.

    `between` sets both directions, `from` and `to` one. What is absent comes from the preset, or
    from an earlier entry for the same path, else is not emulated.
    """

    model_config = ConfigDict(populate_by_name=True)

    between: tuple[str, str] | None = Field(
        default=None, description="Two tiers or machines; both directions."
    )
    source: str | None = Field(
        default=None, alias="from", description="Tier or machine that sends; one direction."
    )
    destination: str | None = Field(
        default=None, alias="to", description="Tier or machine that receives; one direction."
    )
    delay: Milliseconds | None = Field(default=None, description="One way, on average.")
    jitter: Milliseconds | None = Field(
        default=None, description="Standard deviation of the delay, normal, as it wanders in time."
    )
    loss: Percent | None = Field(default=None, description="Packets that are dropped, at random.")
    rate: MegabitsPerSecond | None = Field(
        default=None,
        description="Of each sending machine to the whole of the destination, in all.",
    )
    queue: Queue | None = Field(
        default=None,
        description="What waits for the rate before more is dropped, as `100 ms` (at the rate) or "
        "`64 kB`; absent: the preset's, or see [the network](network.md#queues).",
    )

    @field_validator("between", mode="before")
    @classmethod
    def _pair(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _one_form(self) -> Link:
        if self.between is not None:
            if self.source is not None or self.destination is not None:
                msg = "give either `between` or `from` and `to`"
                raise ValueError(msg)
        elif self.source is None or self.destination is None:
            msg = 'a link needs `between = ["a", "b"]`, or `from` and `to`'
            raise ValueError(msg)
        return self

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """The directed paths that this entry speaks of."""
        if self.between is not None:
            first, second = self.between
            return ((first, second),) if first == second else ((first, second), (second, first))
        assert self.source is not None
        assert self.destination is not None
        return ((self.source, self.destination),)


class LinkCheck(Part):
    """The smallest deviations of links that the check before a run must find; only stricter ones
    than the defaults can be asked for, and take longer to measure.
    """

    delay: DelayTolerance = Field(
        default=10.0, description="Of the mean delay, as a share of what was asked, either way."
    )
    jitter: JitterTolerance = Field(default=20.0, description="The same of the jitter.")
    loss: LossTolerance = Field(
        default=50.0, description="`50 %`: half of the loss asked for, or twice as much."
    )
    rate: RateTolerance = Field(default=5.0, description="Of the rate, either way.")
    time: TimeTolerance = Field(
        default=0.3, description="Of delay and jitter no smaller deviation is looked for."
    )


class Tcp(Part):
    """The behaviour of TCP on every machine: the same on whatever host the machines are."""

    congestion_control: str = Field(
        default="cubic",
        pattern=r"^[a-z0-9_]{1,15}$",
        description="As the kernel calls it: `cubic`, `reno`, `bbr` and so on.",
    )
    receive_buffer: Bytes = Field(
        default=6 * 2**20,
        ge=4096,
        le=2**30,
        description="Most that a connection's receive buffer grows to; half of it or more is window.",
    )
    send_buffer: Bytes = Field(
        default=4 * 2**20,
        ge=4096,
        le=2**30,
        description="Most that a connection's send buffer grows to.",
    )
    ecn: Literal["off", "request", "accept"] = Field(
        default="accept",
        description="Explicit congestion notification; `accept`: when the other side requests it.",
    )


class Network(Part):
    """The emulated network between the machines."""

    preset: Literal["4g", "5g", "wired"] | None = Field(
        default=None,
        description="Links between tiers named cloud, edge and endpoint; what is written in links "
        "overrides it.",
    )
    emulator: str = Field(
        default="auto",
        description="What enforces the links; `auto` takes netem where the kernel has it, but nfqueue "
        "for jitter where it is compiled.",
    )
    all_pairs: bool = Field(
        default=False, description="Measure every pair of machines before a benchmark."
    )
    check: LinkCheck = Field(
        default=LinkCheck(), description="What the check before a run must find."
    )
    queue: Queue | None = Field(
        default=None, description="Of links that say nothing of their own, as `queue` of a link."
    )
    tcp: Tcp = Field(default_factory=Tcp, description="How TCP behaves on the machines.")
    links: tuple[Link, ...] = Field(
        default=(), description="Links, one table each; a later one overrides an earlier one."
    )

    @field_validator("links", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class Kubernetes(Part):
    """Settings of Kubernetes, for the managers that use it."""

    version: str | None = Field(
        default=None,
        pattern=VERSION_PATTERN,
        description="As `1.34` or `1.34.4`, in quotes; absent: the one that we test with.",
    )


class Serverless(Part):
    """Settings of the execution model `function`."""

    distribution: Literal["community", "builtin"] = Field(
        default="community",
        description="`community`: OpenFaaS Community Edition; `builtin`: ours.",
    )
    accept_licence: bool = Field(
        default=False,
        description="That you have read the licence of OpenFaaS Community Edition, and accept it.",
    )
    starts: int = Field(
        default=3,
        ge=0,
        le=100,
        description="How often a run measures each: the start of a function that is not there, the "
        "start from zero replicas, and the scaling out; 0: none.",
    )
    replicas: int = Field(
        default=3,
        ge=1,
        le=20,
        description="Replicas that scaling out ends with, on the machine of one worker; 1: it is "
        "not measured.",
    )


_TYPEABLE = re.compile(r"[!-~]{1,100}")


class Grafana(Part):
    """Settings of Grafana, where metrics are collected."""

    password: Secret | None = Field(
        default=None,
        description="What the user `admin` logs in with; absent: `admin`.",
    )
    password_file: str | None = Field(
        default=None,
        description="A file that holds the password and nothing else, relative to this file.",
    )

    @field_validator("password")
    @classmethod
    def _typeable(cls, value: Secret | None) -> Secret | None:
        if value is not None and not _TYPEABLE.fullmatch(value.open()):
            raise ValueError("must be 1 to 100 letters, digits and signs of ASCII, without spaces")
        return value


class Software(Part):
    """Phase 2: what is installed on the machines."""

    manager: str = Field(
        default="none",
        description="Who places workers: `none`, `kubernetes`, `kubeedge`, or a plug-in.",
    )
    execution_model: str = Field(
        default="process",
        description="How a worker runs: `process`, `container`, `function`, or a plug-in.",
    )
    runtime: Literal["containerd", "docker"] = Field(
        default="containerd", description="What runs containers."
    )
    services: tuple[str, ...] = Field(
        default=(), description="Services on every worker machine, beside those that are needed."
    )
    observability: bool = Field(
        default=False, description="Collect metrics of machines and workers while they run."
    )
    grafana: Grafana = Field(default=Grafana(), description="For `observability`.")
    kubernetes: Kubernetes = Field(
        default=Kubernetes(), description="For the managers that use Kubernetes."
    )
    serverless: Serverless | None = Field(
        default=None, description="For the execution model `function`."
    )

    @field_validator("services", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class Trace(Part):
    """Arrivals that a file holds."""

    file: str = Field(
        description="Times in seconds after the start of a repetition, one a line, in one column for "
        "all endpoints or in one for each; relative to this file."
    )


def _arrivals(value: object) -> object:
    if isinstance(value, Trace) or (isinstance(value, str) and value in ("periodic", "poisson")):
        return value
    if isinstance(value, dict) and [*value] == ["file"] and isinstance(value["file"], str):
        return Trace(file=value["file"])
    raise ValueError('must be "periodic", "poisson" or { file = "arrivals.csv" }')


Arrivals = Literal["periodic", "poisson"] | Trace


class Benchmark(_WithSettings):
    """Phase 3: what runs under load, and how.

    `settings` holds the table `[benchmark.APPLICATION]`, checked by the application.
    """

    application: str = Field(
        description="What is benchmarked: `image_classification`, `command`, or a plug-in."
    )
    workers: str = Field(
        default="", description="Tier of the workers; absent: edge, else cloud, else endpoint."
    )
    endpoints: str = Field(
        default="endpoint",
        description="Tier of the endpoints; empty for an application that has none.",
    )
    workers_per_machine: int = Field(
        default=1, ge=1, le=1000, description="Workers on each machine that carries any."
    )
    worker_cpu: float | None = Field(
        default=None,
        gt=0,
        le=1024,
        description="Cores that a worker may use; absent: what the machine has.",
    )
    worker_memory: Bytes | None = Field(
        default=None, description="Memory that a worker may use; absent: what the machine has."
    )
    endpoint_cpu: float | None = Field(
        default=None,
        gt=0,
        le=1024,
        description="Cores that an endpoint may use; absent: what the machine has.",
    )
    endpoint_memory: Bytes | None = Field(
        default=None, description="Memory that an endpoint may use; absent: what the machine has."
    )
    frequency: Hertz = Field(default=5.0, description="Requests per second of each endpoint.")
    arrivals: Annotated[Arrivals, BeforeValidator(_arrivals)] = Field(
        default="periodic",
        description="When requests are due: `periodic` from a random moment on in each endpoint and "
        "repetition, as a `poisson` process, or at the times in a file, which has no `frequency`.",
    )
    warmup: Seconds = Field(
        default=5.0, description="Load before each measured time; its samples are kept apart."
    )
    duration: PositiveSeconds = Field(default=60.0, description="Measured time of a repetition.")
    repetitions: int = Field(
        default=1, ge=1, le=1000, description="How often the load is given, each with its own seed."
    )
    answer_timeout: PositiveSeconds = Field(
        default=10.0,
        description="So long after it was due, a request without an answer counts as lost.",
    )
    accept: tuple[str, ...] = Field(
        default=(),
        description="Codes of reasons that are taken as data: a run that is `degraded` for these "
        "alone ends with exit code 0.",
    )
    seed: int = Field(
        default=1, ge=0, lt=2**63, description="From which all random choices follow."
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="The application's own settings.", repr=False
    )

    @field_validator("accept", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("accept")
    @classmethod
    def _known_codes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = reasons.unknown(value)
        if wrong:
            msg = (
                f'no reason has the code "{wrong[0][:40]}"; codes: {", ".join(reasons.ACCEPTABLE)}'
            )
            raise ValueError(msg)
        return value

    @property
    def arrival_kind(self) -> Kind:
        """The kind of the requests' arrivals, in one word."""
        return self.arrivals if isinstance(self.arrivals, str) else "file"


class Experiment(Part):
    """One experiment, whole. Equal experiments make equal deployments.

    A benchmark needs software: without a table of its own it gets the defaults.
    """

    name: Name = Field(
        description="Name of the deployment; absent: the file's. Lower-case letters, digits and "
        "dashes, a letter first, at most 31."
    )
    infrastructure: Infrastructure = Field(
        default=Infrastructure(), description="Who makes the machines."
    )
    hosts: tuple[Host, ...] = Field(
        default=(), description="Other computers that carry machines, beside this one."
    )
    tiers: dict[Name, Tier] = Field(
        description="Groups of equal machines, by name: cloud, edge and endpoint by custom."
    )
    network: Network | None = Field(
        default=None, description="The emulated network; absent: nothing is emulated."
    )
    software: Software | None = Field(
        default=None,
        description="What is installed; absent: nothing, or the defaults where a benchmark is.",
    )
    benchmark: Benchmark | None = Field(
        default=None, description="What runs under load; absent: nothing."
    )

    @field_validator("hosts", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="before")
    @classmethod
    def _software_of_benchmark(cls, values: object) -> object:
        if not isinstance(values, dict) or values.get("benchmark") is None:
            return values
        return {**values, "software": {}} if values.get("software") is None else values

    @property
    def host_names(self) -> tuple[str, ...]:
        """Names of the other hosts, in the order of the file."""
        return tuple(
            host.name or f"host-{number}" for number, host in enumerate(self.hosts, start=1)
        )

    @property
    def machine_count(self) -> int:
        """Machines of all tiers."""
        return sum(tier.machines for tier in self.tiers.values())

    def machine_names(self, tier: str) -> tuple[str, ...]:
        """Names of a tier's machines, as `edge-1`."""
        return tuple(f"{tier}-{number + 1}" for number in range(self.tiers[tier].machines))

    @property
    def all_machine_names(self) -> tuple[str, ...]:
        """Names of the machines of all tiers, tier by tier."""
        return tuple(name for tier in self.tiers for name in self.machine_names(tier))

    @property
    def worker_tier(self) -> str:
        """The tier whose machines carry workers; it is the endpoints' own when nothing is sent."""
        assert self.benchmark is not None
        if self.benchmark.workers:
            return self.benchmark.workers
        for tier in ("edge", "cloud"):
            if tier in self.tiers and self.tiers[tier].machines > 0:
                return tier
        return self.benchmark.endpoints

    @property
    def worker_machines(self) -> tuple[str, ...]:
        """Names of the machines that carry workers: the tier's, without the control plane."""
        control = self.control_machine
        return tuple(name for name in self.machine_names(self.worker_tier) if name != control)

    @property
    def in_a_cluster(self) -> bool:
        """Whether a resource manager joins machines to a cluster."""
        return self.software is not None and _has_cluster(self.software.manager)

    @property
    def workers_as_functions(self) -> bool:
        """Whether the execution model is `function`."""
        return self.software is not None and self.software.execution_model == FUNCTION

    @property
    def workers_in_containers(self) -> bool:
        """Whether workers run in containers: the execution model is `container` or `function`."""
        return self.workers_as_functions or (
            self.software is not None and self.software.execution_model == "container"
        )

    @property
    def carries_containers(self) -> bool:
        """Whether machines carry containers: pods of a cluster, or workers."""
        return self.in_a_cluster or self.workers_in_containers

    @property
    def node_machines(self) -> tuple[str, ...]:
        """Names of the machines that can carry containers: all but the endpoints' tier."""
        endpoints = self.benchmark.endpoints if self.benchmark else "endpoint"
        return tuple(
            name
            for tier in self.tiers
            if tier != endpoints or len(self.tiers) == 1
            for name in self.machine_names(tier)
        )

    @property
    def control_machine(self) -> str | None:
        """The cluster's control plane: the cloud's first machine, or the first of all without a
        cloud; None without a cluster.
        """
        if not self.in_a_cluster:
            return None
        nodes = self.node_machines
        cloud = self.machine_names("cloud") if "cloud" in self.tiers else ()
        return next(iter((*(name for name in cloud if name in nodes), *nodes)), None)

    @property
    def observed(self) -> bool:
        """Whether metrics are collected."""
        software = self.software
        return software is not None and (
            software.observability or "observability" in software.services
        )

    @property
    def observing_machine(self) -> str | None:
        """Where metrics are collected: the control plane, else the cloud's first machine, else the
        first of all; None when none are.
        """
        if not self.observed:
            return None
        cloud = self.machine_names("cloud") if "cloud" in self.tiers else ()
        return self.control_machine or next(iter((*cloud, *self.all_machine_names)), None)


def _has_cluster(manager: str) -> bool:
    if manager in plugins.built_in("managers"):
        return manager in CLUSTER_MANAGERS
    try:
        return bool(plugins.load("managers", manager).cluster)
    except ContinuumError:
        return False  # Whoever needs the manager itself tells why it is not there.


def problems_over_fields(experiment: Experiment) -> list[tuple[tuple[str | int, ...], str]]:
    """Rules over several fields: (path of the field to blame, what is wrong), all of them."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    if experiment.machine_count == 0:
        found.append((("tiers",), "at least one tier needs a machine"))
    if experiment.machine_count > MACHINE_LIMIT:
        found.append(
            (("tiers",), f"{experiment.machine_count} machines; at most {MACHINE_LIMIT} in all")
        )
    found += _host_problems(experiment)
    found += _tier_problems(experiment)
    found += _network_problems(experiment)
    found += _software_problems(experiment)
    found += _benchmark_problems(experiment)
    return found


def _host_problems(experiment: Experiment) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    names = experiment.host_names
    for index, (name, host) in enumerate(zip(names, experiment.hosts, strict=True)):
        if name == THIS_HOST:
            found.append((("hosts", index, "name"), f'"{THIS_HOST}" is what this host is called'))
        elif name in names[:index]:
            found.append((("hosts", index), f'two hosts are called "{name}"'))
        elif host.ssh in [each.ssh for each in experiment.hosts[:index]]:
            found.append((("hosts", index, "ssh"), f"{host.ssh} is named twice"))
    carrying = (THIS_HOST, *names) if experiment.infrastructure.this_host else names
    if not carrying:
        found.append((("infrastructure", "this_host"), "no other host carries machines: name one"))
    for name, tier in experiment.tiers.items():
        unknown = [each for each in tier.hosts if each not in carrying]
        if unknown:
            found.append(
                (
                    ("tiers", name, "hosts"),
                    f'no host "{unknown[0][:40]}" carries machines; hosts: {", ".join(carrying)}',
                )
            )
    return found


def _tier_problems(experiment: Experiment) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    for name in experiment.tiers:
        if name in RESERVED_NAMES:
            found.append((("tiers", name), f'a tier cannot be called "{name}"'))
        group, _, number = name.rpartition("-")
        if group in experiment.tiers and number in map(
            str, range(1, experiment.tiers[group].machines + 1)
        ):
            found.append(
                (("tiers", name), f'tier "{name}" is called like a machine of tier "{group}"')
            )
    return found


def _network_problems(experiment: Experiment) -> list[tuple[tuple[str | int, ...], str]]:
    if experiment.network is None:
        return []
    known = set(experiment.tiers)
    for tier in experiment.tiers:
        known.update(experiment.machine_names(tier) if experiment.machine_count < 10**5 else ())
    found: list[tuple[tuple[str | int, ...], str]] = []
    for index, link in enumerate(experiment.network.links):
        for end in dict.fromkeys(end for pair in link.directions for end in pair):
            if end not in known:
                tiers = ", ".join(experiment.tiers)
                found.append(
                    (
                        ("network", "links", index),
                        f'link to an unknown tier or machine "{end[:40]}"; tiers: {tiers}',
                    )
                )
        if link.queue and not _has_rate(experiment.network, index):
            found.append(
                (
                    ("network", "links", index, "queue"),
                    "a link without a rate has no queue: give it a rate too",
                )
            )
        if link.jitter and link.delay is not None and link.jitter > link.delay:
            found.append(
                (
                    ("network", "links", index, "jitter"),
                    f"jitter {link.jitter:g} ms is larger than the delay {link.delay:g} ms",
                )
            )
    return found


def _has_rate(network: Network, index: int) -> bool:
    """Tell whether a link may have a rate: its own, the preset's, or that of an earlier entry."""
    earlier = network.links[: index + 1]
    return network.preset is not None or any(each.rate is not None for each in earlier)


def _software_problems(experiment: Experiment) -> list[tuple[tuple[str | int, ...], str]]:
    software = experiment.software
    if software is None or not experiment.workers_as_functions:
        return []
    if not experiment.in_a_cluster:
        managers = " or ".join(f'"{name}"' for name in sorted(CLUSTER_MANAGERS, reverse=True))
        reason = f'functions need software.manager = {managers}, not "{software.manager[:40]}"'
        return [(("software", "execution_model"), reason)]
    benchmark = experiment.benchmark
    if benchmark is not None and experiment.worker_tier == benchmark.endpoints:
        reason = f'functions need a tier of their own; "{benchmark.endpoints}" is the endpoints\''
        return [(("software", "execution_model"), reason)]
    return []


def _benchmark_problems(experiment: Experiment) -> list[tuple[tuple[str | int, ...], str]]:
    benchmark = experiment.benchmark
    if benchmark is None:
        return []
    found: list[tuple[tuple[str | int, ...], str]] = []
    tiers = ", ".join(experiment.tiers)
    for field, tier in (("workers", benchmark.workers), ("endpoints", benchmark.endpoints)):
        if tier and tier not in experiment.tiers:
            reason = f'no tier "{tier[:40]}" for the {field}; tiers: {tiers}'
            found.append((("benchmark", field), reason))
        elif tier and experiment.tiers[tier].machines == 0:
            reason = f'tier "{tier}", which carries the {field}, has no machines'
            found.append((("benchmark", field), reason))
    if not benchmark.workers and not experiment.worker_tier:
        reason = (
            f"no tier carries workers: there is no edge, cloud or endpoint; name one of {tiers}"
        )
        found.append((("benchmark", "workers"), reason))
    requests = benchmark.frequency * (benchmark.warmup + benchmark.duration)
    if benchmark.arrivals == "poisson" and requests > POISSON_LIMIT:
        reason = f"{requests:,.0f} requests of each endpoint are too many to draw"
        found.append(
            (("benchmark", "arrivals"), f"{reason}; at most {POISSON_LIMIT:,} as `poisson`")
        )
    return found
