"""Unix time that nobody sets: counted on from one reading by `CLOCK_MONOTONIC`.

As a program, `python3 -m continuum_runtime.steady_clock`, it prints `CLOCK_REALTIME −
CLOCK_MONOTONIC` in ns, which changes by as much as the clock is set.
"""

from __future__ import annotations

import time

_READINGS = 5
_LEAST_STEP_NS = 100_000


def offset_ns() -> int:
    """The wall clock minus the monotonic one: of some readings the one that took the least time."""
    found = []
    for _ in range(_READINGS):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        found.append((after - before, wall - (before + after) // 2))
    return min(found)[1]


class SteadyClock:
    """Unix time as the wall clock had it when this was made, whatever is done to that one later."""

    def __init__(self) -> None:
        self._offset_ns = offset_ns()

    def time_ns(self) -> int:
        """Unix time in nanoseconds."""
        return time.monotonic_ns() + self._offset_ns

    def monotonic_ns(self, unix_ns: int) -> int:
        """`CLOCK_MONOTONIC` at a Unix time by this clock."""
        return unix_ns - self._offset_ns

    def monotonic_of_ns(self, wall_ns: int) -> int:
        """`CLOCK_MONOTONIC` at a moment just now, of which the wall clock has the time."""
        step_ns = time.time_ns() - time.monotonic_ns() - self._offset_ns
        # Less is the time between two readings, which no latency should hold.
        return wall_ns - self._offset_ns - (step_ns if abs(step_ns) > _LEAST_STEP_NS else 0)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


if __name__ == "__main__":
    print(offset_ns())
