"""One snapshot of a deployment and its run, from all that is known. Pure, typed, and plain JSON.

The terminal and the page draw this and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from continuum.experiment.units import show_bytes
from continuum.infrastructure.links.measurement import deciding

if TYPE_CHECKING:
    from continuum.infrastructure.links.check import LinkMeasurement
    from continuum.infrastructure.plan import InfrastructurePlan, Link, MachineSpec
    from continuum.journal import Entry
    from continuum.live import LiveRun

Stage = Literal["nothing", "up", "changing", "running", "ended"]
"""`nothing` is there; a deployment is `up`, without a run; it is `changing`; a run is `running`, or
the last one has `ended`."""

Source = Literal["samples", "prometheus", "none"]

QUANTITIES = ("delay_ms", "jitter_ms", "loss_percent", "rate_mbit")


@dataclass(frozen=True)
class Usage:
    """What a machine takes now.

    Attributes:
        cores: processor time per time; None when it is not known.
        memory: bytes.
        history: cores over time, oldest first.
    """

    cores: float | None = None
    memory: float | None = None
    history: tuple[float, ...] = ()


@dataclass(frozen=True)
class Requests:
    """Requests of the run so far.

    Attributes:
        expected: of all repetitions; None when that is not known.
        answered, lost, timeout, error: how they ended; `lost` holds those that wait for longer
            than an answer may take.
        warmup: of the warm-up, which count nowhere else; None when they count with the others.
        waiting: sent and not answered yet; None when that is not known.
        per_second: answers, over the last `rate_seconds`.
        median_ms, p95_ms: latency from the intended time, over the last `latency_seconds`.
    """

    expected: int | None
    answered: int
    lost: int
    timeout: int
    error: int
    warmup: int | None
    waiting: int | None
    per_second: float | None
    median_ms: float | None
    p95_ms: float | None
    rate_seconds: int
    latency_seconds: int


@dataclass(frozen=True)
class Point:
    """What happened in some seconds; latency is None where nothing was answered.

    Attributes:
        at: their end, Unix time in seconds.
        failed: requests that were lost, late or wrong.
    """

    at: float
    per_second: float
    median_ms: float | None
    p95_ms: float | None
    failed: int


@dataclass(frozen=True)
class MachineView:
    """One machine. `cores` is what it may use, `used` what it uses of them; bytes.

    `problem` says why its figures are not known, "" when they are.
    """

    name: str
    tier: str
    state: str
    cores: float
    used: float | None
    memory: float | None
    memory_limit: int
    history: tuple[float, ...]
    host: str = ""
    problem: str = ""

    @property
    def share(self) -> float | None:
        """Of the cores that it may use, 0 … 1; a little more for a moment."""
        return None if self.used is None else self.used / self.cores


@dataclass(frozen=True)
class LinkView:
    """A link between two tiers or machines: asked and measured, by quantity, as `delay_ms`.

    A measured value is the mean over the pairs of machines that were measured. `ok` is None before
    that. A rate of None in `asked` means without a limit.
    """

    source: str
    destination: str
    asked: Mapping[str, float | None]
    measured: Mapping[str, float]
    ok: bool | None


@dataclass(frozen=True)
class StepView:
    """What is under way, and since when: Unix time in seconds."""

    phase: str
    name: str
    since: float


@dataclass(frozen=True)
class RunView:
    """The run. `repetition` counts from 1, 0 before the first; `fraction` is that of its load.

    `load` says in words how far it is; `report` is the path of the page, "" until it is there.
    """

    name: str
    status: str
    began: float
    noun: str
    repetition: int
    repetitions: int
    load: str
    fraction: float | None
    reasons: tuple[str, ...]
    results: str
    report: str


@dataclass(frozen=True)
class Snapshot:
    """All that is to be seen. `at` is Unix time in seconds; `advice` says what a person may do.

    Points of the timeline lie `point_seconds` apart.
    """

    at: float
    deployment: str
    provider: str
    made_up: bool
    stage: Stage
    steps: tuple[StepView, ...]
    run: RunView | None
    machines: tuple[MachineView, ...]
    links: tuple[LinkView, ...]
    requests: Requests | None
    timeline: tuple[Point, ...]
    point_seconds: int
    source: Source
    notes: tuple[str, ...]
    advice: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """What was found out: see `Snapshot`.

    Attributes:
        states: of the machines that exist, by name.
        entries: of the deployment's journal.
        live: its last run; `run_lasts`: whether that is under way.
        changing: whether a process holds the deployment's lock.
        gone: whether the deployment has been removed since.
        problems: why a machine does not tell what it takes, by name.
    """

    at: float
    deployment: str = ""
    provider: str = ""
    made_up: bool = False
    plan: InfrastructurePlan | None = None
    states: Mapping[str, str] = field(default_factory=dict)
    entries: Sequence[Entry] = ()
    live: LiveRun | None = None
    run_lasts: bool = False
    changing: bool = False
    gone: bool = False
    usage: Mapping[str, Usage] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    requests: Requests | None = None
    timeline: tuple[Point, ...] = ()
    point_seconds: int = 1
    source: Source = "none"
    notes: tuple[str, ...] = ()


def snapshot(known: Known) -> Snapshot:
    """What is to be seen of what is known."""
    stage = _stage(known)
    run = _run(known) if known.live is not None else None
    return Snapshot(
        at=known.at,
        deployment=known.deployment,
        provider=known.provider,
        made_up=known.made_up,
        stage=stage,
        steps=open_steps(known.entries) if known.changing or known.run_lasts else (),
        run=run,
        machines=_machines(known),
        links=_links(known),
        requests=known.requests,
        timeline=known.timeline,
        point_seconds=known.point_seconds,
        source=known.source,
        notes=known.notes,
        advice=_advice(known, stage, run),
    )


def open_steps(entries: Sequence[Entry]) -> tuple[StepView, ...]:
    """Steps that have begun and not ended, by the process that wrote last; outermost first."""
    if not entries:
        return ()
    process = entries[-1].process
    found: dict[tuple[str, str], StepView] = {}
    for each in entries:
        if each.process != process:
            continue
        if each.state == "started":
            found[each.phase, each.step] = StepView(each.phase, each.step, each.at)
        else:
            found.pop((each.phase, each.step), None)
    return tuple(found.values())


def _stage(known: Known) -> Stage:
    if not known.deployment:
        return "nothing"
    if known.run_lasts:
        return "running"
    if known.changing:
        return "changing"
    return "ended" if known.live is not None else "up"


def _advice(known: Known, stage: Stage, run: RunView | None) -> tuple[str, ...]:
    name = known.deployment
    match stage:
        case "nothing":
            return (
                "nothing is up: `continuum run FILE` begins a run, and it is shown here",
                "`continuum init my.toml` writes an experiment to start from",
            )
        case "up":
            return (
                f"no run yet: `continuum run FILE` begins one on {name}",
                f"`continuum down {name}` removes it",
            )
        case "ended" if run is not None:
            shown = (f"the report: {run.report}",) if run.report else ()
            removal = () if known.gone else (f"`continuum down {name}` removes the machines",)
            return (*shown, "the next run is shown here too", *removal)
        case _:
            return ()


def _run(known: Known) -> RunView:
    live = known.live
    assert live is not None
    current = max((stream.repetition for stream in live.streams), default=0)
    streams = [stream for stream in live.streams if stream.repetition == current]
    status = live.status
    if status == "running" and not known.run_lasts:
        status = "killed"
    load, fraction = "", None
    if streams and known.run_lasts:
        stream = streams[0]
        into = known.at - stream.start_ns / 1e9
        warmup, lasts = stream.lasts
        if into < warmup:
            load, fraction = f"warm-up, {max(0.0, into):.0f} of {warmup:g} s", 0.0
        elif into <= warmup + lasts:
            load, fraction = f"load, {into - warmup:.0f} of {lasts:g} s", (into - warmup) / lasts
        else:
            load, fraction = "waiting for the last answers", 1.0
    results = Path(live.results)
    ended = status not in {"running", "killed"}
    return RunView(
        name=live.run,
        status=status,
        began=live.began,
        noun=live.noun,
        repetition=current,
        repetitions=live.repetitions,
        load=load,
        fraction=fraction,
        reasons=live.reasons,
        results=live.results,
        report=str(results / "report.html") if ended else "",
    )


def _machines(known: Known) -> tuple[MachineView, ...]:
    if known.plan is None:
        return ()
    return tuple(_machine(known, spec) for spec in known.plan.machines)


def _machine(known: Known, spec: MachineSpec) -> MachineView:
    state = "removed" if known.gone else known.states.get(spec.name, "missing")
    usage = known.usage.get(spec.name, Usage())
    runs = state == "running"
    return MachineView(
        name=spec.name,
        tier=spec.tier,
        state=state,
        cores=spec.cores * spec.quota,
        used=usage.cores if runs else None,
        memory=usage.memory if runs else None,
        memory_limit=spec.memory,
        history=usage.history,
        host=spec.host,
        problem=known.problems.get(spec.name, ""),
    )


def _links(known: Known) -> tuple[LinkView, ...]:
    if known.plan is None:
        return ()
    measured = known.live.links if known.live is not None else ()
    return tuple(_link(link, measured) for link in known.plan.network.links)


def _link(link: Link, measured: Sequence[LinkMeasurement]) -> LinkView:
    settings = link.settings
    ours = [
        each
        for each in deciding(measured)
        if link.source in {each.from_tier, each.from_machine}
        and link.destination in {each.to_tier, each.to_machine}
    ]
    found: dict[str, float] = {}
    for quantity in QUANTITIES:
        values = [each.measured for each in ours if each.quantity == quantity]
        there = [value for value in values if value is not None]
        if there:
            found[quantity] = sum(there) / len(there)
    return LinkView(
        source=link.source,
        destination=link.destination,
        asked={
            "delay_ms": settings.delay_ms,
            "jitter_ms": settings.jitter_ms,
            "loss_percent": settings.loss_percent,
            "rate_mbit": settings.rate_mbit,
        },
        measured=found,
        ok=all(each.ok for each in ours) if ours else None,
    )


def show_memory(machine: MachineView) -> str:
    """`212 MiB of 1 GiB`, or "" when it is not known."""
    if machine.memory is None:
        return ""
    return f"{machine.memory / 2**20:.0f} MiB of {show_bytes(machine.memory_limit)}"
