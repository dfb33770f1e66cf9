"""From samples to the table: n, mean, deviation and percentiles, each with its 95 % interval.

`continuum.benchmark.intervals` has the method, and `docs/statistics.md` describes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from continuum.benchmark.intervals import (
    LEAST_BEYOND_EACH,
    Estimate,
    Series,
    between,
    enough,
    percentile_of,
)
from continuum.benchmark.results import Figure, Group, GroupKind, Percentile, Statistic

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]
    Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Quantity:
    """Something that is computed from each sample: `finish` minus `start`, or `finish` alone.

    Attributes:
        label: what it is called where it is shown; empty for what `continuum.benchmark.results`
            calls it.
        whole: whether it lasts until a sample has its answer. Those that got none then count in
            its percentiles, as ones that took for ever.
    """

    name: str
    unit: str
    finish: str
    start: str = ""
    label: str = ""
    whole: bool = False


QUANTITIES = (
    Quantity("latency_ms", "ms", "answered_ns", "intended_ns", whole=True),
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


def aggregate(
    samples: pa.Table,
    *,
    quantities: tuple[Quantity, ...] = QUANTITIES,
    answer_timeout: float | None = None,
) -> tuple[Group, ...]:
    """The table: all samples, then each endpoint's, then each worker's, by name.

    Statistics are over samples with status `ok` after the warm-up; the others are counted, and
    take part in percentiles of quantities that are `whole`.

    Args:
        samples: one repetition or more.
        quantities: of each group.
        answer_timeout: seconds after which there is no answer any more; None where that is not
            known.
    """
    ordered = samples.sort_by([("repetition", "ascending"), ("intended_ns", "ascending")])
    bound = 0.0 if answer_timeout is None else answer_timeout * 1000
    return tuple(
        _group(columns, kind, name, bound)
        for kind, name, columns in _groups(ordered, _columns(ordered, quantities))
    )


def values(samples: pa.Table, quantity: str) -> Floats:
    """A quantity of every sample in turn, in its unit; not-a-number where a time is null."""
    return values_of(samples, next(each for each in QUANTITIES if each.name == quantity))


def negative(samples: pa.Table, *, quantities: tuple[Quantity, ...] = QUANTITIES) -> dict[str, int]:
    """Number of times below 0 in answered samples after the warm-up, by quantity that has some."""
    measured = ~samples["warmup"].to_numpy().astype(bool)
    measured &= samples["status"].to_numpy() == "ok"
    counts = {
        each.name: int(np.count_nonzero(values_of(samples, each)[measured] < 0))
        for each in quantities
        if each.start
    }
    return {name: count for name, count in counts.items() if count}


def values_of(samples: pa.Table, quantity: Quantity) -> Floats:
    """The same for a quantity that need not be one of ours.

    By the clock that is never set, where samples have their times by it. A time below 0 is one across
    a clock that was set, or across two clocks.
    """
    finish, known = _integers(samples, quantity.finish)
    if not quantity.start:
        return np.where(known, finish, np.nan)
    start, start_known = _integers(samples, quantity.start)
    # Subtracted as integers: a double holds Unix time in ns only to about 200 ns.
    found = np.where(known & start_known, (finish - start) / 1e6, np.nan)
    steady = [
        f"{name.removesuffix('_ns')}_monotonic_ns" for name in (quantity.finish, quantity.start)
    ]
    if not set(steady) <= set(samples.schema.names):
        return found
    (finish, known), (start, start_known) = (_integers(samples, name) for name in steady)
    return np.where(known & start_known, (finish - start) / 1e6, found)


@dataclass(frozen=True)
class _Columns:
    """The columns that statistics need, as arrays over samples in the order of their time.

    `endpoint` and `worker` are numbers of names, -1 for none. `quantities` are not-a-number where a
    sample has none, infinite where it got no answer.
    """

    status: NDArray[Any]
    warmup: Mask
    endpoint: Integers
    worker: Integers
    repetition: Integers
    intended: Integers
    due: Mask
    answered: Integers
    came: Mask
    judged: Mask
    agreed: Mask
    quantities: dict[Quantity, Floats]

    def chosen(self, rows: Integers | Mask) -> _Columns:
        """Some of the samples."""
        columns = {
            each.name: getattr(self, each.name)[rows]
            for each in fields(self)
            if each.name != "quantities"
        }
        return _Columns(
            **columns, quantities={name: each[rows] for name, each in self.quantities.items()}
        )


def _columns(samples: pa.Table, quantities: tuple[Quantity, ...]) -> _Columns:
    status = samples["status"].to_numpy()
    ok = status == "ok"
    intended, due = _integers(samples, "intended_ns")
    answered, came = _integers(samples, "answered_ns")
    judged = agreed = np.zeros(samples.num_rows, dtype=bool)
    if "agrees" in samples.schema.names and str(samples.schema.field("agrees").type) == "bool":
        judged = ok & samples["agrees"].is_valid().to_numpy()
        agreed = judged & samples["agrees"].fill_null(False).to_numpy()  # noqa: FBT003  pyarrow's
    return _Columns(
        status=status,
        warmup=samples["warmup"].to_numpy().astype(bool),
        endpoint=_numbers(samples["endpoint"])[0],
        worker=_numbers(samples["worker"])[0],
        repetition=samples["repetition"].to_numpy().astype(np.int64),
        intended=intended,
        due=due,
        answered=answered,
        came=came,
        judged=judged,
        agreed=agreed,
        quantities={
            each: np.where(ok, _possible(samples, each), np.inf if each.whole else np.nan)
            for each in quantities
        },
    )


def _possible(samples: pa.Table, quantity: Quantity) -> Floats:
    """A quantity, without the times that are less than none: no mean holds them."""
    found = values_of(samples, quantity)
    return np.where(found < 0, np.nan, found) if quantity.start else found


def _integers(samples: pa.Table, column: str) -> tuple[Integers, Mask]:
    """A column of integers with 0 for null, and where it is not null."""
    chunked = samples[column]
    known = ~chunked.is_null().to_numpy()
    return chunked.fill_null(0).to_numpy().astype(np.int64), known


def _numbers(names: pa.ChunkedArray) -> tuple[Integers, list[str]]:
    """Each name as its place in the list of all different ones, -1 for null."""
    encoded = names.combine_chunks().dictionary_encode()
    return encoded.indices.fill_null(-1).to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _groups(samples: pa.Table, columns: _Columns) -> Iterator[tuple[GroupKind, str, _Columns]]:
    yield "all", "all", columns
    kinds: tuple[tuple[GroupKind, Integers], ...] = (
        ("endpoint", columns.endpoint),
        ("worker", columns.worker),
    )
    for kind, numbers in kinds:
        names = _numbers(samples[kind])[1]
        for place in sorted(range(len(names)), key=lambda place: natural(names[place])):
            yield kind, names[place], columns.chosen(np.flatnonzero(numbers == place))


def natural(name: str) -> tuple[str, int, str]:
    """endpoint-2 before endpoint-10."""
    head = name.rstrip("0123456789")
    digits = name[len(head) :]
    return head, int(digits) if digits else -1, name


def _group(columns: _Columns, kind: GroupKind, name: str, bound: float) -> Group:
    measured = columns.chosen(~columns.warmup)
    statistics = []
    for quantity, column in measured.quantities.items():
        here = ~np.isnan(column)
        found = column[here]
        if np.isfinite(found).any():
            repetitions = np.split(found, _edges(measured.repetition[here]))
            usual = _usual(found, measured.endpoint[here]) if len(repetitions) == 1 else 0.0
            statistics.append(summarise(quantity, repetitions, bound=bound, usual=usual))
    return Group(
        kind=kind,
        name=name,
        samples=measured.status.size,
        ok=int(np.count_nonzero(measured.status == "ok")),
        lost=int(np.count_nonzero(measured.status == "lost")),
        timeout=int(np.count_nonzero(measured.status == "timeout")),
        error=int(np.count_nonzero(measured.status == "error")),
        warmup=int(np.count_nonzero(columns.warmup)),
        judged=int(np.count_nonzero(measured.judged)),
        agreed=int(np.count_nonzero(measured.agreed)),
        seconds=_seconds(measured),
        statistics=tuple(statistics),
    )


def _edges(repetition: Integers) -> Integers:
    """The beginnings of the repetitions after the first: they lie one after the other."""
    return np.flatnonzero(np.diff(repetition)) + 1


def _seconds(measured: _Columns) -> float | None:
    """From the first request that was due to the last answer, summed over repetitions."""
    total: float | None = None
    edges = [0, *_edges(measured.repetition), measured.repetition.size]
    for first, last in itertools.pairwise(edges):
        here = slice(first, last)
        due, came = measured.due[here], measured.came[here]
        if due.any() and came.any():
            begun, ended = measured.intended[here][due].min(), measured.answered[here][came].max()
            total = (total or 0.0) + (int(ended) - int(begun)) / 1e9
    return None if total is None else round(total, 6)


def _usual(values: Floats, numbers: Integers) -> Floats:
    """The mean of each sample's endpoint, over those that are finite; 0 where none is."""
    known = np.isfinite(values)
    count = np.bincount(numbers[known], minlength=int(numbers.max()) + 1)
    total = np.bincount(numbers[known], values[known], minlength=int(numbers.max()) + 1)
    means: Floats = (total / np.maximum(1, count))[numbers]
    return means


