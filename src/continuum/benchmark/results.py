"""A results folder: `run.json`, and the files beside it.

run.json           what is described here
samples.parquet    one row per request; absent when no benchmark ran
links.parquet      asked and measured; absent when no links were measured
resources.parquet  processor and memory over time; absent when they were not noted
stalls.parquet     when hosts did not run; absent where they always ran, or were not watched
series.parquet     what `observability` saw over time; absent without it
link_series.parquet  what the emulator did to packets over time; absent where it does not count
report.html        made from the others
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, field_validator

from continuum import folders, state_file
from continuum.benchmark.reasons import Reason
from continuum.benchmark.record import Record
from continuum.errors import NotFound, StepFailed
from continuum.secret import masked
from continuum.state_file import Damaged

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = "1"
RUN_FILE = "run.json"
SAMPLES_FILE = "samples.parquet"
LINKS_FILE = "links.parquet"
RESOURCES_FILE = "resources.parquet"
STALLS_FILE = "stalls.parquet"
SERIES_FILE = "series.parquet"
LINK_SERIES_FILE = "link_series.parquet"
REPORT_FILE = "report.html"
LOGS_FOLDER = "logs"

LABELS = {
    "latency_ms": "end-to-end latency",
    "late_ms": "started late",
    "preparation_ms": "preparation",
    "forward_ms": "forward delay",
    "queue_ms": "wait at the worker",
    "processing_ms": "processing",
    "return_ms": "return",
    "request_bytes": "request size",
}
"""What each quantity is called, in the order of the table. Forward delay and return are one-way."""

GroupKind = Literal["all", "endpoint", "worker"]
Level = Literal["", "run", "repetitions"]
Status = Literal["done", "degraded", "failed", "interrupted"]
Verdict = Literal["as expected", "differs", "not shown"]


class Figure(Record):
    """A value and its 95 % interval; the interval's ends are None when it cannot be said."""

    value: float
    low: float | None = None
    high: float | None = None


