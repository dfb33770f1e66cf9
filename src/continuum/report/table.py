"""The tables of a run as rows of text, for the terminal and the page alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from continuum.benchmark.results import (
    LABELS,
    Expectation,
    Figure,
    Group,
    Percentile,
    Run,
    Statistic,
)
from continuum.benchmark.samples import deciding_links
from continuum.reasons import ACCEPTABLE
from continuum.report import format as show
from continuum.report import loads
from continuum.report.clocks import ClockError, Clocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

MADE_UP = "These machines exist on paper only: every figure here is made up."

LINK_LABELS = {
    "delay_ms": ("delay", "ms"),
    "stream_delay_ms": ("delay in a stream", "ms"),
    "jitter_ms": ("jitter", "ms"),
    "loss_percent": ("loss", "%"),
    "rate_mbit": ("rate", "Mbit/s"),
}


def accepted(run: Run) -> str:
    """The reasons of a run that were accepted, for its first line; empty where none was."""
    codes = dict.fromkeys(reason.code for reason in run.reasons if reason.code in run.accept)
    return f"  (accepted: {', '.join(codes)})" if codes else ""


def reasons(run: Run) -> list[str]:
    """Reasons for which a run is not `done`, a line each, with the code that accepts it."""
    return [
        f"{reason.sentence} [{reason.code}]" if reason.code in ACCEPTABLE else reason.sentence
        for reason in run.reasons
    ]


@dataclass(frozen=True)
class Cell:
    """A figure and its 95 % interval, both as text; `interval` is empty when there is none.

    A figure of which the clocks may make up more than a tenth is marked. `clocks` is what they add
    to it, where that stands beside the figure. `within` is true where the interval is over the
    samples of a single run. `maximum` stands in for a percentile that cannot be given.
    """

    value: str
    interval: str = ""
    clocks: str = ""
    within: bool = False
    maximum: str = ""


@dataclass(frozen=True)
class StatisticRow:
    """One quantity of one group of samples.

    `clocks` is what the machines' clocks add to it; empty for what compares none. `maximum` is
    empty where every percentile could be given.
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
    maximum: str = ""


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
    load: str = show.NOTHING


@dataclass(frozen=True)
class ExpectationRow:
    """The expectation beside the measurement, in ms; `interval` is that of the difference.

    `verdict` is `as expected`, `differs`, `not shown`, or empty where nothing was expected.
    """

    name: str
    label: str
    n: int
    expected_mean: str
    measured_mean: str
    difference: str
    interval: str
    percent: str
    expected_p50: str
    measured_p50: str
    tolerance: str
    verdict: str
    why_not: str
    clocks: str = ""

    @property
    def words(self) -> str:
        """The verdict, and why it is none or no better one."""
        return ": ".join(filter(None, (self.verdict, self.why_not)))


OFF = "out of tolerance"
"""A verdict on links that earlier versions measured, without an interval."""

_VERDICTS = ("does not hold", OFF, "not shown", "host limit", "holds")


@dataclass(frozen=True)
class LinkFigure:
    """One quantity of one link: measured, and what was asked with its tolerance, as text.

    Attributes:
        interval: of what was measured; empty where none is known, as `probes` is.
        probes: how many were made, and what became of them.
        verdict: in words.
    """

    asked: str
    measured: str
    tolerance: str
    ok: bool
    interval: str
    n: str
    probes: str
    attempts: int
    verdict: str


@dataclass(frozen=True)
class LinkRow:
    """One link as it was measured between one pair of machines; `quantities` by name."""

    source: str
    destination: str
    pair: str
    quantities: dict[str, LinkFigure]

    @property
    def ok(self) -> bool:
        """Tell whether a run may go on with every quantity."""
        return all(figure.ok for figure in self.quantities.values())

    @property
    def verdict(self) -> str:
        """The worst of its quantities' verdicts."""
        return min((each.verdict for each in self.quantities.values()), key=_VERDICTS.index)

    @property
    def attempts(self) -> int:
        """The number of times that it was measured."""
        return max(each.attempts for each in self.quantities.values())


def group_rows(run: Run, groups: tuple[Group, ...]) -> list[GroupRow]:
    """Every one of these groups in one line."""
    clocks = Clocks(run)
    return [
        replace(
            _group_row(group, clocks.error("forward_ms", group.kind, group.name)),
            load=loads.of(run, group.name),
        )
        for group in groups
    ]


def workers(run: Run) -> tuple[Group, ...]:
    """The groups of workers, without endpoints that answer themselves."""
    endpoints = {group.name for group in run.groups("endpoint")}
    return tuple(group for group in run.groups("worker") if group.name not in endpoints)