def summarise(
    quantity: Quantity,
    repetitions: list[Floats],
    *,
    bound: float = 0.0,
    usual: Floats | float = 0.0,
) -> Statistic:
    """Mean, deviation and percentiles with their intervals.

    Args:
        quantity: of which.
        repetitions: the samples of each in the order of their time, infinite where there was no
            answer; at least one of all is finite.
        bound: what a sample without an answer took at least, in the unit.
        usual: see `Series`; of one repetition.
    """
    whole = np.concatenate(repetitions)
    finite = [each[np.isfinite(each)] for each in repetitions]
    finite = [each for each in finite if each.size]
    answered = np.concatenate(finite)
    n = answered.size
    bound = max(bound, float(answered.max()))
    percentiles: list[Percentile]
    if len(repetitions) == 1:
        only = Series(whole, usual)
        mean = only.mean
        deviation = Estimate(float(answered.std(ddof=1))) if n > 1 else None
        percentiles = [_within(only, each, bound) for each in PERCENTILES]
    else:
        positive = bool((answered >= 0).all())
        mean = between(np.array([each.mean() for each in finite]), positive=positive)
        several = [each.std(ddof=1) for each in finite if each.size > 1]
        deviation = between(np.array(several), positive=True) if several else None
        percentiles = [_over(repetitions, each, bound) for each in PERCENTILES]
    return Statistic(
        quantity=quantity.name,
        label=quantity.label,
        unit=quantity.unit,
        n=n,
        unanswered=whole.size - n,
        repetitions=len(repetitions),
        level="run" if len(repetitions) == 1 else "repetitions",
        mean=_figure(mean),
        deviation=None if deviation is None else _figure(deviation),
        p50=percentiles[0],
        p95=percentiles[1],
        p99=percentiles[2],
        maximum=_percentile(Estimate(float(whole.max())), bound),
    )


