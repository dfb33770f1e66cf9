"""From looks at machines to figures: counts, speed and latency of requests, cores and memory."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from continuum.benchmark.sample_lines import parse_lines
from continuum.live import Stream
from continuum.watch.snapshot import Point, Requests, Usage

BUCKET_SECONDS = 2
WINDOW_SECONDS = 180
"""How far back the drawings go."""
RATE_SECONDS = 10
LATENCY_SECONDS = 30

_NS = 1_000_000_000
_BUCKET_NS = BUCKET_SECONDS * _NS
_POINTS = WINDOW_SECONDS // BUCKET_SECONDS


@dataclass
class Bucket:
    """Requests that were due in some seconds, and answers that came in them."""

    latencies_ms: list[float] = field(default_factory=list)
    answers: int = 0
    failed: int = 0
    _percentiles: tuple[int, float, float] | None = None

    def percentiles(self) -> tuple[float | None, float | None]:
        """Median and 95th percentile; None without an answer."""
        if not self.latencies_ms:
            return None, None
        if self._percentiles is None or self._percentiles[0] != len(self.latencies_ms):
            median, p95 = percentiles(self.latencies_ms)
            self._percentiles = (len(self.latencies_ms), median, p95)
        return self._percentiles[1:]


def percentiles(values: list[float]) -> tuple[float, float]:
    """Median and 95th percentile, as the report's table has them."""
    import numpy as np  # noqa: PLC0415  slow to import

    median, p95 = np.percentile(values, [50, 95])
    return float(median), float(p95)


@dataclass
class Tally:
    """One endpoint's samples in one repetition, as far as they were read.

    Attributes:
        offset: in its file: what lies before it has been read.
        at_ns: the machine's time at the last look; 0 before the first.
        closed: samples that were read, by the bucket in which they were due.
        measured: those of them after the warm-up.
        counts: of those after the warm-up, by status; `warmup` counts the others.
    """

    stream: Stream
    offset: int = 0
    at_ns: int = 0
    closed: Counter[int] = field(default_factory=Counter)
    measured: Counter[int] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    warmup: int = 0

    def due(self, at_ns: int) -> int:
        """How many requests were due before a moment."""
        return self.stream.due(at_ns)

    @property
    def whole(self) -> bool:
        """Whether nothing more is to come."""
        if self.stream.counted:
            return self.closed.total() >= self.stream.warmup + self.stream.requests
        return self.at_ns > self.ends_ns

    @property
    def ends_ns(self) -> int:
        """When the last answer must have come."""
        seconds = sum(self.stream.lasts) + self.stream.answer_timeout
        return self.stream.start_ns + int(seconds * _NS)

    def open(self) -> tuple[int, int] | None:
        """Requests that wait for an answer, and those that do in vain; None when it is not known.

        The warm-up's do not count among the lost, so neither do those that are overdue of it; they
        no longer wait either.
        """
        if not self.stream.counted:
            return None
        left = self.due(self.at_ns) - self.closed.total()
        latest = self.at_ns - int(self.stream.answer_timeout * _NS)
        edge = latest // _BUCKET_NS
        due = self.due(edge * _BUCKET_NS)
        overdue = max(0, min(due - _before(edge, self.closed), left))
        lost = max(0, due - self.stream.warmup) - _before(edge, self.measured)
        return max(0, left - overdue), max(0, min(lost, overdue))


def _before(edge: int, counted: Counter[int]) -> int:
    return sum(count for bucket, count in counted.items() if bucket < edge)