def summary_table(run: Run) -> list[StatisticRow]:
    """Every quantity over all samples; empty when no benchmark ran."""
    clocks = Clocks(run)
    return [
        statistic_row(each, clocks.error(each.quantity, "all", "all"))
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


def baseline(run: Run) -> str:
    """The programs' time where no link is crossed, as `forward delay 0.52 ms, return 0.48 ms`."""
    return ", ".join(
        f"{LABELS[each.quantity]} {show.number(each.mean)} ms" for each in run.baseline
    )


def link_rows(links: pa.Table | None) -> list[LinkRow]:
    """Every measured pair of machines, in the order of the file."""
    rows: dict[tuple[str, str, str], LinkRow] = {}
    for each in deciding_links(links):
        pair = f"{each['from_machine']} → {each['to_machine']}"
        key = (each["from_tier"], each["to_tier"], pair)
        row = rows.setdefault(key, LinkRow(*key, {}))
        row.quantities[each["quantity"]] = _link_figure(each)
    return list(rows.values())


def _link_figure(row: Mapping[str, Any]) -> LinkFigure:
    told = [f"n {row['n']:,}"] if row["n"] is not None else []
    told += [f"{row[name]:,} {name}" for name in ("late", "stalled") if row[name]]
    attempts = row["attempt"] or 1
    if attempts > 1:
        told.append(f"attempt {attempts}")
    return LinkFigure(
        asked=f"{row['asked']:g}",
        measured=show.number(row["measured"]),
        tolerance=(
            f"± {show.number(row['tolerance'])}"
            if row["least"] is None
            else f"({show.number(row['least'])} … {show.number(row['most'])})"
        ),
        ok=row["ok"],
        interval=""
        if row["low"] is None
        else f"{show.number(row['low'])} … {show.number(row['high'])}",
        n=show.NOTHING if row["n"] is None else f"{row['n']:,}",
        probes=", ".join(told),
        attempts=attempts,
        verdict=row["verdict"] or ("holds" if row["ok"] else OFF),
    )


def links_outcome(rows: list[LinkRow], seconds: float | None) -> str:
    """The number of measurements that hold, and the time that they took, in words."""
    figures = [each for row in rows for each in row.quantities.values()]
    if not figures:
        return ""
    hold = sum(each.verdict == "holds" for each in figures)
    took = "" if seconds is None else f"; the check took {seconds:.1f} s"
    return f"{hold:,} of {len(figures):,} link measurements hold{took}"


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


def interval_title(run: Run) -> str:
    """The head of a column of intervals: what they are over."""
    words = {"repetitions": "95 % between", "run": "95 % within"}
    levels = _levels(run)
    return words.get(levels[0], "95 % interval") if len(levels) == 1 else "95 % interval"


def interval_note(run: Run) -> str:
    """The scope of a run's intervals, in a sentence; empty without any."""
    return " ".join(_LEVELS[level].format(_repetitions(run, level)) for level in _levels(run))


_LEVELS = {
    "repetitions": "95 % intervals are between {} repetitions.",
    "run": "95 % intervals are within this run: another run may differ by more.",
    "": "95 % intervals are bootstraps of an earlier version, which were too narrow.",
}


def _levels(run: Run) -> list[str]:
    """The scopes of the intervals of all samples."""
    statistics = run.all.statistics if run.all else ()
    return list(dict.fromkeys(each.level for each in statistics if _has_interval(each)))


def _has_interval(statistic: Statistic) -> bool:
    figures = (statistic.mean, statistic.p50, statistic.p95, statistic.p99)
    return any(each.low is not None or each.high is not None for each in figures)


def _repetitions(run: Run, level: str) -> int:
    statistics = run.all.statistics if run.all else ()
    return max((each.repetitions for each in statistics if each.level == level), default=0)


def unanswered_note(run: Run) -> str:
    """Percentiles that are requests without an answer: `p95, p99 > 10 s: 6.3 % unanswered.`."""
    word = "unanswered" if run.noun == "request" else "not ready"
    for each in run.all.statistics if run.all else ():
        named = {"p50": each.p50, "p95": each.p95, "p99": each.p99}
        above = {name: found.above for name, found in named.items() if found.above is not None}
        if above:
            share = show.share(each.unanswered, each.n + each.unanswered)
            limit = show.milliseconds(min(above.values()))
            return f"{', '.join(above)} > {limit}: {share} {word}."
    return ""


def cell(
    figure: Figure | None, scale: float = 1.0, error: ClockError | None = None, level: str = ""
) -> Cell:
    """A figure as text, divided by `scale`; `error` is what clocks may have added to it."""
    if figure is None:
        return Cell(show.NOTHING)
    low, high = _scaled(figure.low, scale), _scaled(figure.high, scale)
    value = figure.value / scale
    half = show.half_width(value, low, high)
    return Cell(marked(value, error, half), show.interval(low, high, half), within=level == "run")


def percentile_cell(
    statistic: Statistic | None, name: str, scale: float = 1.0, error: ClockError | None = None
) -> Cell:
    """A percentile as text, divided by `scale`; the maximum beside one that cannot be given."""
    if statistic is None:
        return Cell(show.NOTHING)
    found: Percentile = getattr(statistic, name)
    if found.value is not None:
        figure = Figure(value=found.value, low=found.low, high=found.high)
        return cell(figure, scale, error, statistic.level)
    if found.above is not None:
        low = _scaled(found.low, scale)
        return Cell(f"> {show.supported(found.above / scale)}", show.interval(low, None, low))
    return Cell(show.NOTHING, maximum=_maximum(statistic, scale))


def interval_in_words(found: Cell) -> str:
    """The interval of a figure, and what it is over; empty without one."""
    if not found.interval:
        return ""
    words = "in " if "…" in found.interval else ""
    return f"95 % {words}{found.interval}" + (" within this run" if found.within else "")


def _maximum(statistic: Statistic, scale: float) -> str:
    """The largest sample as text; empty where it is not known."""
    found = statistic.maximum
    if found is None:
        return ""
    if found.value is not None:
        return show.supported(found.value / scale)
    return "" if found.above is None else f"> {show.supported(found.above / scale)}"


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value / scale


def marked(value: float, error: ClockError | None, half: float | None = None) -> str:
    """A figure as text, with the mark of one that the clocks outweigh.

    `half` is half the width of its interval.
    """
    doubtful = error is not None and error.outweighs(value)
    return show.supported(value, half) + (f" {show.DOUBTFUL}" if doubtful else "")


def in_words(error: ClockError | None) -> str:
    """What clocks add, in ms; empty for what compares none."""
    return "" if error is None else str(error)


def statistic_row(statistic: Statistic, error: ClockError | None = None) -> StatisticRow:
    """One quantity; `error` is what clocks may have added to it."""
    unit, scale = _unit(statistic)
    p95 = percentile_cell(statistic, "p95", scale, error)
    p99 = percentile_cell(statistic, "p99", scale, error)
    return StatisticRow(
        quantity=statistic.quantity,
        label=statistic.label or LABELS.get(statistic.quantity, statistic.quantity),
        unit=unit,
        n=statistic.n,
        mean=cell(statistic.mean, scale, error, statistic.level),
        deviation=cell(statistic.deviation, scale, level=statistic.level),
        p50=percentile_cell(statistic, "p50", scale, error),
        p95=p95,
        p99=p99,
        clocks=in_words(error),
        maximum=p95.maximum or p99.maximum,
    )


def _unit(statistic: Statistic) -> tuple[str, float]:
    """The unit that leaves few digits, and by what to divide."""
    if statistic.unit == "B" and statistic.mean.value >= 10_000:
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
        latency_p95=percentile_cell(latency, "p95"),
        preparation=mean(group.statistic("preparation_ms")),
        forward=mean(forward, error),
        forward_deviation=_deviation(forward),
        processing=mean(group.statistic("processing_ms")),
        size=_size(size),
    )