class Percentile(Record):
    """A percentile and its 95 % interval, in which samples without an answer count as infinite.

    `value` is None when it is one of those: it then is more than `above`. When that is None too,
    too few samples lie beyond it. An end of the interval is None when it cannot be said.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    above: float | None = None


class Statistic(Record):
    """One quantity of one group of samples. `n` counts the samples that have the quantity.

    Attributes:
        label: what an application calls the quantity; empty for one of `LABELS`.
        unanswered: samples without an answer that percentiles count as infinite.
        repetitions: how many have the quantity; 0 in what earlier versions wrote.
        level: what intervals are over: `repetitions`, or samples within this one `run`; empty in
            what earlier versions wrote, of which every interval is a bootstrap.
        deviation: the samples' standard deviation (n - 1), None for a single sample.
        maximum: None in what earlier versions wrote.
    """

    quantity: str
    label: str = ""
    unit: str
    n: int
    unanswered: int = 0
    repetitions: int = 0
    level: Level = ""
    mean: Figure
    deviation: Figure | None
    p50: Percentile
    p95: Percentile
    p99: Percentile
    maximum: Percentile | None = None


class Group(Record):
    """All samples, or those of one endpoint or one worker.

    Attributes:
        kind: `all`, `endpoint` or `worker`.
        name: the endpoint's or worker's, `all` for all.
        samples: requests after the warm-up; `ok` + `lost` + `timeout` + `error`.
        warmup: requests of the warm-up, which count nowhere else.
        judged: samples whose result could be judged; `agreed`: those whose result was right.
        seconds: from the first request that was due to the last answer, summed over repetitions;
            None without an answer.
        statistics: over the samples with status `ok`.
    """

    kind: GroupKind
    name: str
    samples: int
    ok: int
    lost: int
    timeout: int
    error: int
    warmup: int = 0
    judged: int = 0
    agreed: int = 0
    seconds: float | None = None
    statistics: tuple[Statistic, ...] = ()

    @property
    def agreement(self) -> float | None:
        """Share of the judged samples that agree, 0 … 1; None when none could be judged."""
        return self.agreed / self.judged if self.judged else None

    @property
    def unanswered(self) -> int:
        """Samples that are not `ok`."""
        return self.samples - self.ok

    def statistic(self, quantity: str) -> Statistic | None:
        """The statistic of a quantity; None when no sample has it."""
        return next((each for each in self.statistics if each.quantity == quantity), None)


class Baseline(Record):
    """The time of a request's step in ms where no emulated link is crossed: the programs' share.

    Attributes:
        quantity: `forward_ms` or `return_ms`.
        n: requests that it was measured on.
        deviation: standard deviation of a single one.
    """

    quantity: str
    n: int
    mean: float
    deviation: float


class Expectation(Record):
    """The expectation from the declared links and the queues before them, beside what was measured.

    In ms. What is expected is None when it cannot be said; `why_not` says why, or why a verdict
    could not be had.

    Attributes:
        kind, name: the group of samples, as in `Group`.
        quantity: `forward_ms`, `queue_ms`, `return_ms` or `latency_ms`.
        baseline_ms: how much of what is expected the programs take, as measured without links.
        low_ms, high_ms: the 95 % interval of the measured mean minus the expected one, with what is
            not known of the programs' share; None when it has none.
        tolerance_ms: how far the means may lie apart.
        verdict: `as expected` when the whole interval is within the tolerance, `differs` when it is
            outside, else `not shown`; None when nothing is expected, and in folders of before.
        within: the same as true, false, and None.
    """

    kind: GroupKind
    name: str
    quantity: str
    n: int
    expected_mean: float | None = None
    expected_p50: float | None = None
    measured_mean: float
    measured_p50: float
    baseline_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    tolerance_ms: float | None = None
    verdict: Verdict | None = None
    within: bool | None = None
    why_not: str = ""

    def judged(self, verdict: Verdict, why_not: str) -> Expectation:
        """The same with its verdict, and why it could not be another."""
        within = {"as expected": True, "differs": False, "not shown": None}[verdict]
        return self.model_copy(update={"verdict": verdict, "within": within, "why_not": why_not})

    @property
    def difference_ms(self) -> float | None:
        """Measured mean minus expected mean."""
        return None if self.expected_mean is None else self.measured_mean - self.expected_mean

    @property
    def difference_percent(self) -> float | None:
        """The same in percent of what is expected; None when nothing, or less than 1 µs, is."""
        if self.expected_mean is None or abs(self.expected_mean) < 1e-3:
            return None
        return 100 * (self.measured_mean - self.expected_mean) / self.expected_mean


class MachineRecord(Record):
    """One machine. `memory` in bytes, `quota` a share of each core; `ssh` is a whole command; `host`
    the name of the host that carries it, "" for the one that the run was started on; `isolation`
    what separates its root from that host, as `user namespace`, "" where that is not known.
    """

    name: str
    tier: str
    address: str
    cores: int
    quota: float
    memory: int
    ssh: str = ""
    host: str = ""
    isolation: str = ""


class LimitRecord(Record):
    """One limit of a machine, as `up` measured it; it stands for its tier on its host.

    Attributes:
        limit: `cores` and `cpu_pin` in cores, `memory` in bytes, `disk_read` and `disk_write` in
            bytes per second.
        measured: in the same unit; None where nothing could be measured.
        verdict: `holds`: as asked; `at most`: no more than asked, and the host had no more to give;
            `not shown`, which is a reason of the run.
        note: why it is not as asked.
    """

    machine: str
    tier: str
    host: str = ""
    limit: str
    asked: float
    measured: float | None = None
    verdict: str
    note: str = ""


class WorkerRecord(Record):
    """One worker and where it ran. `cpu` in cores, `memory` in bytes, None without a limit;
    `servers` requests that it works on at a time, None when that is not known.
    """

    name: str
    machine: str
    cpu: float | None = None
    memory: int | None = None
    servers: int | None = None


class EndpointRecord(WorkerRecord):
    """One endpoint. `worker` answered it; None when it answered itself: it has `servers` then."""

    worker: str | None = None


class LoadRecord(Record):
    """The demand on a worker as a share of its capacity; see `continuum.benchmark.loads`.

    Attributes:
        name: the worker's, an endpoint's that answers itself, or `all` for all together.
        servers: requests that it works on at a time; None when that is not known.
        arrivals: requests per second that were due.
        service_ms: mean time to process one; None when no sample tells it.
        load: arrivals times service over servers: 1 is all that it can do. None when it cannot be
            said.
    """

    name: str
    servers: int | None = None
    arrivals: float
    service_ms: float | None = None
    load: float | None = None


class StartRecord(Record):
    """How long a worker took to be there.

    Attributes:
        kind: `cold`: from the call that deploys it until its first answer; `zero`: from a call of
            one without replicas until its answer; `out`: from the call that asks for `replicas`
            until all are ready.
        number: of the measurement of its kind, from 1.
        moments: for `out`, seconds until each further replica was ready.
    """

    worker: str
    kind: Literal["cold", "zero", "out"]
    number: int
    seconds: float
    replicas: int = 1
    moments: tuple[float, ...] = ()


class FunctionsRecord(Record):
    """Where functions are called, and by whom they are managed.

    Attributes:
        distribution: `community` or `builtin`.
        gateway: its URL, "" when it is gone.
        user: who may use its API.
        credentials: the command that prints the password, "" when it is gone.
    """

    distribution: str
    gateway: str = ""
    user: str = ""
    credentials: str = ""


class LinkRecord(Record):
    """A directed class of traffic as it was asked for; ends are names of tiers or machines.

    `queue_bytes` wait for the rate before more is dropped; None without a rate.
    """

    source: str
    destination: str
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss_percent: float = 0.0
    rate_mbit: float | None = None
    queue_bytes: int | None = None


class ClockReading(Record):
    """A machine's clock minus this host's, give or take `bound_ns`. Never subtracted.

    Attributes:
        repetition: from 1.
        when: `before` or `after` the repetition.
        at_ns: Unix time by this host's clock.
        datagrams: whether the exchanges went by UDP; else through the connection of commands,
            which takes longer and bounds less.
    """

    machine: str
    repetition: int
    when: Literal["before", "after"]
    at_ns: int
    offset_ns: int
    bound_ns: int
    datagrams: bool = True


class Clock(Record):
    """How the machines' clocks relate. On one kernel they are one clock, and nothing is read."""

    one_clock: bool = True
    readings: tuple[ClockReading, ...] = ()


