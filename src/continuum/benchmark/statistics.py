"""From samples to the table: n, mean, deviation and percentiles, each with its 95 % interval.

Intervals are percentile bootstraps. Repetitions are not alike (each has its own seed and its own
moment), so with two or more of them a resample draws repetitions first, and then samples within
each (Davison and Hinkley, *Bootstrap Methods and Their Application*, 1997, section 3.8). With one
repetition it draws samples, and the interval says nothing about what another run would give.

Where samples are so many that drawing as many again would take long, fewer are drawn, and the
interval of a single repetition is scaled by the root of their share; with several repetitions it
is left as it is, a little too wide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from continuum.benchmark.results import Figure, Group, GroupKind, Statistic

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]
    Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Quantity:
    """Something that is computed from each sample: `finish` minus `start`, or `finish` alone.

    `label` is what it is called where it is shown; empty for what `continuum.benchmark.results`
    calls it.
    """

    name: str
    unit: str
    finish: str
    start: str = ""
    label: str = ""


QUANTITIES = (
    Quantity("latency_ms", "ms", "answered_ns", "intended_ns"),
    Quantity("late_ms", "ms", "prepare_started_ns", "intended_ns"),
    Quantity("preparation_ms", "ms", "prepare_finished_ns", "prepare_started_ns"),
    Quantity("forward_ms", "ms", "received_ns", "sent_ns"),
    Quantity("queue_ms", "ms", "started_ns", "received_ns"),
    Quantity("processing_ms", "ms", "finished_ns", "started_ns"),
    Quantity("return_ms", "ms", "answered_ns", "finished_ns"),
    Quantity("request_bytes", "B", "request_bytes"),
)
"""In the order of the table. Each is null where one of its times is."""

PERCENTILES = (50.0, 95.0, 99.0)
CONFIDENCE = 0.95
RESAMPLES = (200, 1000)
"""Fewest and most resamples for an interval."""
DRAWS = (500, 5000)
"""Fewest and most samples of one group that a resample draws, where the group has that many."""
_EFFORT = 40_000_000
"""Values that may be drawn for one table: about two seconds."""


def aggregate(
    samples: pa.Table, *, seed: int = 1, quantities: tuple[Quantity, ...] = QUANTITIES
) -> tuple[Group, ...]:
    """The table: all samples, then each endpoint's, then each worker's, by name.

    Statistics are over samples with status `ok` after the warm-up; the others are counted. The
    same samples and seed give the same table.
    """
    columns = _Columns.of(samples, quantities)
    members = list(_groups(columns))
    sizes = [int(np.count_nonzero(mask & columns.counted)) for _, _, mask in members]
    bootstrap = _bootstrap(sizes, len(quantities), np.random.default_rng(seed))
    return tuple(_group(columns, kind, name, mask, bootstrap) for kind, name, mask in members)


def values(samples: pa.Table, quantity: str) -> Floats:
    """A quantity of every sample in turn, in its unit; not-a-number where a time is null."""
    return values_of(samples, next(each for each in QUANTITIES if each.name == quantity))


def values_of(samples: pa.Table, quantity: Quantity) -> Floats:
    """The same for a quantity that need not be one of ours."""
    finish, known = _integers(samples, quantity.finish)
    if not quantity.start:
        return np.where(known, finish, np.nan)
    start, start_known = _integers(samples, quantity.start)
    # Subtracted as integers: a double holds Unix time in ns only to about 200 ns.
    return np.where(known & start_known, (finish - start) / 1e6, np.nan)


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are found: `resamples`, of which each draws at most `draws` samples.

    `rng` is consumed.
    """

    resamples: int
    draws: int
    rng: np.random.Generator


