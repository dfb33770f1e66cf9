"""The tables of a run as rows of text, for the terminal and the page alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from continuum.benchmark.results import LABELS, Expectation, Figure, Group, Run, Statistic
from continuum.reasons import ACCEPTABLE
from continuum.report import format as show
from continuum.report.clocks import ClockError, Clocks

if TYPE_CHECKING:
    import pyarrow as pa

MADE_UP = "These machines exist on paper only: every figure here is made up."

LINK_LABELS = {
    "delay_ms": ("delay", "ms"),
    "jitter_ms": ("jitter", "ms"),
    "loss_percent": ("loss", "%"),
    "rate_mbit": ("rate", "Mbit/s"),
}


def accepted(run: Run) -> str:
    """The reasons of a run that were accepted, for its first line; empty where none was."""
    codes = dict.fromkeys(reason.code for reason in run.reasons if reason.code in run.accept)
    return f"  (accepted: {', '.join(codes)})" if codes else ""


def reasons(run: Run) -> list[str]:
    """Why a run is not `done`, a line each, with the code that accepts it."""
    return [
        f"{reason.sentence} [{reason.code}]" if reason.code in ACCEPTABLE else reason.sentence
        for reason in run.reasons
    ]


@dataclass(frozen=True)
class Cell:
    """A figure and its 95 % interval, both as text; `interval` is empty when there is none.

    A figure of which the clocks may make up more than a tenth is marked. `clocks` is what they add
    to it, where that stands beside the figure.
    """

    value: str
    interval: str = ""
    clocks: str = ""


@dataclass(frozen=True)
class StatisticRow:
    """One quantity of one group of samples.

    `clocks` is what the machines' clocks add to it; empty for what compares none.
    """

    quantity: str
    label: str
    unit: str
    n: int
    mean: Cell
    deviation: Cell
    p50: Cell
    p95: Cell
    p99: Cell
    clocks: str = ""


@dataclass(frozen=True)
class GroupRow:
    """One endpoint or worker in one line: the figures that a person looks for first."""

    name: str
    samples: int
    unanswered: int
    seconds: str
    agreement: str
    latency: Cell
    latency_deviation: str
    latency_p95: Cell
    preparation: Cell
    forward: Cell
    forward_deviation: str
    processing: Cell
    size: str


@dataclass(frozen=True)
class ExpectationRow:
    """What was expected beside what was measured, in ms. `within` is None when nothing was."""

    name: str
    label: str
    n: int
    expected_mean: str
    measured_mean: str
    difference: str
    percent: str
    expected_p50: str
    measured_p50: str
    tolerance: str
    within: bool | None
    why_not: str
    clocks: str = ""


@dataclass(frozen=True)
class LinkFigure:
    """One quantity of one link: measured, and what was asked with its tolerance."""

    asked: str
    measured: str
    tolerance: str
    ok: bool


@dataclass(frozen=True)
class LinkRow:
    """One link as it was measured between one pair of machines; `quantities` by name."""

    source: str
    destination: str
    pair: str
    quantities: dict[str, LinkFigure]

    @property
    def ok(self) -> bool:
        """Whether every quantity lies within its tolerance."""
        return all(figure.ok for figure in self.quantities.values())


def group_rows(run: Run, groups: tuple[Group, ...]) -> list[GroupRow]:
    """Every one of these groups in one line."""
    clocks = Clocks(run)
    return [
        _group_row(group, clocks.error("forward_ms", group.kind, group.name)) for group in groups
    ]


def workers(run: Run) -> tuple[Group, ...]:
    """The groups of workers, without endpoints that answer themselves."""
    endpoints = {group.name for group in run.groups("endpoint")}
    return tuple(group for group in run.groups("worker") if group.name not in endpoints)


def summary_table(run: Run) -> list[StatisticRow]:
    """Every quantity over all samples; empty when no benchmark ran."""
    clocks = Clocks(run)
    return [
        _statistic_row(each, clocks.error(each.quantity, "all", "all"))
        for each in (run.all.statistics if run.all else ())
    ]


def expectation_rows(run: Run, kind: str) -> list[ExpectationRow]:
    """The expectations of all samples (`all`), or of each `endpoint`."""
    clocks = Clocks(run)
    return [
        _expectation_row(each, clocks.error(each.quantity, each.kind, each.name))
        for each in run.expectation
        if each.kind == kind
    ]


def link_rows(links: pa.Table | None) -> list[LinkRow]:
    """Every measured pair of machines, in the order of the file."""
    rows: dict[tuple[str, str, str], LinkRow] = {}
    for each in links.to_pylist() if links is not None else []:
        pair = f"{each['from_machine']} → {each['to_machine']}"
        key = (each["from_tier"], each["to_tier"], pair)
        row = rows.setdefault(key, LinkRow(*key, {}))
        row.quantities[each["quantity"]] = LinkFigure(
            asked=f"{each['asked']:g}",
            measured=show.number(each["measured"]),
            tolerance=f"± {show.number(each['tolerance'])}",
            ok=each["ok"],
        )
    return list(rows.values())


def link_columns(rows: list[LinkRow]) -> list[tuple[str, str, str]]:
    """Name, label and unit of the quantities that at least one link has."""
    return [
        (name, label, unit)
        for name, (label, unit) in LINK_LABELS.items()
        if any(name in row.quantities for row in rows)
    ]


def outcome(group: Group, noun: str = "request") -> str:
    """How the samples ended, in words; `noun` is what one of them is."""
    done = "answered" if noun == "request" else "ready"
    parts = [f"{group.ok:,} of {group.samples:,} {noun}s {done}"]
    parts += [
        f"{count:,} {word}"
        for count, word in ((group.lost, "lost"), (group.timeout, "too late"))
        if count
    ]
    if group.error:
        parts.append(f"{group.error:,} with an error")
    return ", ".join(parts)


def agreement(group: Group) -> str:
    """Share and count of the judged results that agree."""
    if not group.judged:
        return show.NOTHING
    return f"{show.share(group.agreed, group.judged)} ({group.agreed:,} of {group.judged:,})"


def cell(figure: Figure | None, scale: float = 1.0, error: ClockError | None = None) -> Cell:
    """A figure as text, divided by `scale`; `error` is what clocks may have added to it."""
    if figure is None:
        return Cell(show.NOTHING)
    value = marked(figure.value / scale, error)
    return Cell(value, show.interval(figure, scale))


def marked(value: float, error: ClockError | None) -> str:
    """A figure as text, with the mark of one that the clocks outweigh."""
    doubtful = error is not None and error.outweighs(value)
    return show.number(value) + (f" {show.DOUBTFUL}" if doubtful else "")


def in_words(error: ClockError | None) -> str:
    """What clocks add, in ms; empty for what compares none."""
    return "" if error is None else str(error)


def _statistic_row(statistic: Statistic, error: ClockError | None) -> StatisticRow:
    unit, scale = _unit(statistic)
    return StatisticRow(
        quantity=statistic.quantity,
        label=statistic.label or LABELS.get(statistic.quantity, statistic.quantity),
        unit=unit,
        n=statistic.n,
        mean=cell(statistic.mean, scale, error),
        deviation=cell(statistic.deviation, scale),
        p50=cell(statistic.p50, scale, error),
        p95=cell(statistic.p95, scale, error),
        p99=cell(statistic.p99, scale, error),
        clocks=in_words(error),
    )


def _unit(statistic: Statistic) -> tuple[str, float]:
    """The unit that leaves few digits, and by what to divide."""
    if statistic.unit == "B" and statistic.p50.value >= 10_000:
        return "kB", 1000.0
    return statistic.unit, 1.0


def _group_row(group: Group, error: ClockError | None) -> GroupRow:
    latency = group.statistic("latency_ms")
    forward = group.statistic("forward_ms")
    size = group.statistic("request_bytes")
    return GroupRow(
        name=group.name,
        samples=group.samples,
        unanswered=group.unanswered,
        seconds=show.seconds(group.seconds),
        agreement=show.share(group.agreed, group.judged),
        latency=mean(latency),
        latency_deviation=_deviation(latency),
        latency_p95=cell(latency.p95) if latency else Cell(show.NOTHING),
        preparation=mean(group.statistic("preparation_ms")),
        forward=mean(forward, error),
        forward_deviation=_deviation(forward),
        processing=mean(group.statistic("processing_ms")),
        size=_size(size),
    )


def mean(statistic: Statistic | None, error: ClockError | None = None) -> Cell:
    """The mean, and beside it what clocks may have added; nothing where there is no statistic."""
    found = cell(statistic.mean if statistic else None, error=error)
    return replace(found, clocks=in_words(error)) if statistic else found


def _deviation(statistic: Statistic | None) -> str:
    if statistic is None or statistic.deviation is None:
        return show.NOTHING
    return show.number(statistic.deviation.value)


def _size(statistic: Statistic | None) -> str:
    if statistic is None:
        return show.NOTHING
    unit, scale = _unit(statistic)
    return f"{show.number(statistic.mean.value / scale)} {unit}"


def _expectation_row(row: Expectation, error: ClockError | None) -> ExpectationRow:
    percent = row.difference_percent
    return ExpectationRow(
        name=row.name,
        label=LABELS.get(row.quantity, row.quantity),
        n=row.n,
        expected_mean=show.number(row.expected_mean),
        measured_mean=marked(row.measured_mean, error),
        difference=show.signed(row.difference_ms),
        percent=show.NOTHING if percent is None else show.percent(percent),
        expected_p50=show.number(row.expected_p50),
        measured_p50=marked(row.measured_p50, error),
        tolerance=f"± {show.number(row.tolerance_ms)}" if row.tolerance_ms else show.NOTHING,
        within=row.within,
        why_not=row.why_not,
        clocks=in_words(error),
    )
