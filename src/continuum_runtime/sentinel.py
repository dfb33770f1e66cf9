"""`python3 -m continuum_runtime.sentinel SECONDS`: what `native/sentinel.c` does, where nothing compiles it.

A thread on each core of this host wakes each 2 ms and notes by how much it was late; each line on
standard input is answered by one line of JSON about the time since the last answer. Python's own
pauses are in it: one thread holds up another for some tenths of a millisecond.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

PERIOD = 2_000_000
"""ns between wake-ups, and what is added where they cost more than a hundredth of the core."""
MOST_PERIODS = 5
WAKES_A_LOOK = 100
THRESHOLD = 1_000_000
PRIORITY = 2
MOST_STALLS = 65_536

_ABSOLUTE = 1


class _Moment(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


@dataclass
class Notes:
    """The observations of one core's thread since it was last asked."""

    wakes: int = 0
    latest: int = 0
    lateness: Counter[int] = field(default_factory=Counter)
    stalls: list[tuple[int, int, int]] = field(default_factory=list)
    left_out: int = 0

    def add(self, core: int, late: int) -> None:
        """Note a wake-up that was so many ns late."""
        self.wakes += 1
        self.lateness[bucket(late)] += 1
        self.latest = max(self.latest, late)
        if late <= THRESHOLD:
            return
        if len(self.stalls) == MOST_STALLS:
            self.left_out += 1
            return
        end = time.time_ns()
        self.stalls.append((end - late, end, core))


def bucket(nanoseconds: int) -> int:
    """Eight buckets for each doubling; see `begin_of`."""
    shift = max(0, nanoseconds.bit_length() - 4)
    return nanoseconds if nanoseconds < 8 else 8 * shift + (nanoseconds >> shift)


def begin_of(number: int) -> int:
    """The least number of nanoseconds in a bucket."""
    return number if number < 8 else (8 + number % 8) << (number // 8 - 1)


class _Core(threading.Thread):
    def __init__(self, number: int) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.notes = Notes()
        self.period = PERIOD
        self.real_time = False

    def run(self) -> None:
        os.sched_setaffinity(0, {self.number})
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
            self.real_time = True
        except PermissionError:
            pass
        sleep = ctypes.CDLL(None).clock_nanosleep
        moment, used = time.monotonic_ns(), time.thread_time_ns()
        due = (moment // self.period + 1) * self.period
        while True:
            sleep(time.CLOCK_MONOTONIC, _ABSOLUTE, ctypes.byref(_Moment(*divmod(due, 10**9))), None)
            late = time.monotonic_ns() - due
            if late < 0:
                continue  # A signal ended the sleep.
            self.notes.add(self.number, late)
            if self.notes.wakes % WAKES_A_LOOK == 0:
                passed, spent = time.monotonic_ns() - moment, time.thread_time_ns() - used
                moment, used = moment + passed, used + spent
                if spent > passed // 100:
                    self.period = min(MOST_PERIODS * PERIOD, self.period + PERIOD)
            due = ((due + late) // self.period + 1) * self.period

    def take(self) -> Notes:
        """Hand over the notes; new ones are written from now on."""
        taken, self.notes = self.notes, Notes()
        return taken


def answer(cores: list[_Core], begin: int, end: int) -> dict[str, Any]:
    """The observations of all cores, from `begin` to `end` in Unix time."""
    notes = [core.take() for core in cores]
    lateness = sum((each.lateness for each in notes), Counter[int]())
    return {
        "begin_ns": begin,
        "end_ns": end,
        "real_time": all(core.real_time for core in cores),
        "threshold_ns": THRESHOLD,
        "cores": len(cores),
        "stalls": [stall for each in notes for stall in each.stalls],
        "stalls_left_out": sum(each.left_out for each in notes),
        "period_ns": max(core.period for core in cores),
        "wakes": sum(each.wakes for each in notes),
        "latest_ns": max(each.latest for each in notes),
        "lateness": sorted(lateness.items()),
    }


def main() -> None:
    """Watch until the input ends."""
    signal.alarm(int(sys.argv[1]))
    begin = time.time_ns()
    cores = [_Core(number) for number in sorted(os.sched_getaffinity(0))]
    for core in cores:
        core.start()
    for _ in sys.stdin:
        end = time.time_ns()
        sys.stdout.write(json.dumps(answer(cores, begin, end)) + "\n")
        sys.stdout.flush()
        begin = end


if __name__ == "__main__":
    main()