class Watched:
    """All samples of one run, put together as they come."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, int], Tally] = {}
        self.buckets: dict[int, Bucket] = {}
        self.latest_ns = 0

    def tally(self, stream: Stream) -> Tally:
        """The tally of a stream; a new one when it is new."""
        return self.tallies.setdefault((stream.endpoint, stream.repetition), Tally(stream))

    def read(self, tally: Tally, content: bytes, at_ns: int) -> None:
        """Take whole lines that were read on from the tally's offset."""
        tally.at_ns = at_ns
        samples, _ = parse_lines(content, tally.stream.warmup, tally.stream.answer_timeout)
        for sample in samples:
            self._take(tally, sample, at_ns)
        oldest = (self.latest_ns or at_ns) // _BUCKET_NS - _POINTS - 1
        for old in [bucket for bucket in self.buckets if bucket < oldest]:
            del self.buckets[old]

    def _take(self, tally: Tally, sample: dict[str, Any], at_ns: int) -> None:
        due_ns = sample["intended_ns"] or sample["sent_ns"] or sample["answered_ns"] or at_ns
        tally.closed[due_ns // _BUCKET_NS] += 1
        if sample["warmup"]:
            tally.warmup += 1
        else:
            tally.measured[due_ns // _BUCKET_NS] += 1
            tally.counts[sample["status"]] += 1
        bucket = self.buckets.setdefault(due_ns // _BUCKET_NS, Bucket())
        answered_ns = sample["answered_ns"]
        if sample["status"] == "ok" and answered_ns is not None:
            bucket.latencies_ms.append((answered_ns - due_ns) / 1e6)
            self.buckets.setdefault(answered_ns // _BUCKET_NS, Bucket()).answers += 1
        elif sample["status"] != "ok":
            bucket.failed += 1
        self.latest_ns = max(self.latest_ns, due_ns, answered_ns or 0)

    @property
    def end_ns(self) -> int:
        """Where the drawings end: now, or where the load ended."""
        looked = max((tally.at_ns for tally in self.tallies.values()), default=0)
        if self.tallies and all(tally.whole for tally in self.tallies.values()):
            return self.latest_ns or looked
        return looked

    def requests(
        self, repetitions: int, *, planned: int = 0, interrupted: bool = False
    ) -> Requests | None:
        """What came of all requests so far; None when none could be seen.

        `planned` are those of all repetitions after their warm-ups, 0 for as many in each. After a run that was `interrupted` nothing is due any more, and nothing waits.
        """
        tallies = list(self.tallies.values())
        if not any(tally.at_ns for tally in tallies):
            return None
        counts = Counter[str]()
        for tally in tallies:
            counts.update(tally.counts)
        opened = [tally.open() for tally in tallies if tally.at_ns and not interrupted]
        known = [each for each in opened if each is not None]
        first = [tally for tally in tallies if tally.stream.repetition == 1]
        counted = all(tally.stream.counted for tally in tallies)
        rate = [self.buckets.get(index, Bucket()) for index in self._last(RATE_SECONDS)]
        latencies = [
            latency
            for index in self._last(LATENCY_SECONDS, whole=False)
            for latency in self.buckets.get(index, Bucket()).latencies_ms
        ]
        median, p95 = percentiles(latencies) if latencies else (None, None)
        return Requests(
            expected=(
                planned or sum(tally.stream.requests for tally in first) * repetitions
                if first and counted
                else None
            ),
            answered=counts["ok"],
            lost=counts["lost"] + sum(overdue for _, overdue in known),
            timeout=counts["timeout"],
            error=counts["error"],
            warmup=sum(tally.warmup for tally in tallies),
            waiting=sum(waiting for waiting, _ in known) if known else None,
            per_second=(
                sum(bucket.answers for bucket in rate) / (len(rate) * BUCKET_SECONDS)
                if rate
                else None
            ),
            median_ms=median,
            p95_ms=p95,
            rate_seconds=RATE_SECONDS,
            latency_seconds=LATENCY_SECONDS,
        )

    def timeline(self) -> tuple[Point, ...]:
        """Whole buckets of the last minutes, oldest first."""
        return tuple(
            Point(
                (index + 1) * BUCKET_SECONDS, bucket.answers / BUCKET_SECONDS, *both, bucket.failed
            )
            for index in self._last(WINDOW_SECONDS)
            for bucket in (self.buckets.get(index, Bucket()),)
            for both in (bucket.percentiles(),)
        )

    def _last(self, seconds: int, *, whole: bool = True) -> range:
        """Buckets of the last seconds, from the first request at the earliest.

        The bucket of now is not full yet, and left out if they are to be whole; the one in which the
        load ended is all there will be.
        """
        if not self.buckets:
            return range(0)
        end = self.end_ns // _BUCKET_NS
        ended = all(tally.whole for tally in self.tallies.values())
        stop = end + 1 if ended or not whole else end
        return range(max(stop - seconds // BUCKET_SECONDS, min(self.buckets)), max(stop, 0))


class Look(NamedTuple):
    """Processor time in ns since some moment, and bytes, at a Unix time in ns."""

    at_ns: int
    cpu_ns: int
    memory: int


class Meter:
    """Looks at one machine."""

    def __init__(self) -> None:
        self.last: Look | None = None
        self.history: deque[float] = deque(maxlen=_POINTS)

    def read(self, look: Look) -> None:
        """Take a look; one that follows at once is passed over, for it says little."""
        if self.last is not None:
            seconds = (look.at_ns - self.last.at_ns) / _NS
            if 0 <= seconds < BUCKET_SECONDS / 2:
                return
            cores = (look.cpu_ns - self.last.cpu_ns) / _NS / seconds if seconds > 0 else -1.0
            if cores >= 0:  # Less than before: the machine was started again.
                self.history.append(cores)
        self.last = look

    def usage(self) -> Usage:
        """What the machine takes now."""
        return Usage(
            cores=self.history[-1] if self.history else None,
            memory=float(self.last.memory) if self.last else None,
            history=tuple(self.history),
        )


def streams_on(machine: str, streams: Iterable[Stream]) -> list[Stream]:
    """Those that lie on one machine."""
    return [stream for stream in streams if stream.machine == machine]
