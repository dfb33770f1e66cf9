"""The network and the queues that were declared, modelled for each request, beside what was measured.

**Forward delay** and **return** are modelled from when each message was really sent and how large it
was (`continuum.benchmark.transfer`), the **wait at the worker** from when its request should have come
and how long the worker really worked on each (`continuum.benchmark.queueing`). These three are judged.
The **end-to-end latency** is their sum and what the endpoint and the worker took by themselves; its
verdict follows from theirs, since it is a sum of which a large part was measured.

What programs, broker and kernel add to a message is no fault of a link: it is taken from a `Baseline`,
or, where none was measured, may be anything up to `UNMEASURED_MS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from continuum.benchmark import queueing, transfer
from continuum.benchmark.intervals import BATCHES, LEAST_SAMPLES, Series, student_t
from continuum.benchmark.reasons import Code, Reason
from continuum.benchmark.results import LABELS, Baseline, Expectation, GroupKind, Verdict
from continuum.benchmark.statistics import natural, values

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from continuum.benchmark.contract import Transport
    from continuum.benchmark.transfer import Way

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Mask = NDArray[np.bool_]

TOLERANCE = 0.05
"""The largest distance between the means, as a share of what is expected."""
UNMEASURED_MS = 3.0
"""The most that programs, broker and kernel may add to each step where no baseline tells."""
PARTS = ("forward_ms", "queue_ms", "return_ms")
WHOLE = "latency_ms"

_SIMULATED = 10_000
"""Requests that are modelled at least, so that what is expected does not vary by chance too..."""
_SIMULATIONS = 100
"""... with no request modelled more often than this."""
_CHANCE = 0.95
"""Of each end of an interval: an equivalence test of 5 % needs the interval of 90 %."""
_DEVIATIONS = 3
"""Standard deviations of the baseline's requests that no link is blamed for."""

_NO_WAY = "the endpoint's links are not known"
_NO_TRANSPORT = "the application does not say what crosses the network"
_LOSSY = "repeated packets of a lossy link are not modelled"
_NOTHING_EMULATED = "no link is emulated there"
_NO_SIZES = "the size of some messages is not known"
_NO_TIMES = "some samples lack sent_ns, received_ns or finished_ns"
_NO_SERVERS = "how many requests the worker works on at a time is not known"
_NO_ARRIVALS = "when all of the worker's requests should have come is not known"
_TOO_FEW = f"fewer than {LEAST_SAMPLES} samples in a repetition"
_NO_BASELINE = "programs may add as much: not measured"
_NO_CLOCKS = "how the machines' clocks differ is not known"
_VARIES = "programs vary by as much"
_STRADDLES = "the interval is partly within the tolerance"
_PARTS_NOT_SHOWN = "not all of its parts are"


@dataclass(frozen=True)
class Network:
    """The network that requests and answers cross.

    Attributes:
        ways: by endpoint.
        transport: how messages cross; None when the application cannot say.
        clocks: by endpoint whose clock is not its worker's: the worker's minus its own, at least
            and at most, in ms.
    """

    ways: Mapping[str, Way]
    transport: Transport | None
    clocks: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def expect(
    samples: pa.Table,
    network: Network,
    *,
    servers: Mapping[str, int | None] | None = None,
    baselines: Sequence[Baseline] = (),
    seed: int = 1,
) -> tuple[Expectation, ...]:
    """Forward delay, wait, return and end-to-end latency: expected, beside measured.

    Where samples are few, each is modelled several times.

    Args:
        samples: of the whole run; those of the warm-up and unanswered ones load the queues too.
        network: what they cross.
        servers: requests that a worker, or an endpoint without one, works on at a time, by name.
        baselines: of `PARTS`, what each takes where no link is crossed.
        seed: the same seed and samples give the same expectation.

    Returns:
        For all samples, then for each endpoint; over the `ok` ones after the warm-up. A quantity
        that no sample has is left out, and so are transfers that cross nothing.
    """
    measured = _Measured.of(samples)
    if not measured.counted.any():
        return ()
    model = _Model.of(measured, network, servers or {}, np.random.default_rng(seed))
    comparison = _Comparison(measured, model, {each.quantity: each for each in baselines})
    rows = comparison.rows("all", "all", measured.counted)
    for endpoint in np.unique(measured.endpoint[measured.counted]):
        here = measured.counted & (measured.endpoint == endpoint)
        rows += comparison.rows("endpoint", measured.names[endpoint], here)
    return tuple(rows)