class ThrottlingRecord(Record):
    """Throttling by a machine's quota: in `throttled` of `periods`, for `ms` of all its cores."""

    machine: str
    periods: int
    throttled: int
    ms: float


class HostShareRecord(Record):
    """The share of itself that a host gave to one repetition. Percentages are of its cores' time.

    Attributes:
        repetition: from 1; 0: the link check.
        host: its name, "" for the one that the run was started on.
        seconds: how long it was watched.
        stalls: times of more than a millisecond in which a core did not run; None, as all that
            is told of them, without a sentinel. `stalled_ms` is their sum, `longest_ms` the longest,
            `stalled_percent` their share.
        stalls_left_out: stalls that are in `stalls` only.
        period_ms: between two wake-ups of the sentinel on a core.
        real_time: whether it came before all else; if not, the host's own programs are in it.
        lateness_p50_ms, lateness_p99_ms, lateness_max_ms: of its wake-ups.
        steal_percent: what whoever runs the host kept from it.
        busy_percent: with programs and interrupts; `foreign_percent` with programs that are not the
            experiment's, None where these cannot be told apart.
        saturated_percent: share of the time in which hardly a core was free; `crowded_percent`: in
            which programs that are not the experiment's had a quarter of the host, too.
        pressure_percent: share of the time in which some program waited for a core, or for its quota.
        load_before, ready_before: load average of the minute before, and threads that were ready.
        governor: of the first core's frequency.
        clock_step_ms: by how much the host's clock was set meanwhile.
        throttling: of its machines.
    """

    repetition: int
    host: str = ""
    seconds: float
    cores: int
    stalls: int | None = None
    stalled_ms: float | None = None
    stalled_percent: float | None = None
    longest_ms: float | None = None
    stalls_left_out: int = 0
    period_ms: float | None = None
    real_time: bool | None = None
    lateness_p50_ms: float | None = None
    lateness_p99_ms: float | None = None
    lateness_max_ms: float | None = None
    steal_percent: float
    busy_percent: float
    foreign_percent: float | None = None
    saturated_percent: float
    crowded_percent: float | None = None
    pressure_percent: float | None = None
    load_before: float
    ready_before: int
    governor: str | None = None
    clock_step_ms: float
    throttling: tuple[ThrottlingRecord, ...] = ()