def mean(statistic: Statistic | None, error: ClockError | None = None) -> Cell:
    """The mean, and beside it what clocks may have added; nothing where there is no statistic."""
    if statistic is None:
        return Cell(show.NOTHING)
    found = cell(statistic.mean, error=error, level=statistic.level)
    return replace(found, clocks=in_words(error))


def _deviation(statistic: Statistic | None) -> str:
    return cell(statistic.deviation).value if statistic else show.NOTHING


def _size(statistic: Statistic | None) -> str:
    if statistic is None:
        return show.NOTHING
    unit, scale = _unit(statistic)
    return f"{cell(statistic.mean, scale).value} {unit}"


def _expectation_row(row: Expectation, error: ClockError | None) -> ExpectationRow:
    percent = row.difference_percent
    return ExpectationRow(
        name=row.name,
        label=LABELS.get(row.quantity, row.quantity),
        n=row.n,
        expected_mean=show.number(row.expected_mean),
        measured_mean=marked(row.measured_mean, error),
        difference=show.signed(row.difference_ms),
        interval=(
            ""
            if row.low_ms is None or row.high_ms is None
            else f"{show.signed(row.low_ms)} … {show.signed(row.high_ms)}"
        ),
        percent=show.NOTHING if percent is None else show.percent(percent),
        expected_p50=show.number(row.expected_p50),
        measured_p50=marked(row.measured_p50, error),
        tolerance=f"± {show.number(row.tolerance_ms)}" if row.tolerance_ms else show.NOTHING,
        verdict=row.verdict or {True: "as expected", False: "differs", None: ""}[row.within],
        why_not=row.why_not,
        clocks=in_words(error),
    )
