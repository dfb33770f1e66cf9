"""The hosts' own share of a run, as rows of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from continuum.report import format as show
from continuum.report.table import StatisticRow, statistic_row

if TYPE_CHECKING:
    from continuum.benchmark.results import HostShareRecord, Run


@dataclass(frozen=True)
class ShareRow:
    """One host in one repetition, or while links were checked."""

    part: str
    busy: str
    others: str
    steal: str
    stalls: str
    longest: str
    lateness: str
    latest: str
    pressure: str
    load: str
    throttled: str


@dataclass(frozen=True)
class ThrottledRow:
    """The throttling of one machine by its quota, over all repetitions."""

    machine: str
    periods: str
    share: str
    seconds: str


def share_rows(run: Run) -> list[ShareRow]:
    """Each host in each repetition."""
    return [_share_row(each) for each in run.host_share]


def _share_row(each: HostShareRecord) -> ShareRow:
    part = f"repetition {each.repetition}" if each.repetition else "link check"
    stalls = show.NOTHING if each.stalls is None else f"{each.stalls:,}"
    if each.stalls:
        stalls += f" ({show.number(each.stalled_percent)} %)"
    throttled = [found for found in each.throttling if found.throttled]
    return ShareRow(
        part=f"{part}, host {each.host}" if each.host else part,
        busy=_percent(each.busy_percent),
        others=_percent(each.foreign_percent),
        steal=_percent(each.steal_percent),
        stalls=stalls,
        longest=show.number(each.longest_ms) if each.stalls else show.NOTHING,
        lateness=show.number(each.lateness_p99_ms),
        latest=show.number(each.lateness_max_ms),
        pressure=_percent(each.pressure_percent),
        load=show.number(each.load_before),
        throttled=f"{len(throttled)} of {len(each.throttling)}"
        if each.throttling
        else show.NOTHING,
    )


def sentinel(run: Run) -> str:
    """The way in which stalls were looked for; "" where they were not."""
    watched = [each for each in run.host_share if each.period_ms is not None]
    if not watched:
        return ""
    rank = (
        "above all that the experiment runs"
        if all(each.real_time for each in watched)
        else "without real-time priority, which other programs can hold up,"
    )
    longest = max(each.period_ms or 0.0 for each in watched)
    return f"{rank} wakes on each core every {longest:g} ms"


def throttled_rows(run: Run) -> list[ThrottledRow]:
    """Machines that waited for their quota in a repetition, those that waited longest first."""
    sums: dict[str, tuple[int, int, float]] = {}
    for each in run.host_share:
        for found in each.throttling if each.repetition else ():
            periods, throttled, ms = sums.get(found.machine, (0, 0, 0.0))
            sums[found.machine] = (
                periods + found.periods,
                throttled + found.throttled,
                ms + found.ms,
            )
    waited = sorted(
        ((name, found) for name, found in sums.items() if found[1]), key=lambda each: -each[1][2]
    )
    return [
        ThrottledRow(name, f"{periods:,}", show.share(throttled, periods), show.number(ms / 1e3))
        for name, (periods, throttled, ms) in waited
    ]


def unstalled_rows(run: Run) -> dict[str, StatisticRow]:
    """The figures of all requests that no stall overlaps, by quantity; empty where all are those."""
    whole = next((group for group in run.unstalled if group.kind == "all"), None)
    return {each.quantity: statistic_row(each) for each in (whole.statistics if whole else ())}


def remark(run: Run) -> str:
    """The effect of a host's stalls on the figures, in a sentence or two; "" without any."""
    if not run.stalled or run.all is None:
        return ""
    records = [each for each in run.host_share if each.repetition and each.stalls]
    count = sum(each.stalls or 0 for each in records)
    longest = max((each.longest_ms or 0.0 for each in records), default=0.0)
    said = (
        f"The host stood still {'once' if count == 1 else f'{count:,} times'}, "
        f"{show.number(longest)} ms at the longest: "
        f"{run.stalled:,} of {run.all.samples:,} {run.noun}s overlap that."
    )
    latency = unstalled_rows(run).get("latency_ms")
    if latency is None:
        return f"{said} None did not."
    interval = f" ({latency.mean.interval})" if latency.mean.interval else ""
    return (
        f"{said} Without them: {latency.n:,} {run.noun}s, {latency.label} "
        f"{latency.mean.value}{interval} {latency.unit} in the mean."
    )


def _percent(value: float | None) -> str:
    return show.NOTHING if value is None else show.number(value)