class Run(Record):
    """Everything that `run.json` holds.

    Attributes:
        run: name of the run, unique within its deployment.
        status: `done`; `degraded`: something that should have held did not; `failed`;
            `interrupted`.
        reasons: why it is not `done`.
        accept: codes of reasons that whoever began the run accepts as data.
        started, finished: ISO 8601 with offset.
        versions: of `continuum`, `python`, `kernel`, `lxc`, `ansible`, and what the image holds.
        host: facts of the host, as `continuum.host_facts.host_facts` gathers them.
        hashes: of the `experiment`, the `plan`, the `image`, the `arrivals` of a file.
        seeds: the benchmark's own, and each endpoint's in each repetition.
        emulator: what enforced the links; empty when nothing is emulated.
        tcp: how TCP behaved, by the names of the kernel's settings, as read from the machines;
            where they differ, each value with the machines that have it.
        link_check_seconds: how long the check of the links took; None when there was none.
        made_up: whether machines and figures exist on paper only, as those of the provider `fake`.
        quota_covers: `machine` when a quota caps the sum over a machine's cores, `core` when each.
        noun: what one sample is: `request`, or what the application calls it.
        limits: what the machines' limits measured when they were brought up.
        baseline: what programs take where no link is crossed; empty where that was not measured.
        table: first the group of all samples, then every endpoint, then every worker.
        loads: of all workers together, then of each.
        experiment: as resolved; `experiment_text`: as written, in `experiment_file`.
        remove: the command that removes the deployment; empty when it is gone.
        cluster: the command that speaks with its cluster; empty when it has none.
        logs: files in the results folder that hold what machines, workers and pods said.
        functions: about the gateway of functions; None without one.
        starts: how long a function took to be there, where that was measured.
        host_share: what each host gave to the link check and to each repetition.
        unstalled: the groups of `table` over the requests alone that no stall of a host overlaps;
            empty where that leaves nothing out, or is not known.
        stalled: how many requests a stall overlaps.
    """

    schema_version: Literal["1"] = "1"
    run: str
    deployment: str
    status: Status
    reasons: tuple[Reason, ...] = ()
    accept: tuple[str, ...] = ()
    started: str
    finished: str
    versions: dict[str, str] = Field(default_factory=dict)
    host: dict[str, str | int | float | None] = Field(default_factory=dict)
    hashes: dict[str, str] = Field(default_factory=dict)
    seeds: dict[str, int] = Field(default_factory=dict)
    clock: Clock = Clock()
    provider: str = ""
    emulator: str = ""
    tcp: dict[str, str] = Field(default_factory=dict)
    made_up: bool = False
    quota_covers: str = ""
    machines: tuple[MachineRecord, ...] = ()
    limits: tuple[LimitRecord, ...] = ()
    workers: tuple[WorkerRecord, ...] = ()
    endpoints: tuple[EndpointRecord, ...] = ()
    links: tuple[LinkRecord, ...] = ()
    link_check_seconds: float | None = None
    noun: str = "request"
    table: tuple[Group, ...] = ()
    expectation: tuple[Expectation, ...] = ()
    loads: tuple[LoadRecord, ...] = ()
    baseline: tuple[Baseline, ...] = ()
    experiment: dict[str, Any] = Field(default_factory=dict)
    experiment_text: str = ""
    experiment_file: str = ""
    remove: str = ""
    cluster: str = ""
    notes: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    functions: FunctionsRecord | None = None
    starts: tuple[StartRecord, ...] = ()
    host_share: tuple[HostShareRecord, ...] = ()
    unstalled: tuple[Group, ...] = ()
    stalled: int = 0

    @field_validator("reasons", mode="before")
    @classmethod
    def _plain_sentences(cls, value: object) -> object:
        """Earlier versions kept sentences without a code."""
        if not isinstance(value, list | tuple):
            return value
        return tuple(
            {"code": "", "sentence": each} if isinstance(each, str) else each for each in value
        )

    @property
    def accepted(self) -> bool:
        """Tell whether it is `degraded` for reasons alone that were accepted."""
        return self.status == "degraded" and all(
            reason.code in self.accept for reason in self.reasons
        )

    @property
    def all(self) -> Group | None:
        """The group of all samples; None when no benchmark ran."""
        return next((group for group in self.table if group.kind == "all"), None)

    def groups(self, kind: str) -> tuple[Group, ...]:
        """The groups of all endpoints, or of all workers."""
        return tuple(group for group in self.table if group.kind == kind)


