"""The evidence of one pair of machines' probes on its link, attempt after attempt. Pure.

A quantity that holds is done. One that is not shown is measured again: then all attempts count
together, or the last one alone where that is enough, each at half the error, since a host that was
busy for some seconds spoils what it is added to. One that does not hold is measured again from
nothing; when that does not hold either, the link does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from continuum.infrastructure.links.intervals import (
    Blocks,
    Floats,
    Interval,
    deviation_interval,
    mean_interval,
    normal_quantile,
    ratio_interval,
    share_interval,
)
from continuum.infrastructure.links.measurement import (
    DELAY,
    JITTER,
    LOSS,
    QUANTITIES,
    RATE,
    STREAM,
    LinkMeasurement,
    Verdict,
)
from continuum.infrastructure.links.rules import burst
from continuum.infrastructure.links.tolerance import ERRORS, Tolerances
from continuum.infrastructure.plan import LinkSettings

PROBE_BLOCKS = 30
"""Blocks of time that the delays of one attempt are cut into; fewer than `FEWEST` have less."""

RATE_BLOCKS = 20
FEWEST = 3
"""Probes of a block at the least."""

LATE_SHARE = 0.01
"""Share of probes that may be set apart as late; where more are late, all of them count."""

SMALL_TRAFFIC = 0.1
"""Share of a rate below which an experiment's own traffic does not feel that rate."""

Stalls = Sequence[tuple[int, int]]
"""Times in which the host stood still: from and to, wall clock, nanoseconds."""


@dataclass(frozen=True)
class Probed:
    """Delays of one attempt in ms, and when each probe was sent in ns; both of shape (n,)."""

    sent_ns: NDArray[np.int64]
    delays: Floats

    @classmethod
    def of(cls, sent_ns: Sequence[int], delays_ns: Sequence[int], less: float) -> Probed:
        """From what the probe's program says; `less` ms is the time that sending takes."""
        return cls(
            np.asarray(sent_ns, dtype=np.int64),
            np.asarray(delays_ns, dtype=np.float64) / 1e6 - less,
        )

    def since(self, begin_ns: float) -> Probed:
        """Those that were sent at that time, or later."""
        kept = self.sent_ns >= begin_ns
        return self if kept.all() else Probed(self.sent_ns[kept], self.delays[kept])


@dataclass(frozen=True)
class Train:
    """Frames of one size that came back to back: when, in ns, and how many at that time."""

    arrivals: Sequence[tuple[int, int]]
    frame: int


@dataclass(frozen=True)
class Attempt:
    """The outcome for one pair in one attempt; None and 0 for what was not measured.

    Attributes:
        sent, received: small packets of all kinds.
        stalls: when the host stood still.
    """

    delay: Probed | None = None
    jitter: Probed | None = None
    stream: Probed | None = None
    sent: int = 0
    received: int = 0
    train: Train | None = None
    stalls: Stalls = ()


