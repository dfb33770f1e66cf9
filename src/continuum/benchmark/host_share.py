"""Host shares of a run: the marks on samples, the records of `run.json`, and what degrades it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from continuum.benchmark.reasons import Code, Reason
from continuum.benchmark.results import HostShareRecord, ThrottlingRecord
from continuum.benchmark.samples import STALL_COLUMN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from continuum.infrastructure.host.share import HostShare

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

MOST_STEAL = 10.0
MOST_STALLED = 10.0
"""Percent of a host's cores' time that may be kept from it, by its kernel's own count and by the
sentinel's: twice what a cloud's noisy neighbours take on an ordinary day."""
MOST_CROWDED = 10.0
MOST_SATURATED = 50.0
"""Percent of a repetition in which others, or the experiment itself, may leave no core free."""
MOST_CLOCK_STEP = 1.0
"""ms by which a clock may be set during a repetition."""

LINK_CHECK = 0
"""The repetition that the link check counts as."""


@dataclass(frozen=True)
class Shared:
    """The share that a host gave to a repetition, or to the link check (`LINK_CHECK`)."""

    repetition: int
    share: HostShare


def overlap_ms(begin: Integers, end: Integers, stalls: Sequence[tuple[int, int]]) -> Floats:
    """For how many ms of each span of time, in ns, at least one of some stalls lasted."""
    if not len(stalls):
        return np.zeros(len(begin))
    ordered = np.array(sorted(stalls), dtype=np.int64)
    reach = np.maximum.accumulate(ordered[:, 1])
    # Cores stall together: what overlaps is one interval.
    first = np.concatenate([[True], ordered[1:, 0] > reach[:-1]])
    begins = ordered[first, 0]
    ends = reach[np.concatenate([np.flatnonzero(first)[1:] - 1, [len(ordered) - 1]])]
    before = np.concatenate([[0], np.cumsum(ends - begins)])

    def stalled_until(moment: Integers) -> Integers:
        place = np.searchsorted(begins, moment, side="right")
        # Of the last one that has begun only what lies before the moment counts.
        last = np.maximum(place - 1, 0)
        rest = np.where(place > 0, np.maximum(0, ends[last] - moment), 0)
        return np.asarray(before[place] - rest, dtype=np.int64)

    return (stalled_until(np.maximum(begin, end)) - stalled_until(begin)) / 1e6


def mark(samples: pa.Table, shared: Sequence[Shared], host_of: Mapping[str, str]) -> pa.Table:
    """The samples with the column `host_stall_ms`: for how long, from when a request was due until
    its answer was there, some core of some host did not run.

    Null where a time is not known, or no sentinel watched its repetition. `host_of` is the host of
    each endpoint, by whose clock its times are.
    """
    column = np.full(samples.num_rows, np.nan)
    repetition = samples["repetition"].to_numpy()
    endpoint = samples["endpoint"].combine_chunks().dictionary_encode()
    hosts = [host_of.get(name, "") for name in endpoint.dictionary.to_pylist()]
    places = endpoint.indices.to_numpy()
    times = [samples[name] for name in ("intended_ns", "answered_ns")]
    known = np.logical_and(*(~each.is_null().to_numpy() for each in times))
    begin, end = (each.fill_null(0).to_numpy() for each in times)
    for number in np.unique(repetition):
        watched = [
            each.share for each in shared if each.repetition == number and each.share.lateness
        ]
        if not watched:
            continue
        here = (repetition == number) & known
        # All by the clock of the host that the run was started on.
        ahead = {each.host: each.offset_ns for each in watched}
        clock = np.array([ahead.get(host, 0) for host in hosts], dtype=np.int64)[places[here]]
        stalls = [
            (first - each.offset_ns, last - each.offset_ns)
            for each in watched
            for first, last, _ in each.stalls
        ]
        column[here] = overlap_ms(begin[here] - clock, end[here] - clock, stalls)
    marks = pa.array(np.round(column, 6), from_pandas=True)
    return samples.append_column(pa.field(STALL_COLUMN, pa.float64()), marks)


def without_stalls(samples: pa.Table) -> tuple[pa.Table | None, int]:
    """The samples that no stall overlaps, those among them of which that is not known; None where
    these are all. And how many after the warm-up one does overlap.
    """
    stalled = samples[STALL_COLUMN].fill_null(0.0).to_numpy() > 0
    if not stalled.any():
        return None, 0
    measured = ~samples["warmup"].to_numpy().astype(bool)
    return samples.filter(pa.array(~stalled)), int(np.count_nonzero(stalled & measured))


def stall_rows(shared: Iterable[Shared]) -> Iterator[dict[str, Any]]:
    """Rows of `stalls.parquet`."""
    for each in shared:
        for begin, end, core in each.share.stalls:
            yield {
                "host": each.share.host,
                "repetition": each.repetition,
                "core": core,
                "begin_ns": begin,
                "end_ns": end,
            }


def record(each: Shared) -> HostShareRecord:
    """The record that `run.json` keeps of it."""
    share, seen = each.share, each.share.lateness
    seconds = (share.ended_ns - share.began_ns) / 1e9
    lengths = [(end - begin) / 1e6 for begin, end, _ in share.stalls]
    of_stalls: dict[str, Any] = {}
    if seen is not None:
        of_stalls = {
            "stalls": len(lengths) + seen.left_out,
            "stalled_ms": round(sum(lengths), 3),
            "stalled_percent": round(sum(lengths) / (10 * seconds * share.cores), 3),
            "longest_ms": round(max(lengths, default=0.0), 3),
            "stalls_left_out": seen.left_out,
            "period_ms": seen.period_ms,
            "real_time": seen.real_time,
            "lateness_p50_ms": _rounded(seen.percentile(50)),
            "lateness_p99_ms": _rounded(seen.percentile(99)),
            "lateness_max_ms": round(seen.latest_ms, 3),
        }
    return HostShareRecord(
        repetition=each.repetition,
        host=share.host,
        seconds=round(seconds, 3),
        cores=share.cores,
        **of_stalls,
        steal_percent=share.steal_percent,
        busy_percent=share.busy_percent,
        foreign_percent=share.foreign_percent,
        saturated_percent=share.saturated_percent,
        crowded_percent=share.crowded_percent,
        pressure_percent=share.pressure_percent,
        load_before=share.load_before,
        ready_before=share.ready_before,
        governor=share.governor,
        clock_step_ms=share.clock_step_ms,
        throttling=tuple(
            ThrottlingRecord(
                machine=name,
                periods=found.periods,
                throttled=found.throttled,
                ms=round(1e3 * found.seconds, 3),
            )
            for name, found in share.throttling.items()
        ),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def reasons(records: Iterable[HostShareRecord], *, may_saturate: bool = False) -> Iterator[Reason]:
    """The excesses over limits in a repetition; the link check is judged by its own results.

    `may_saturate`: the experiment is about what takes all that there is, as starting pods does.
    """
    for each in records:
        if each.repetition != LINK_CHECK:
            yield from _busy(each, may_saturate=may_saturate)
            yield from _clock(each)


def _busy(each: HostShareRecord, *, may_saturate: bool) -> Iterator[Reason]:
    said = []
    if each.steal_percent > MOST_STEAL:
        said.append(f"who runs it kept {each.steal_percent:.0f} % of its cores' time")
    elif each.stalled_percent is not None and each.stalled_percent > MOST_STALLED:
        said.append(f"its cores stood still for {each.stalled_percent:.0f} % of the time")
    if each.crowded_percent is not None and each.crowded_percent > MOST_CROWDED:
        said.append(
            f"other programs had {each.foreign_percent:.0f} % of its cores' time, and left no core "
            f"free in {each.crowded_percent:.0f} % of the repetition"
        )
    elif each.saturated_percent > MOST_SATURATED and not may_saturate:
        said.append(
            f"no core was free in {each.saturated_percent:.0f} % of the repetition: the experiment's "
            "own machines wait for each other"
        )
    if said:
        figures = {
            "repetition": each.repetition,
            "steal_percent": each.steal_percent,
            "stalled_percent": each.stalled_percent,
            "busy_percent": each.busy_percent,
            "foreign_percent": each.foreign_percent,
            "crowded_percent": each.crowded_percent,
            "saturated_percent": each.saturated_percent,
        }
        yield Reason(
            code=Code.HOST_BUSY,
            sentence=f"{_where(each)} was busy in repetition {each.repetition}: {'; '.join(said)}",
            figures={name: value for name, value in figures.items() if value is not None},
        )


def _clock(each: HostShareRecord) -> Iterator[Reason]:
    if abs(each.clock_step_ms) > MOST_CLOCK_STEP:
        yield Reason(
            code=Code.CLOCK,
            sentence=f"the clock of {_where(each)} was set by {each.clock_step_ms:+.3g} ms in "
            f"repetition {each.repetition}: times before and after do not compare",
            figures={"repetition": each.repetition, "clock_step_ms": each.clock_step_ms},
        )


def _where(each: HostShareRecord) -> str:
    return f"host {each.host}" if each.host else "this host"