@dataclass(frozen=True)
class _Measured:
    """All samples: moments in ms after the first, not-a-number for null; sizes in bytes.

    `endpoint` and `worker` are places in `names`. `itself` are those that their endpoint answered,
    without a worker beside it; `counted` those that figures are over.
    """

    names: tuple[str, ...]
    repetition: Integers
    endpoint: Integers
    worker: Integers
    itself: Mask
    counted: Mask
    sent: Floats
    received: Floats
    started: Floats
    finished: Floats
    due: Floats
    request: Floats
    answer: Floats
    quantities: Mapping[str, Floats]

    @classmethod
    def of(cls, samples: pa.Table) -> _Measured:
        first = int(samples["intended_ns"].drop_null().to_numpy().min(initial=2**62))
        names, endpoint, worker = _names(samples)
        return cls(
            names=names,
            repetition=samples["repetition"].to_numpy().astype(np.int64),
            endpoint=endpoint,
            worker=worker,
            itself=worker == endpoint,
            counted=(samples["status"].to_numpy() == "ok") & ~samples["warmup"].to_numpy(),
            sent=_moments(samples, "sent_ns", first),
            received=_moments(samples, "received_ns", first),
            started=_moments(samples, "started_ns", first),
            finished=_moments(samples, "finished_ns", first),
            due=_moments(samples, "intended_ns", first),
            request=_sizes(samples, "request_bytes"),
            answer=_sizes(samples, "answer_bytes"),
            quantities={name: values(samples, name) for name in (*PARTS, WHOLE)},
        )

    @property
    def processing(self) -> Floats:
        """The time for which a worker worked on each request."""
        return self.finished - self.started

    @property
    def own(self) -> Floats:
        """The programs' time: the endpoint's until it sent, and the worker's processing."""
        begun = np.where(self.itself, np.fmin(self.sent, self.received), self.sent)
        return begun - self.due + self.processing


def _names(samples: pa.Table) -> tuple[tuple[str, ...], Integers, Integers]:
    """All names in their order, and of each sample the place of its endpoint and of its worker.

    A sample without a worker was answered by its endpoint.
    """
    endpoint = samples["endpoint"].combine_chunks().dictionary_encode()
    worker = samples["worker"].combine_chunks().dictionary_encode()
    found = (*endpoint.dictionary.to_pylist(), *worker.dictionary.to_pylist())
    names = tuple(sorted(set(found), key=natural))
    place = np.array([names.index(each) for each in found], dtype=np.int64)
    own = place[endpoint.indices.to_numpy()]
    there = ~worker.is_null().to_numpy(zero_copy_only=False)
    behind = len(endpoint.dictionary) + worker.indices.fill_null(0).to_numpy().astype(np.int64)
    return names, own, np.where(there, place[behind] if there.any() else own, own)


def _moments(samples: pa.Table, column: str, first: int) -> Floats:
    chunked = samples[column]
    known = ~chunked.is_null().to_numpy()
    # Subtracted as integers: a double holds Unix time in ns only to about 200 ns.
    since = chunked.fill_null(first).to_numpy().astype(np.int64) - first
    return np.where(known, since / 1e6, np.nan)


def _sizes(samples: pa.Table, column: str) -> Floats:
    found: Floats = samples[column].cast("float64").to_numpy()
    return found


