"""What the machines' clocks may add to a figure that compares two of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from continuum.report import format as show

if TYPE_CHECKING:
    from collections.abc import Iterable

    from continuum.benchmark.results import ClockReading, Run

ONE_WAY = {"forward_ms": 1, "return_ms": -1, "sandbox_ms": 1, "ready_ms": -1}
"""Quantities whose two times come from two machines: 1 where the worker's is the later, else -1."""

SHARE = 0.1
"""A figure that the clocks may change by more than this part of it is marked."""


@dataclass(frozen=True)
class ClockError:
    """What clocks add to a figure: at least `low`, at most `high`, in ms."""

    low: float
    high: float

    @property
    def worst(self) -> float:
        """How far the figure may be off."""
        return max(abs(self.low), abs(self.high))

    @property
    def known(self) -> bool:
        """Whether anything can be said."""
        return math.isfinite(self.worst)

    def outweighs(self, figure: float) -> bool:
        """Whether the clocks may make up more than a tenth of a figure in ms."""
        return self.worst > SHARE * abs(figure)

    def __str__(self) -> str:
        if not self.known:
            return "clocks unknown"
        middle = show.signed((self.low + self.high) / 2)
        return f"clocks {middle} ± {show.number((self.high - self.low) / 2)}"


UNKNOWN = ClockError(-math.inf, math.inf)


def between(readings: Iterable[ClockReading], first: str, second: str) -> ClockError:
    """The second machine's clock minus the first's, over all times at which both were read.

    A clock that has moved from one reading to the next was somewhere between, so that the error
    covers both.
    """
    if first == second:
        return ClockError(0.0, 0.0)
    moments: dict[tuple[int, str], dict[str, ClockReading]] = {}
    for each in readings:
        moments.setdefault((each.repetition, each.when), {})[each.machine] = each
    found = [
        (
            both[second].offset_ns - both[first].offset_ns,
            both[first].bound_ns + both[second].bound_ns,
        )
        for both in moments.values()
        if first in both and second in both
    ]
    # What lies between two readings is only known where there are two.
    if len(found) < len(moments) or len(found) < 2:
        return UNKNOWN
    return ClockError(
        min(offset - bound for offset, bound in found) / 1e6,
        max(offset + bound for offset, bound in found) / 1e6,
    )


@dataclass(frozen=True)
class _Way:
    """An endpoint and its worker, by name, each with its machine."""

    endpoint: str
    worker: str
    first: str
    second: str


@dataclass(frozen=True)
class Clocks:
    """The clocks of a run."""

    run: Run

    @cached_property
    def _ways(self) -> list[tuple[_Way, ClockError]]:
        machines = {each.name: each.machine for each in self.run.workers}
        ways = [
            _Way(
                each.name,
                each.worker or each.name,
                each.machine,
                machines.get(each.worker or "", each.machine),
            )
            for each in self.run.endpoints
        ] or [
            # Where nothing but machines is told of, they stand in for what runs on them.
            _Way(one.name, other.name, one.name, other.name)
            for one in self.run.groups("endpoint")
            for other in self.run.groups("worker")
        ]
        readings = self.run.clock.readings
        return [(way, between(readings, way.first, way.second)) for way in ways]

    def error(self, quantity: str, kind: str, name: str) -> ClockError | None:
        """The worst of a group of samples; None for what compares no clocks, or only one."""
        if self.run.clock.one_clock or quantity not in ONE_WAY:
            return None
        errors = [
            error
            for way, error in self._ways
            if kind == "all" or name == (way.endpoint if kind == "endpoint" else way.worker)
        ]
        if not errors:
            return UNKNOWN
        low, high = min(each.low for each in errors), max(each.high for each in errors)
        return ClockError(low, high) if ONE_WAY[quantity] == 1 else ClockError(-high, -low)

    @property
    def note(self) -> str:
        """What a reader of one-way figures must know; empty when the machines share a clock."""
        if self.run.clock.one_clock:
            return ""
        worst = max((error.worst for _, error in self._ways), default=math.inf)
        if not math.isfinite(worst):
            return (
                "One-way figures compare clocks that may differ by any amount: "
                "not all of them were read."
            )
        return (
            f"One-way figures compare clocks that differ by at most {show.number(worst)} ms, "
            f"which is not taken off; {show.DOUBTFUL} marks figures of which that is more than a "
            "tenth."
        )