@dataclass(frozen=True)
class Values:
    """Delays of an attempt in ms, each with the number of its block of time; both of shape (n,)."""

    delays: Floats
    block: NDArray[np.int64]
    stalled: int = 0

    @classmethod
    def of(cls, probed: Probed, stalls: Stalls) -> Values:
        """An attempt's values, but for those of probes that were under way in a stall."""
        sent = probed.sent_ns
        if not sent.size:
            return cls(probed.delays, sent)
        ends = sent + np.maximum(0, probed.delays * 1e6).astype(np.int64)
        kept = ~overlap(sent, ends, stalls)
        count = min(PROBE_BLOCKS, max(2, sent.size // FEWEST))
        block = (sent - sent.min()) * count // (np.ptp(sent) + 1)
        return cls(probed.delays[kept], block[kept], int(np.count_nonzero(~kept)))

    @classmethod
    def together(cls, parts: Sequence[Values]) -> Values:
        """Those of several attempts, whose blocks are different ones."""
        return cls(
            np.concatenate([each.delays for each in parts]),
            np.concatenate([each.block + place * PROBE_BLOCKS for place, each in enumerate(parts)]),
            sum(each.stalled for each in parts),
        )


@dataclass(frozen=True)
class Rates:
    """Bytes and nanoseconds by block of a train, both of shape (blocks,); frames in all of them."""

    above: Floats
    below: Floats
    frames: int
    stalled: int = 0

    @classmethod
    def together(cls, parts: Sequence[Rates]) -> Rates:
        """Those of several trains."""
        return cls(
            np.concatenate([each.above for each in parts]),
            np.concatenate([each.below for each in parts]),
            sum(each.frames for each in parts),
            sum(each.stalled for each in parts),
        )


def overlap(begin: NDArray[np.int64], end: NDArray[np.int64], stalls: Stalls) -> NDArray[np.bool_]:
    """Which of some spans of time have a stall in them."""
    if not len(stalls):
        return np.zeros(len(begin), dtype=np.bool_)
    known = np.asarray(sorted(stalls), dtype=np.int64)
    # Of the stalls that began before a span's end, the one that lasted longest decides.
    last = np.maximum.accumulate(known[:, 1])
    place = np.searchsorted(known[:, 0], end, side="right") - 1
    return np.asarray((place >= 0) & (last[np.maximum(place, 0)] >= begin))


def in_time(values: Floats) -> NDArray[np.bool_]:
    """Which values are not far later than the others: all, where more than 1 % are.

    Far is more than 1 ms and five deviations after the median, with a deviation that a few such
    values cannot change: half the width of the middle 68 %.
    """
    if values.size < 2:
        return np.ones(values.size, dtype=np.bool_)
    low, middle, high = np.quantile(values, (0.159, 0.5, 0.841))
    near = values <= middle + 1.0 + 5 * (high - low) / 2
    few = np.count_nonzero(~near) <= math.ceil(LATE_SHARE * values.size)
    return np.asarray(near) if few else np.ones(values.size, dtype=np.bool_)


@dataclass(frozen=True)
class Ends:
    """Whose link it is, as a measurement tells it."""

    from_tier: str
    to_tier: str
    from_machine: str
    to_machine: str


@dataclass(frozen=True)
class Limits:
    """The limits that are known beside the measurement.

    Attributes:
        late_ms: by how much packets may be later than their link says.
        host_mbit: rate that this host can send without a link; None: not known.
        traffic_mbit: the experiment's own, over this link; None: not known.
    """

    late_ms: float = 0.0
    host_mbit: float | None = None
    traffic_mbit: float | None = None


@dataclass
class Evidence:
    """One pair's link: what was asked, what has been seen, and what that concludes.

    Attributes:
        wanted: quantities that are still to be shown.
        measurements: one of each quantity and attempt, in the order of attempts.
    """

    ends: Ends
    settings: LinkSettings
    tolerances: Tolerances
    limits: Limits
    wanted: set[str]
    measurements: list[LinkMeasurement] = field(default_factory=list)
    _values: dict[str, list[Values]] = field(default_factory=dict)
    _rates: list[Rates] = field(default_factory=list)
    _counts: list[tuple[int, int]] = field(default_factory=list)
    _verdicts: dict[str, Verdict] = field(default_factory=dict)

    def add(self, got: Attempt, attempt: int) -> None:
        """Take what an attempt brought, and conclude from it; attempts count from 1."""
        for quantity in self.wanted:
            if self._verdicts.get(quantity) == "does not hold":
                self._forget(quantity)
        self._take(got)
        error = ERRORS[min(attempt, len(ERRORS)) - 1]
        for quantity in [name for name in QUANTITIES if name in self.wanted]:
            before = self._verdicts.get(quantity)
            found = replace(self._conclude(quantity, error), attempt=attempt)
            self.measurements.append(found)
            self._verdicts[quantity] = found.verdict
            if found.verdict in ("holds", "host limit") or (
                found.verdict == before == "does not hold"
            ):
                self.wanted.discard(quantity)

    def _forget(self, quantity: str) -> None:
        if quantity == LOSS:
            self._counts = []
        elif quantity == RATE:
            self._rates = []
        else:
            self._values.pop(quantity, None)

    def _take(self, got: Attempt) -> None:
        for quantity, probed in ((DELAY, got.delay), (STREAM, got.stream), (JITTER, got.jitter)):
            if probed is not None and quantity in self.wanted:
                values = Values.of(probed, got.stalls)
                self._values.setdefault(quantity, []).append(values)
        if got.sent:
            self._counts.append((got.sent, got.received))
        if got.train is not None:
            self._rates.append(train_blocks(got.train, self.settings, got.stalls))

    def _conclude(self, quantity: str, error: float) -> LinkMeasurement:
        """From all attempts that count together, or from the last alone where only that holds."""
        parts: int = len(
            self._counts
            if quantity == LOSS
            else self._rates
            if quantity == RATE
            else self._values.get(quantity, [])
        )
        if parts < 2:
            return self._judge(quantity, error, 0)
        alone = self._judge(quantity, error / 2, parts - 1)
        whole = self._judge(quantity, error / 2, 0)
        return alone if alone.verdict == "holds" != whole.verdict else whole

    def _judge(self, quantity: str, error: float, since: int) -> LinkMeasurement:
        if quantity == LOSS:
            return self._loss(error, since)
        if quantity == RATE:
            return self._rate(error, since)
        parts = self._values.get(quantity, [])[since:]
        values = Values.together(parts) if parts else Values(np.zeros(0), np.zeros(0, np.int64))
        if not values.delays.size:
            return self._entry(quantity, None, 0, stalled=values.stalled)
        near = in_time(values.delays)
        late = int(np.count_nonzero(~near))
        make = deviation_interval if quantity == JITTER else mean_interval
        interval = make(Blocks.of(values.delays[near], values.block[near]), error)
        found = self._entry(quantity, interval, len(near) - late, late, values.stalled)
        assert found.least is not None
        assert found.most is not None
        # What was set apart may be few and far, but must not make the difference.
        inside = found.least < values.delays.mean() < found.most
        if found.verdict == "holds" and quantity != JITTER and not inside:
            return replace(found, ok=False, verdict="not shown")
        return found

    def _loss(self, error: float, since: int) -> LinkMeasurement:
        sent, received = self._counted(since)
        if not sent:
            return self._entry(LOSS, None, 0)
        share = share_interval(max(0, sent - received), sent, error)
        return self._entry(LOSS, _scaled(share, 100), sent)

    def _counted(self, since: int) -> tuple[int, int]:
        """Packets sent and received, over the attempts that count."""
        counts = self._counts[since:]
        return sum(sent for sent, _ in counts), sum(received for _, received in counts)

    def _rate(self, error: float, since: int) -> LinkMeasurement:
        parts = self._rates[since:]
        if not parts:
            return self._entry(RATE, None, 0)
        rates = Rates.together(parts)
        interval = ratio_interval(rates.above, rates.below, error)
        if interval is not None:
            interval = self._as_sent(_scaled(interval, 8e3), rates.frames, error)
        found = self._entry(RATE, interval, rates.frames, stalled=rates.stalled)
        return self._or_host_limit(found)

    def _as_sent(self, arrived: Interval, frames: int, error: float) -> Interval:
        """The rate before losses: what was lost on the way did take its time on the link."""
        sent, received = self._counted(0)
        if not self.settings.loss_percent or not received:
            return arrived
        lost = share_interval(max(0, sent - received), sent, error)
        kept = 1 - lost.value
        scaled = _scaled(arrived, 1 / kept)
        # Blocks do not show the chance of losses that are fewer than they.
        chance = math.sqrt(lost.value / kept / max(1, frames))
        own = max(scaled.standard_error / scaled.value, chance)
        spread = scaled.value * math.hypot(own, lost.standard_error / kept)
        widest = max(scaled.high - scaled.value, scaled.value * normal_quantile(1 - error) * chance)
        reach = math.hypot(widest, scaled.value * (lost.high - lost.value) / kept)
        return Interval(scaled.value, spread, scaled.value - reach, scaled.value + reach)

    def _or_host_limit(self, found: LinkMeasurement) -> LinkMeasurement:
        """The same, or that this host cannot send so much even without a link."""
        host, traffic = self.limits.host_mbit, self.limits.traffic_mbit
        if found.verdict == "holds" or found.measured is None or found.least is None:
            return found
        if host is None or host >= found.least or found.measured > found.asked:
            return found
        small = traffic is not None and traffic < SMALL_TRAFFIC * found.measured
        return replace(found, verdict="host limit", ok=small)

    def _entry(
        self, quantity: str, interval: Interval | None, n: int, late: int = 0, stalled: int = 0
    ) -> LinkMeasurement:
        asked = self._asked(quantity)
        least, most = self.tolerances.bounds(quantity, asked)
        if quantity in (DELAY, STREAM):
            most += self.limits.late_ms
        verdict: Verdict = "not shown"
        if interval is None and not n:
            verdict = "not shown" if stalled else "does not hold"
        elif interval is not None and interval.inside(least, most):
            verdict = "holds"
        elif interval is not None and interval.outside(least, most):
            verdict = "does not hold"
        return LinkMeasurement(
            from_tier=self.ends.from_tier,
            to_tier=self.ends.to_tier,
            from_machine=self.ends.from_machine,
            to_machine=self.ends.to_machine,
            quantity=quantity,
            asked=asked,
            measured=None if interval is None else interval.value,
            tolerance=(most if math.isfinite(most) else 100.0) - asked,
            ok=verdict == "holds",
            n=n,
            standard_error=None if interval is None else interval.standard_error,
            low=None if interval is None else interval.low,
            high=None if interval is None else interval.high,
            least=least if math.isfinite(least) else 0.0,
            most=most if math.isfinite(most) else 100.0,
            verdict=verdict,
            stalled=stalled,
            late=late,
        )

    def _asked(self, quantity: str) -> float:
        return asked(self.settings)[quantity]


def asked(settings: LinkSettings) -> Mapping[str, float]:
    """The value that is asked for of each quantity; no rate where it is not limited."""
    found = {
        DELAY: settings.delay_ms,
        STREAM: settings.delay_ms,
        JITTER: settings.jitter_ms,
        LOSS: settings.loss_percent,
    }
    return found if settings.rate_mbit is None else {**found, RATE: settings.rate_mbit}


def train_blocks(train: Train, settings: LinkSettings, stalls: Stalls) -> Rates:
    """A train by blocks, after what the sender's bucket lets pass at once.

    Without the blocks in which the host stood still.
    """
    assert settings.rate_mbit is not None
    ordered = np.asarray(train.arrivals, dtype=np.int64).reshape(-1, 2)
    ordered = ordered[np.argsort(ordered[:, 0], kind="stable")]
    whole = np.cumsum(ordered[:, 1] * train.frame)
    first = int(np.searchsorted(whole, burst(settings.rate_mbit)))
    count = min(RATE_BLOCKS, len(ordered) - first - 1)
    if count < 2:
        return Rates(np.zeros(0), np.zeros(0), 0)
    edges = np.linspace(first, len(ordered) - 1, count + 1).round().astype(np.int64)
    above = np.diff(whole[edges]).astype(np.float64)
    begins, ends = ordered[edges[:-1], 0], ordered[edges[1:], 0]
    kept = ~overlap(begins, ends, stalls)
    frames = round(float(above[kept].sum()) / max(1, train.frame))
    below = (ends - begins)[kept].astype(np.float64)
    return Rates(above[kept], below, frames, int(np.count_nonzero(~kept)))


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(
        interval.value * factor,
        interval.standard_error * factor,
        interval.low * factor,
        interval.high * factor,
    )
