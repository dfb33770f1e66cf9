"""The uses of this host's processor time: parsers of its kernel's text in /proc and control groups.

A time is in seconds of one core, counted since the host, a group or a process began.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Times:
    """All cores together: `busy` with programs, with `interrupts`, `idle`, or `stolen` by who runs
    this host.
    """

    busy: float
    interrupts: float
    idle: float
    stolen: float

    @property
    def all(self) -> float:
        """The sum."""
        return self.busy + self.interrupts + self.idle + self.stolen

    def __sub__(self, other: Times) -> Times:
        return Times(
            self.busy - other.busy,
            self.interrupts - other.interrupts,
            self.idle - other.idle,
            self.stolen - other.stolen,
        )


@dataclass(frozen=True)
class Throttling:
    """The throttling of a group's processes by a quota: in so many of its periods, for so many
    seconds, summed over cores.
    """

    periods: int = 0
    throttled: int = 0
    seconds: float = 0.0

    def __add__(self, other: Throttling) -> Throttling:
        return Throttling(
            self.periods + other.periods,
            self.throttled + other.throttled,
            self.seconds + other.seconds,
        )

    def __sub__(self, other: Throttling) -> Throttling:
        return Throttling(
            self.periods - other.periods,
            self.throttled - other.throttled,
            self.seconds - other.seconds,
        )


def times(stat: str) -> Times:
    """All cores' times, from the text of `/proc/stat` (proc(5)).

    Raises:
        ValueError: it holds none.
    """
    for line in stat.splitlines():
        if line.startswith("cpu "):
            # Time of guests is within that of users. Old kernels have fewer fields.
            values = [int(word) for word in line.split()[1:9]] + [0] * 8
            user, nice, system, idle, waiting, hard, soft, stolen = values[:8]
            return Times(
                (user + nice + system) / TICKS,
                (hard + soft) / TICKS,
                (idle + waiting) / TICKS,
                stolen / TICKS,
            )
    raise ValueError("no line of all cores")


def waiting_seconds(pressure: str) -> float | None:
    """Seconds in which some process waited for a core, from the text of `/proc/pressure/cpu`; None
    where it does not say so.
    """
    for line in pressure.splitlines():
        kind, *fields = line.split()
        totals = [field for field in fields if field.startswith("total=")]
        if kind == "some" and totals:
            return int(totals[0].removeprefix("total=")) / 1e6
    return None


def throttling(stat: str) -> Throttling:
    """From the text of a group's `cpu.stat`, of either version; zeros where it has no quota."""
    fields = dict(line.split()[:2] for line in stat.splitlines() if len(line.split()) >= 2)
    nanoseconds = int(fields.get("throttled_time", 0)) + 1000 * int(fields.get("throttled_usec", 0))
    return Throttling(
        int(fields.get("nr_periods", 0)), int(fields.get("nr_throttled", 0)), nanoseconds / 1e9
    )


def usage(stat: str) -> float:
    """The processor time of a group of version 2, from the text of its `cpu.stat`."""
    for line in stat.splitlines():
        if line.startswith("usage_usec "):
            return int(line.split()[1]) / 1e6
    return 0.0


def load(text: str) -> tuple[float, int]:
    """The load average of a minute, and how many threads run or are ready to, from `/proc/loadavg`.

    Raises:
        ValueError: it does not say.
    """
    words = text.split()
    if len(words) < 4:
        raise ValueError("no load average")
    return float(words[0]), int(words[3].partition("/")[0])


def process_seconds(stat: str) -> float:
    """The processor time of a process with its threads, from the text of `/proc/PROCESS/stat`."""
    # The program's name, in brackets, may hold anything.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@dataclass(frozen=True)
class Consumer:
    """Something that runs on this host: the processes of its control groups, or single ones.

    Attributes:
        groups: its folder in each hierarchy of control groups, or those of its threads.
        processes: their numbers, where they, and not the groups, tell what it uses.
    """

    groups: tuple[Path, ...] = ()
    processes: tuple[int, ...] = ()

    def used(self) -> float:
        """Seconds that it has used; 0 where nothing tells."""
        if self.processes:
            return sum(map(_used_by, self.processes))
        found = [0.0]
        for folder in self.groups:
            with suppress(OSError, ValueError):
                found.append(int((folder / "cpuacct.usage").read_text()) / 1e9)
            with suppress(OSError, ValueError):
                found.append(usage((folder / "cpu.stat").read_text()))
        # The same processes in every hierarchy, of which not each counts.
        return max(found)

    def throttling(self) -> Throttling:
        """The throttling by its quota."""
        found = Throttling()
        for folder in self.groups:
            with suppress(OSError, ValueError):
                found += throttling((folder / "cpu.stat").read_text())
        return found


def _used_by(process: int) -> float:
    try:
        return process_seconds(Path(f"/proc/{process}/stat").read_text())
    except (OSError, ValueError, IndexError):
        return 0.0


def used(consumers: Iterable[Consumer]) -> float:
    """Seconds that all of them have used."""
    return sum(each.used() for each in consumers)