@dataclass(frozen=True)
class Results:
    """A results folder that was read. Tables are None when their file is absent."""

    folder: Path
    run: Run
    samples: pa.Table | None
    links: pa.Table | None
    resources: pa.Table | None = None
    series: pa.Table | None = None
    link_series: pa.Table | None = None
    stalls: pa.Table | None = None
    mismatch: str = ""
    """Reason why the samples are not those of `run.json`, and what was done about it; "" when they are."""

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Read a results folder.

        Raises:
            NotFound: there is no such folder, or it holds no `run.json`.
            StepFailed: a file in it cannot be read.
        """
        from continuum.benchmark import recount  # noqa: PLC0415  slow to import
        from continuum.benchmark import samples as tables  # noqa: PLC0415  slow to import

        run = read_run(folder)
        taken, sha256 = None, ""
        if os.path.lexists(folder / SAMPLES_FILE):
            content = tables.table_bytes(folder / SAMPLES_FILE)
            taken = tables.decode_samples(content, folder / SAMPLES_FILE)
            sha256 = recount.digest(content)
        matched = recount.matched(run, taken, sha256)
        links = folder / LINKS_FILE
        resources, series = folder / RESOURCES_FILE, folder / SERIES_FILE
        link_series = folder / LINK_SERIES_FILE
        stalls = folder / STALLS_FILE
        return cls(
            folder=folder,
            run=matched,
            mismatch="" if matched is run else matched.notes[0],
            samples=taken,
            links=tables.read_links(links) if os.path.lexists(links) else None,
            resources=tables.read_resources(resources) if os.path.lexists(resources) else None,
            series=tables.read_series(series) if os.path.lexists(series) else None,
            link_series=(
                tables.read_link_series(link_series) if os.path.lexists(link_series) else None
            ),
            stalls=tables.read_stalls(stalls) if os.path.lexists(stalls) else None,
        )


def run_text(run: Run) -> str:
    """The content of `run.json`."""
    return json.dumps(masked.values(run.model_dump(mode="json")), indent=2, ensure_ascii=False)


def write_run(folder: Path, run: Run) -> Path:
    """Write `run.json`; returns its path."""
    path = folder / RUN_FILE
    content = run_text(run)
    # Half a surrogate pair, which text from outside may hold, has no place in UTF-8.
    folders.write_file(path, content.encode("utf-8", "backslashreplace") + b"\n")
    return path


def read_run(folder: Path) -> Run:
    """Read `run.json`.

    Raises:
        NotFound: there is no such folder, or it holds no `run.json`.
        StepFailed: the file is none of ours, or of a schema version that is not known here.
    """
    path = folder / RUN_FILE
    if not folder.is_dir():
        raise NotFound(f"no folder {folder}", hint="give the folder that `continuum run` named")
    content = state_file.read_bytes(path)
    if content is None:
        raise NotFound(
            f"no results in {folder}: it holds no {RUN_FILE}",
            hint="give the folder that `continuum run` named",
        )
    if isinstance(content, Damaged):
        raise StepFailed(f"{RUN_FILE} cannot be read: {content.reason}", where=str(path))
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StepFailed(f"{RUN_FILE} is not JSON: {error}", where=str(path)) from error
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if version != SCHEMA_VERSION:
        raise StepFailed(
            f"{RUN_FILE} has schema version {str(version)[:40]}; "
            f"this version of Continuum reads {SCHEMA_VERSION}",
            where=str(path),
            hint="use the version of Continuum that wrote it",
        )
    try:
        return Run.model_validate(fields)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
            for each in error.errors()
        ]
        raise StepFailed(
            f"{RUN_FILE} does not hold a run", where=str(path), output="\n".join(problems[:20])
        ) from error