def _within(series: Series, percentile: float, bound: float) -> Percentile:
    """A percentile of a single repetition; nothing where too few samples lie beyond it."""
    if percentile > 50 and not enough(series.values.size, percentile):
        return Percentile()
    return _percentile(series.percentile(percentile), bound)


def _over(repetitions: list[Floats], percentile: float, bound: float) -> Percentile:
    """A percentile over repetitions; nothing where too few samples lie beyond it.

    Of those repetitions that have enough for one of their own. Where not even two have, it is that
    of all samples together, and how well it is known cannot be said.
    """
    together = np.concatenate(repetitions)
    if percentile > 50 and not enough(together.size, percentile):
        return Percentile()
    each = np.array(
        [
            percentile_of(np.sort(values), percentile)
            for values in repetitions
            if percentile <= 50 or enough(values.size, percentile, LEAST_BEYOND_EACH)
        ]
    )
    if each.size < 2:
        return _percentile(Estimate(percentile_of(np.sort(together), percentile)), bound)
    positive = bool((together >= 0).all())
    # One that is infinite makes the mean so; it is more than that with the bound in its place.
    least = float(np.where(np.isfinite(each), each, bound).mean())
    return _percentile(between(each, positive=positive), least)


def _percentile(found: Estimate, bound: float) -> Percentile:
    known = bool(np.isfinite(found.value))
    return Percentile(
        value=_rounded(found.value) if known else None,
        low=None if found.low is None else _rounded(found.low),
        high=None if found.high is None else _rounded(found.high),
        above=None if known else _rounded(bound),
    )


def _figure(found: Estimate) -> Figure:
    return Figure(
        value=_rounded(found.value),
        low=None if found.low is None else _rounded(found.low),
        high=None if found.high is None else _rounded(found.high),
    )


def _rounded(value: float) -> float:
    """To 0.1 µs, or a ten-thousandth of a byte: below what any clock here tells."""
    return round(float(value), 4)