@dataclass(frozen=True)
class _Model:
    """The expected time of each sample's parts, in ms; not-a-number where it cannot be said.

    Arrays are of shape (simulations, samples). `why_not` says by quantity and endpoint why not.
    """

    measured: _Measured
    network: Network
    expected: Mapping[str, Floats]
    why_not: dict[tuple[str, int], str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        measured: _Measured,
        network: Network,
        servers: Mapping[str, int | None],
        rng: np.random.Generator,
    ) -> _Model:
        counted = int(np.count_nonzero(measured.counted))
        shape = (min(-(-_SIMULATED // counted), _SIMULATIONS), len(measured.endpoint))
        model = cls(measured, network, {name: np.full(shape, np.nan) for name in PARTS})
        known = model._known()
        work = _work(measured)
        for repetition in np.unique(measured.repetition):
            here = measured.repetition == repetition
            for simulation in range(shape[0]):
                model._transfer(simulation, here & known, rng)
                model._wait(simulation, here & ~np.isnan(work), work, servers)
        return model

    def why(self, quantity: str, endpoints: Integers, otherwise: str = _NO_TIMES) -> str:
        """The reason why nothing is expected of a quantity of these endpoints, where that is so."""
        found = (self.why_not.get((quantity, int(each)), "") for each in endpoints)
        return next((each for each in found if each), otherwise)

    def _known(self) -> Mask:
        """Samples whose transfers can be modelled."""
        measured = self.measured
        known = np.zeros(len(measured.endpoint), dtype=bool)
        for endpoint in np.unique(measured.endpoint[~measured.itself]):
            way = self.network.ways.get(measured.names[endpoint])
            if way is None:
                why = _NO_WAY
            elif self.network.transport is None:
                why = _NO_TRANSPORT
            elif way.loses:
                why = _LOSSY
            else:
                known |= measured.endpoint == endpoint
                for quantity, hops in (("forward_ms", way.forward), ("return_ms", way.back)):
                    if not transfer.emulated(hops):
                        self.why_not[quantity, int(endpoint)] = _NOTHING_EMULATED
                continue
            for quantity in PARTS:
                self.why_not[quantity, int(endpoint)] = why
        return known & ~measured.itself

    def _transfer(self, simulation: int, here: Mask, rng: np.random.Generator) -> None:
        """Let all messages of a repetition cross, in both directions."""
        measured, transport = self.measured, self.network.transport
        if transport is None or not here.any():
            return
        endpoints, way = np.unique(measured.endpoint[here], return_inverse=True)
        ways = [self.network.ways[measured.names[each]] for each in endpoints]
        head = transport.protocol_bytes
        answer_head = transport.answer_protocol_bytes
        for quantity, begun, sizes, protocol, hops in (
            ("forward_ms", measured.sent, measured.request, head, [each.forward for each in ways]),
            (
                "return_ms",
                measured.finished,
                measured.answer,
                head if answer_head is None else answer_head,
                [each.back for each in ways],
            ),
        ):
            known = here & ~np.isnan(begun) & ~np.isnan(sizes)
            arrived = transfer.arrivals(
                begun[known],
                sizes[known].astype(np.int64) + protocol,
                hops,
                way[known[here]],
                rng,
            )
            self.expected[quantity][simulation, known] = arrived - begun[known]
            # Answers that never came have no size: only those that did must have one.
            unknown = here & measured.counted & ~np.isnan(begun) & np.isnan(sizes)
            for endpoint in np.unique(measured.endpoint[unknown]):
                self.why_not.setdefault((quantity, int(endpoint)), _NO_SIZES)

    def _wait(
        self, simulation: int, served: Mask, work: Floats, servers: Mapping[str, int | None]
    ) -> None:
        """Let the requests of a repetition wait at their workers, from when they should come.

        `served` are those of which the worker tells what it did; the others took none of its time.
        """
        measured = self.measured
        arrived = measured.sent + self.expected["forward_ms"][simulation]
        own = np.array([name in self.network.clocks for name in measured.names])[measured.endpoint]
        # By the worker's own clock the arrivals are known as they were measured.
        arrived = np.where(measured.itself | own, measured.received, arrived)
        for worker in np.unique(measured.worker[served]):
            mine = np.flatnonzero(served & (measured.worker == worker))
            at_a_time = servers.get(measured.names[worker])
            if at_a_time is None or np.isnan(arrived[mine]).any():
                why = _NO_SERVERS if at_a_time is None else _NO_ARRIVALS
                for endpoint in np.unique(measured.endpoint[mine]):
                    self.why_not.setdefault(("queue_ms", int(endpoint)), why)
                continue
            order = mine[np.argsort(arrived[mine], kind="stable")]
            begun = queueing.starts(arrived[order], work[order], at_a_time)
            self.expected["queue_ms"][simulation, order] = begun - arrived[order]


def _work(measured: _Measured) -> Floats:
    """The worker's time for each request, in ms: its processing, and what the next waits beyond.

    Between the end of one and the beginning of the next a worker sends its answer. How long that
    takes is seen where the next was there already; a pause longer than the mean processing, in
    which the worker was stopped, counts as that long.
    """
    work = measured.processing
    for worker in np.unique(measured.worker[~np.isnan(work)]):
        mine = (measured.worker == worker) & ~np.isnan(work) & ~np.isnan(measured.received)
        if not mine.any():
            continue
        finished = np.sort(measured.finished[mine])
        started, received = measured.started[mine], measured.received[mine]
        before = np.searchsorted(finished, started, side="right") - 1
        free = np.where(before >= 0, finished[np.maximum(before, 0)], -np.inf)
        pauses = (started - free)[received < free]
        if len(pauses):
            work[mine] += np.minimum(pauses, work[mine].mean()).mean()
    return work


@dataclass(frozen=True)
class _Added:
    """The time that programs, broker and kernel add to a step, in ms.

    Attributes:
        mean: as it is expected.
        error: standard error of that mean.
        low, high: from where to where it may really lie, less that mean, where that is not known.
        varies: how far single requests vary, for which no link is blamed.
        measured: whether it was.
    """

    mean: float = 0.0
    error: float = 0.0
    low: float = 0.0
    high: float = 0.0
    varies: float = 0.0
    measured: bool = True

    @classmethod
    def of(cls, quantity: str, baselines: Mapping[str, Baseline]) -> _Added:
        """By the baseline, or by our bounds.

        A wait has none: its tolerance is a share of a service time at least.
        """
        found = baselines.get(quantity)
        if quantity == "queue_ms":
            return cls()
        if found is None:
            return cls(high=UNMEASURED_MS, measured=False)
        spread = _DEVIATIONS * found.deviation
        return cls(found.mean, found.deviation / math.sqrt(found.n), varies=spread)

    def with_clocks(self, quantity: str, ahead: tuple[float, float]) -> _Added:
        """The same and what clocks add, of which the worker's is `ahead` of the endpoint's."""
        if quantity == "queue_ms":
            return self
        low, high = ahead if quantity == "forward_ms" else (-ahead[1], -ahead[0])
        return replace(self, low=self.low + low, high=self.high + high)

    def __add__(self, other: _Added) -> _Added:
        return _Added(
            self.mean + other.mean,
            math.hypot(self.error, other.error),
            self.low + other.low,
            self.high + other.high,
            self.varies + other.varies,
            self.measured and other.measured,
        )


@dataclass(frozen=True)
class _Compared:
    """Samples in the order of time: measured, and modelled once for each simulation."""

    repetition: Integers
    measured: Floats
    modelled: Floats

    @classmethod
    def of(cls, measured: _Measured, known: Mask, found: Floats, modelled: Floats) -> _Compared:
        places = np.flatnonzero(known)
        order = places[np.argsort(measured.due[places], kind="stable")]
        return cls(measured.repetition[order], found[order], modelled[:, order])

    @property
    def differences(self) -> list[Floats]:
        """Measured less modelled, of each repetition."""
        all_of_them = self.measured - self.modelled.mean(axis=0)
        return [all_of_them[self.repetition == each] for each in np.unique(self.repetition)]


@dataclass(frozen=True)
class _Comparison:
    """Rows of measured beside modelled."""

    measured: _Measured
    model: _Model
    baselines: Mapping[str, Baseline]

    def rows(self, kind: GroupKind, name: str, here: Mask) -> list[Expectation]:
        """The rows of a group of samples."""
        measured = self.measured
        endpoints = np.unique(measured.endpoint[here])
        added = {part: _Added.of(part, self.baselines) for part in PARTS}
        rows: dict[str, Expectation] = {}
        for part in PARTS:
            found = measured.quantities[part]
            # An endpoint that answers itself crosses nothing.
            known = here & ~np.isnan(found) & (~measured.itself | (part == "queue_ms"))
            if known.any():
                rows[part] = _judged(
                    self._row(kind, name, part, known, self.model.expected[part]),
                    added[part].with_clocks(part, self._clocks(endpoints)),
                    scale=_mean(measured.processing[known]) if part == "queue_ms" else 0.0,
                    why_not=self.model.why(part, endpoints),
                )
        known = here & ~np.isnan(measured.quantities[WHOLE])
        if known.any():
            rows[WHOLE] = self._whole(kind, name, known, rows, added)
        return list(rows.values())

    def _whole(
        self,
        kind: GroupKind,
        name: str,
        known: Mask,
        parts: Mapping[str, Expectation],
        added: Mapping[str, _Added],
    ) -> Expectation:
        """The end-to-end latency: the parts as modelled, and what programs took as measured."""
        measured, expected = self.measured, self.model.expected
        crossed = ("queue_ms",) if measured.itself[known].all() else PARTS
        modelled = measured.own + sum(
            np.where(measured.itself & (part != "queue_ms"), 0.0, expected[part]) for part in PARTS
        )
        endpoints = np.unique(measured.endpoint[known])
        whys = (self.model.why(part, endpoints, "") for part in crossed)
        row = _judged(
            self._row(kind, name, WHOLE, known, modelled),
            sum((added[part] for part in crossed), start=_Added()),
            why_not=next((each for each in whys if each not in {"", _NOTHING_EMULATED}), _NO_TIMES),
        )
        if row.verdict is None:
            return row
        verdicts = [parts[part].verdict if part in parts else None for part in crossed]
        if "differs" in verdicts:
            return row.judged("differs", "")
        if all(each == "as expected" for each in verdicts):
            return row.judged("as expected", "")
        return row.judged("not shown", _PARTS_NOT_SHOWN)

    def _row(
        self, kind: GroupKind, name: str, quantity: str, known: Mask, modelled: Floats
    ) -> tuple[Expectation, _Compared]:
        compared = _Compared.of(self.measured, known, self.measured.quantities[quantity], modelled)
        row = Expectation(
            kind=kind,
            name=name,
            quantity=quantity,
            n=compared.measured.size,
            measured_mean=_rounded(compared.measured.mean()),
            measured_p50=_rounded(np.median(compared.measured)),
        )
        return row, compared

    def _clocks(self, endpoints: Integers) -> tuple[float, float]:
        """The lead of the clocks of these endpoints' workers over their own."""
        each = [
            self.model.network.clocks.get(self.measured.names[endpoint], (0.0, 0.0))
            for endpoint in endpoints
        ]
        return min(low for low, _ in each), max(high for _, high in each)


def _judged(
    found: tuple[Expectation, _Compared], added: _Added, *, scale: float = 0.0, why_not: str
) -> Expectation:
    """A row with what is expected and its verdict. The tolerance is a share of `scale` at least."""
    row, compared = found
    if np.isnan(compared.modelled).any() or why_not == _NOTHING_EMULATED:
        return row.model_copy(update={"why_not": why_not})
    expected = float(compared.modelled.mean()) + added.mean
    tolerance = TOLERANCE * max(expected, scale)
    row = row.model_copy(
        update={
            "expected_mean": _rounded(expected),
            "expected_p50": _rounded(float(np.median(compared.modelled)) + added.mean),
            "baseline_ms": _rounded(added.mean),
            "tolerance_ms": _rounded(tolerance),
        }
    )
    if not math.isfinite(added.low) or not math.isfinite(added.high):
        return row.judged("not shown", _NO_CLOCKS)
    interval = _interval(compared.differences, added.error)
    if interval is None:
        return row.judged("not shown", _TOO_FEW)
    low, high = interval[0] - added.mean - added.high, interval[1] - added.mean - added.low
    row = row.model_copy(update={"low_ms": _rounded(low), "high_ms": _rounded(high)})
    return row.judged(*_verdict(low, high, tolerance, added))


def _verdict(low: float, high: float, tolerance: float, added: _Added) -> tuple[Verdict, str]:
    """A verdict on the interval of a difference, and why it is no better one."""
    if -tolerance <= low and high <= tolerance:
        return "as expected", ""
    beyond = max(low, -high) - tolerance
    if beyond > added.varies:
        return "differs", ""
    if beyond > 0:
        return "not shown", _VARIES
    return "not shown", _STRADDLES if added.measured else _NO_BASELINE


def _interval(repetitions: list[Floats], error: float) -> tuple[float, float] | None:
    """The 90 % interval of a mean over a run, from batches of neighbours in each of its repetitions.

    Each repetition is compared with what its own requests let expect, and not with other runs: so
    repetitions are strata, and no sample of more that there could be. Where neighbours depend so
    much that this says nothing, from the lowest to the highest batch.

    Args:
        repetitions: differences in the order of time.
        error: standard error of what the mean is compared with beside.
    """
    if min(each.size for each in repetitions) < LEAST_SAMPLES:
        return None
    total = sum(each.size for each in repetitions)
    mean = sum(float(each.sum()) for each in repetitions) / total
    variance, freedom = error**2, 0
    for each in map(Series, repetitions):
        estimate = each.mean
        if estimate.high is not None:
            of_mean = (estimate.high - estimate.value) / student_t(each.batches - 1)
            variance += (each.values.size / total * of_mean) ** 2
            freedom += each.batches - 1
        elif np.ptp(each.values) > 0:
            return _range(repetitions)
    half = student_t(max(1, freedom), _CHANCE) * math.sqrt(variance)
    return mean - half, mean + half


def _range(repetitions: list[Floats]) -> tuple[float, float]:
    """The lowest and the highest mean of a batch."""
    means = [part.mean() for each in repetitions for part in np.array_split(each, BATCHES[1])]
    return float(min(means)), float(max(means))


def _mean(found: Floats) -> float:
    known = found[~np.isnan(found)]
    return float(known.mean()) if known.size else 0.0


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), 4)


def told(rows: Sequence[Expectation]) -> list[Expectation]:
    """The rows that differ and are reasons: of all samples, then of single endpoints.

    The end-to-end latency is none: its verdict follows from the others. Nor is a quantity of one
    endpoint where that of all samples differs already.
    """
    found = [row for row in rows if row.verdict == "differs" and row.quantity != WHOLE]
    everywhere = {row.quantity for row in found if row.kind == "all"}
    return [row for row in found if row.kind == "all" or row.quantity not in everywhere]


def reasons(rows: Sequence[Expectation]) -> list[Reason]:
    """A reason for each row that `told` gives, with sign and size."""
    return [_reason(row) for row in told(rows)]


def _reason(row: Expectation) -> Reason:
    assert row.expected_mean is not None
    difference = row.measured_mean - row.expected_mean
    percent = row.difference_percent
    size = "" if percent is None else f" ({percent:+.1f} %)"
    where = "" if row.kind == "all" else f" of {row.name}"
    return Reason(
        code=Code.EXPECTATION,
        sentence=(
            f"{LABELS[row.quantity]}{where} differs by {difference:+.4g} ms{size} from what is "
            f"expected: {row.measured_mean:.4g} instead of {row.expected_mean:.4g} ms"
        ).replace("-", "\u2212"),
        figures={
            "quantity": row.quantity,
            "name": row.name,
            "expected_ms": row.expected_mean,
            "measured_ms": row.measured_mean,
            "difference_ms": _rounded(difference),
            "low_ms": row.low_ms or 0.0,
            "high_ms": row.high_ms or 0.0,
        },
    )
