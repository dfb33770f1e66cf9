"""The tables of a run as rows of text, for the terminal and the page alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from continuum.benchmark.results import LABELS, Expectation, Figure, Group, Run, Statistic
from continuum.report import format as show

if TYPE_CHECKING:
    import pyarrow as pa

MADE_UP = "These machines exist on paper only: every figure here is made up."

LINK_LABELS = {
    "delay_ms": ("delay", "ms"),
    "jitter_ms": ("jitter", "ms"),
    "loss_percent": ("loss", "%"),
    "rate_mbit": ("rate", "Mbit/s"),
}


@dataclass(frozen=True)
class Cell:
    """A figure and its 95 % interval, both as text; `interval` is empty when there is none."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class StatisticRow:
    """One quantity of one group of samples."""

    quantity: str
    label: str
    unit: str
    n: int
    mean: Cell
    deviation: Cell
    p50: Cell
    p95: Cell
    p99: Cell


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


def statistic_rows(group: Group) -> list[StatisticRow]:
    """Every quantity of a group."""
    return [_statistic_row(each) for each in group.statistics]


def group_rows(groups: tuple[Group, ...]) -> list[GroupRow]:
    """Every group in one line."""
    return [_group_row(group) for group in groups]


def workers(run: Run) -> tuple[Group, ...]:
    """The groups of workers, without endpoints that answer themselves."""
    endpoints = {group.name for group in run.groups("endpoint")}
    return tuple(group for group in run.groups("worker") if group.name not in endpoints)


def summary_table(run: Run) -> list[StatisticRow]:
    """Every quantity over all samples; empty when no benchmark ran."""
    return statistic_rows(run.all) if run.all else []


def expectation_rows(expectations: tuple[Expectation, ...], kind: str) -> list[ExpectationRow]:
    """The expectations of all samples (`all`), or of each `endpoint`."""
    return [_expectation_row(each) for each in expectations if each.kind == kind]


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


def clock_note(run: Run) -> str:
    """How far one-way figures may be off by the machines' clocks; empty when they share one."""
    if run.clock.one_clock:
        return ""
    if not run.clock.offsets:
        return "One-way figures compare clocks that may differ by any amount."
    offsets = [each.offset_ms for each in run.clock.offsets]
    bound = max(offsets) - min(offsets) + 2 * max(each.bound_ms for each in run.clock.offsets)
    return f"One-way figures compare clocks that differ by at most {show.number(bound)} ms."


def _cell(figure: Figure | None, scale: float = 1.0) -> Cell:
    if figure is None:
        return Cell(show.NOTHING)
    return Cell(show.number(figure.value / scale), show.interval(figure, scale))


def _statistic_row(statistic: Statistic) -> StatisticRow:
    unit, scale = _unit(statistic)
    return StatisticRow(
        quantity=statistic.quantity,
        label=statistic.label or LABELS.get(statistic.quantity, statistic.quantity),
        unit=unit,
        n=statistic.n,
        mean=_cell(statistic.mean, scale),
        deviation=_cell(statistic.deviation, scale),
        p50=_cell(statistic.p50, scale),
        p95=_cell(statistic.p95, scale),
        p99=_cell(statistic.p99, scale),
    )


def _unit(statistic: Statistic) -> tuple[str, float]:
    """The unit that leaves few digits, and by what to divide."""
    if statistic.unit == "B" and statistic.p50.value >= 10_000:
        return "kB", 1000.0
    return statistic.unit, 1.0


def _group_row(group: Group) -> GroupRow:
    latency = group.statistic("latency_ms")
    forward = group.statistic("forward_ms")
    size = group.statistic("request_bytes")
    return GroupRow(
        name=group.name,
        samples=group.samples,
        unanswered=group.unanswered,
        seconds=show.seconds(group.seconds),
        agreement=show.share(group.agreed, group.judged),
        latency=_mean(latency),
        latency_deviation=_deviation(latency),
        latency_p95=_cell(latency.p95) if latency else Cell(show.NOTHING),
        preparation=_mean(group.statistic("preparation_ms")),
        forward=_mean(forward),
        forward_deviation=_deviation(forward),
        processing=_mean(group.statistic("processing_ms")),
        size=_size(size),
    )


def _mean(statistic: Statistic | None) -> Cell:
    return _cell(statistic.mean if statistic else None)


def _deviation(statistic: Statistic | None) -> str:
    if statistic is None or statistic.deviation is None:
        return show.NOTHING
    return show.number(statistic.deviation.value)


def _size(statistic: Statistic | None) -> str:
    if statistic is None:
        return show.NOTHING
    unit, scale = _unit(statistic)
    return f"{show.number(statistic.mean.value / scale)} {unit}"


def _expectation_row(row: Expectation) -> ExpectationRow:
    percent = row.difference_percent
    return ExpectationRow(
        name=row.name,
        label=LABELS.get(row.quantity, row.quantity),
        n=row.n,
        expected_mean=show.number(row.expected_mean),
        measured_mean=show.number(row.measured_mean),
        difference=show.signed(row.difference_ms),
        percent=show.NOTHING if percent is None else show.percent(percent),
        expected_p50=show.number(row.expected_p50),
        measured_p50=show.number(row.measured_p50),
        tolerance=f"± {show.number(row.tolerance_ms)}" if row.tolerance_ms else show.NOTHING,
        within=row.within,
        why_not=row.why_not,
    )