@dataclass(frozen=True)
class _Columns:
    """The columns that statistics need, as arrays over the samples."""

    status: NDArray[Any]
    warmup: Mask
    endpoint: NDArray[Any]
    worker: NDArray[Any]
    repetition: Integers
    intended: tuple[Integers, Mask]
    answered: tuple[Integers, Mask]
    agrees: NDArray[Any]
    quantities: dict[Quantity, Floats]

    @classmethod
    def of(cls, samples: pa.Table, quantities: tuple[Quantity, ...]) -> _Columns:
        names = samples.schema.names
        judged = "agrees" in names and str(samples.schema.field("agrees").type) == "bool"
        agrees = samples["agrees"].to_numpy() if judged else np.full(samples.num_rows, None)
        return cls(
            status=samples["status"].to_numpy(),
            warmup=samples["warmup"].to_numpy().astype(bool),
            endpoint=samples["endpoint"].to_numpy(),
            worker=samples["worker"].to_numpy(),
            repetition=samples["repetition"].to_numpy().astype(np.int64),
            intended=_integers(samples, "intended_ns"),
            answered=_integers(samples, "answered_ns"),
            agrees=agrees,
            quantities={each: values_of(samples, each) for each in quantities},
        )

    @property
    def counted(self) -> Mask:
        """Samples that statistics are over."""
        ok: Mask = self.status == "ok"
        return ~self.warmup & ok


def _integers(samples: pa.Table, column: str) -> tuple[Integers, Mask]:
    """A column of integers with 0 for null, and where it is not null."""
    chunked = samples[column]
    known = ~chunked.is_null().to_numpy()
    return chunked.fill_null(0).to_numpy().astype(np.int64), known


def _groups(columns: _Columns) -> Iterator[tuple[GroupKind, str, Mask]]:
    yield "all", "all", np.ones(len(columns.status), dtype=bool)
    kinds: tuple[tuple[GroupKind, NDArray[Any]], ...] = (
        ("endpoint", columns.endpoint),
        ("worker", columns.worker),
    )
    for kind, names in kinds:
        for name in sorted({name for name in names if name is not None}, key=_natural):
            yield kind, name, names == name


def _natural(name: str) -> tuple[str, int, str]:
    """endpoint-2 before endpoint-10."""
    head = name.rstrip("0123456789")
    digits = name[len(head) :]
    return head, int(digits) if digits else -1, name


