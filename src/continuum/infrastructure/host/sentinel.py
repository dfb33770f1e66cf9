"""The sentinel on this host: a small program beside an experiment that notes when the host did not run."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from continuum import native
from continuum.infrastructure.links.process import environment
from continuum.machine import Command, converse_on_host
from continuum_runtime.sentinel import begin_of

if TYPE_CHECKING:
    from continuum.machine import Ask

LIMIT = 86_400
"""Seconds after which a sentinel ends whatever becomes of us."""

Stall = tuple[int, int, int]
"""A time in which a core did not run: begin and end in Unix time (ns), and the core's number."""


@dataclass
class Lateness:
    """A sentinel's observations so far.

    Attributes:
        stalls: wake-ups that were more than a millisecond late, each a time in which its core did not
            run.
        left_out: stalls that there was no room for.
        period_ms: between two wake-ups of a core, the longest that there was.
        real_time: whether it ran above all else; else programs of this host are in its way too.
        latest_ms: by how much the latest wake-up was late.
        counts: wake-ups by the bucket of their lateness (`continuum_runtime.sentinel.bucket`).
    """

    stalls: list[Stall] = field(default_factory=list)
    left_out: int = 0
    wakes: int = 0
    period_ms: float = 0.0
    real_time: bool = False
    latest_ms: float = 0.0
    counts: Counter[int] = field(default_factory=Counter)

    def add(self, answer: bytes) -> Self:
        """Take what the sentinel said; returns itself."""
        said = json.loads(answer)
        self.stalls += [(begin, end, core) for begin, end, core in said["stalls"]]
        self.left_out += said["stalls_left_out"]
        self.wakes += said["wakes"]
        self.period_ms = max(self.period_ms, said["period_ns"] / 1e6)
        self.real_time = said["real_time"]
        self.latest_ms = max(self.latest_ms, said["latest_ns"] / 1e6)
        self.counts.update(dict(said["lateness"]))
        return self

    def percentile(self, percent: float) -> float | None:
        """By how many ms so many percent of the wake-ups were late at most, to some 6 %."""
        total = self.counts.total()
        below = 0
        for bucket, count in sorted(self.counts.items()):
            below += count
            if below >= percent / 100 * total:
                return min(self.latest_ms, (begin_of(bucket) + begin_of(bucket + 1)) / 2e6)
        return None


@contextmanager
def running() -> Iterator[Ask]:
    """A sentinel; each line that it is given it answers for `Lateness.add`.

    Raises:
        CommandFailed: it cannot be started, or ended.
    """
    program = native.program("sentinel")
    limit = str(LIMIT)
    if program is not None:
        command = Command((str(program), limit), timeout=LIMIT)
    else:
        command = Command(
            (sys.executable, "-m", "continuum_runtime.sentinel", limit),
            environment=environment(),
            timeout=LIMIT,
        )
    with converse_on_host(command) as ask:
        yield ask
