"""The test for rest in a repetition: a trend in its latencies, which no longer load would lose.

The requests of a worker in one repetition are taken in the order in which they were due and cut into
`BATCHES` batches of neighbours, so that what is compared depends little on what came right before.
Over the batches' means Mann and Kendall's statistic S counts the pairs that rise less those that fall
(Mann 1945, doi:10.2307/1907187). From |S| = `TREND` of at most 45 on there is a trend; where the worker
is offered more than it can do, a weaker one (`OVERLOADED`) is enough: no load like that has a rest to
come to. Both bounds are by simulation: noise whose neighbours depend (autoregressive, 0.9) and queues
at 80 % of load pass them in less than 1 % of cases. A trend counts where it changes the latency by
`RELEVANT` of its mean at least.

An unanswered request counts as one that took as long as the longest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from continuum.benchmark.reasons import Code, Reason
from continuum.benchmark.statistics import values

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BATCHES = 10
TREND = 39
"""|S| from which there is a trend."""
OVERLOADED = 19
"""S from which there is one at a worker that is offered more than it can do."""
FEWEST = 60
"""Requests without which no trend is looked for; `BATCHES` of them at an overloaded worker."""
RELEVANT = 0.05
_AT_ITS_END = 0.1
"""Share of the whole change that comes in the second half where a trend lasts to the end."""


@dataclass(frozen=True)
class Trend:
    """The change in the latency of one worker's requests over a repetition.

    Attributes:
        worker: its name, or the endpoint's that answered itself.
        kind: `grew` or `fell` until the end, or `levelled` in its second half.
        slope: by how many ms each second.
        load: requests a second times seconds of work, over what it works on at a time; None where
            that is not known.
    """

    repetition: int
    worker: str
    kind: Literal["grew", "fell", "levelled"]
    slope: float
    load: float | None = None

    def __str__(self) -> str:
        where = f"in repetition {self.repetition}"
        by = f"by {abs(self.slope):.3g} ms each second"
        load = (
            ""
            if self.load is None
            else f"; it is offered {100 * self.load:.0f} % of what it can do"
        )
        if self.kind == "grew":
            return f"latency still grew at the end {where} at {self.worker}, {by}{load}"
        said = "still fell at its end" if self.kind == "fell" else "came to rest in its second half"
        return f"the warm-up was not over {where} at {self.worker}: latency {said}"


def trends(samples: pa.Table, servers: Mapping[str, int | None] | None = None) -> list[Trend]:
    """The repetitions, and the workers in each, whose latency had a trend.

    Args:
        samples: of the whole run.
        servers: requests that a worker, or an endpoint without one, works on at a time, by name.
    """
    measured = ~samples["warmup"].to_numpy()
    repetition = samples["repetition"].to_numpy()[measured]
    endpoint = samples["endpoint"].to_numpy()[measured]
    worker = samples["worker"].to_numpy()[measured]
    worker = np.where(worker == None, endpoint, worker)  # noqa: E711  of each of them
    due = _seconds(samples, "intended_ns")[measured]
    latency = values(samples, "latency_ms")[measured]
    work = values(samples, "processing_ms")[measured]
    found = []
    for number in np.unique(repetition):
        for name in sorted(set(worker[repetition == number])):
            here = (repetition == number) & (worker == name) & ~np.isnan(due)
            load = _load(due[here], work[here], (servers or {}).get(name))
            trend = _trend(due[here], latency[here], endpoint[here], load)
            if trend is not None:
                found.append(Trend(int(number), str(name), *trend, load))
    return found


def reasons(samples: pa.Table, servers: Mapping[str, int | None] | None = None) -> list[Reason]:
    """A reason for each trend; the arguments are those of `trends`."""
    return [
        Reason(
            code=Code.NOT_STEADY,
            sentence=str(trend),
            figures={
                "repetition": trend.repetition,
                "worker": trend.worker,
                "slope_ms_per_s": round(trend.slope, 4),
                **({} if trend.load is None else {"load": trend.load}),
            },
        )
        for trend in trends(samples, servers)
    ]


def _seconds(samples: pa.Table, column: str) -> Floats:
    chunked = samples[column]
    known = ~chunked.is_null().to_numpy()
    first = int(chunked.drop_null().to_numpy().min(initial=2**62))
    since = chunked.fill_null(first).to_numpy().astype(np.int64) - first
    return np.where(known, since / 1e9, np.nan)


def _load(due: Floats, work: Floats, servers: int | None) -> float | None:
    """Arrivals times work over what is worked on at a time."""
    known = work[~np.isnan(work)]
    span = np.ptp(due) if due.size > 1 else 0.0
    if not servers or not known.size or span == 0:
        return None
    return round(float((due.size - 1) / span * known.mean() / 1e3 / servers), 4)


def _trend(
    due: Floats, latency: Floats, endpoint: NDArray[np.object_], load: float | None
) -> tuple[Literal["grew", "fell", "levelled"], float] | None:
    overloaded = load is not None and load > 1
    answered = ~np.isnan(latency)
    if due.size < (BATCHES if overloaded else FEWEST) or not answered.any():
        return None
    filled = np.where(answered, latency, np.nanmax(latency))
    order = np.argsort(due, kind="stable")
    means = _batches(_centred(filled, endpoint)[order])
    times = _batches(due[order])
    statistic = kendall(means)
    if abs(statistic) < TREND and not (overloaded and statistic >= OVERLOADED):
        return None
    slope = float(np.polyfit(times, means, 1)[0])
    if abs(slope) * np.ptp(due) < RELEVANT * abs(filled.mean()):
        return None
    change, late = means[-1] - means[0], means[-1] - means[BATCHES // 2]
    if change * late <= 0 or abs(late) < _AT_ITS_END * abs(change):
        return "levelled", slope
    return ("grew" if slope > 0 else "fell"), slope


def _centred(latency: Floats, endpoint: NDArray[np.object_]) -> Floats:
    """Latencies less their endpoint's median: endpoints may have links of their own."""
    centred = latency.copy()
    for name in set(endpoint):
        mine = endpoint == name
        centred[mine] -= np.median(latency[mine])
    return centred


def _batches(series: Floats) -> Floats:
    return np.array([each.mean() for each in np.array_split(series, BATCHES)])


def kendall(series: Floats) -> int:
    """Mann and Kendall's S: pairs of which the later is larger, less those where it is smaller."""
    earlier, later = np.triu_indices(len(series), 1)
    return int(np.sign(series[later] - series[earlier]).sum())