def _bootstrap(sizes: list[int], quantities: int, rng: np.random.Generator) -> Bootstrap:
    """As many resamples and draws as keep the whole table within its effort."""
    fewest, most = RESAMPLES
    least = sum(min(size, DRAWS[0]) for size in sizes) * quantities
    resamples = fewest if least * most > _EFFORT else most
    share = max(1, _EFFORT // (resamples * quantities * max(1, len(sizes))))
    return Bootstrap(resamples, int(np.clip(share, *DRAWS)), rng)


def _group(
    columns: _Columns, kind: GroupKind, name: str, mask: Mask, bootstrap: Bootstrap
) -> Group:
    measured = mask & ~columns.warmup
    counted = mask & columns.counted
    status = columns.status[measured]
    judged = [value for value in columns.agrees[counted] if value is not None]
    statistics = []
    for quantity, column in columns.quantities.items():
        here = counted & ~np.isnan(column)
        if here.any():
            repetitions = columns.repetition[here]
            clusters = [column[here][repetitions == each] for each in np.unique(repetitions)]
            statistics.append(summarise(quantity, clusters, bootstrap))
    return Group(
        kind=kind,
        name=name,
        samples=int(np.count_nonzero(measured)),
        ok=int(np.count_nonzero(counted)),
        lost=int(np.count_nonzero(status == "lost")),
        timeout=int(np.count_nonzero(status == "timeout")),
        error=int(np.count_nonzero(status == "error")),
        warmup=int(np.count_nonzero(mask & columns.warmup)),
        judged=len(judged),
        agreed=sum(1 for value in judged if value),
        seconds=_seconds(columns, measured),
        statistics=tuple(statistics),
    )


def _seconds(columns: _Columns, measured: Mask) -> float | None:
    """From the first request that was due to the last answer, summed over repetitions."""
    intended, due = columns.intended
    answered, came = columns.answered
    total: float | None = None
    for repetition in np.unique(columns.repetition[measured]):
        here = measured & (columns.repetition == repetition)
        if (here & due).any() and (here & came).any():
            span = int(answered[here & came].max()) - int(intended[here & due].min())
            total = (total or 0.0) + span / 1e9
    return None if total is None else round(total, 6)


def summarise(quantity: Quantity, clusters: list[Floats], bootstrap: Bootstrap) -> Statistic:
    """Mean, deviation and percentiles (linear between neighbours), with their intervals.

    `clusters` are the samples of each repetition, none of them empty.
    """
    whole = np.sort(np.concatenate(clusters))
    centre = [whole.mean(), *np.percentile(whole, PERCENTILES)]
    if whole.size == 1:
        mean, p50, p95, p99 = (Figure(value=_rounded(value)) for value in centre)
        deviation = None
    else:
        estimates = np.array([whole.std(ddof=1), *centre])
        low, high = _interval(clusters, estimates, bootstrap)
        deviation, mean, p50, p95, p99 = (
            Figure(value=_rounded(value), low=_rounded(below), high=_rounded(above))
            for value, below, above in zip(estimates, low, high, strict=True)
        )
    return Statistic(
        quantity=quantity.name,
        label=quantity.label,
        unit=quantity.unit,
        n=whole.size,
        mean=mean,
        deviation=deviation,
        p50=p50,
        p95=p95,
        p99=p99,
    )


def _interval(
    clusters: list[Floats], estimates: Floats, bootstrap: Bootstrap
) -> tuple[Floats, Floats]:
    drawn = _resample(clusters, bootstrap)
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(drawn, tails, axis=1)
    share = bootstrap.draws / sum(cluster.size for cluster in clusters)
    if len(clusters) == 1 and share < 1:
        middle = np.median(drawn, axis=1)
        low = estimates + (low - middle) * share**0.5
        high = estimates + (high - middle) * share**0.5
    return low, high


def _rounded(value: float) -> float:
    """To 0.1 µs, or a ten-thousandth of a byte: below what any clock here tells."""
    return round(float(value), 4)


def _resample(clusters: list[Floats], bootstrap: Bootstrap) -> Floats:
    """Deviation, mean and percentiles of each resample: (2 + percentiles, resamples).

    Works on ranks rather than values, since small integers sort faster; a rank past the last one
    fills rows that drew a shorter repetition.
    """
    resamples, rng = bootstrap.resamples, bootstrap.rng
    joined = np.concatenate(clusters)
    order = np.argsort(joined, kind="stable")
    filler = joined.size
    rank = np.empty(filler, dtype=np.uint16 if filler < 2**16 else np.uint32)
    rank[order] = np.arange(filler)
    sizes = np.array([cluster.size for cluster in clusters])
    offsets = np.cumsum(sizes) - sizes
    taken = np.maximum(1, np.round(sizes * min(1.0, bootstrap.draws / filler)).astype(np.int64))
    blocks = []
    count = np.zeros(resamples, dtype=np.int64)
    for _ in clusters:
        pick = rng.integers(0, len(clusters), resamples)
        within = rng.random((resamples, taken.max())) * sizes[pick][:, None]
        ranks = rank[offsets[pick][:, None] + within.astype(np.int64)]
        ranks[np.arange(taken.max()) >= taken[pick][:, None]] = filler
        blocks.append(ranks)
        count += taken[pick]
    ranks = np.concatenate(blocks, axis=1)
    ranks.sort(axis=1)
    # Around the mean, so that squares lose no digits; the filler then adds nothing to any sum.
    middle = joined.mean()
    centred = np.append(joined[order] - middle, 0.0)
    rows = centred[ranks]
    mean = rows.sum(axis=1) / count
    square = np.einsum("ij,ij->i", rows, rows)
    variance = np.maximum(0.0, (square - count * mean**2) / (count - 1))
    figures = [np.sqrt(variance), mean + middle]
    each = np.arange(resamples)
    for percentile in PERCENTILES:
        place = percentile / 100 * (count - 1)
        below = place.astype(np.int64)
        above = np.minimum(below + 1, count - 1)
        first, second = rows[each, below], rows[each, above]
        figures.append(middle + first + (place - below) * (second - first))
    return np.stack(figures)
