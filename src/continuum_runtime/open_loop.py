"""Requests at times that are known beforehand, and the files by which a process and the benchmark talk.

In its folder an endpoint makes the file `ready` when it could start, waits for the file `start`,
which holds the Unix time in nanoseconds from which its schedule counts, and writes its samples to
`samples.jsonl`. Where requests do not come at fixed intervals, `arrivals.txt` holds when each is
due: nanoseconds after the start, one a line. A worker only makes `ready`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

READY_FILE = "ready"
START_FILE = "start"
ARRIVALS_FILE = "arrivals.txt"
SAMPLES_FILE = "samples.jsonl"

_POLL_SECONDS = 0.005
_SECOND_NS = 1_000_000_000


class NotStarted(TimeoutError):
    """The file `start` did not come in time."""


class Clock(Protocol):
    """Where time comes from; tests have one that does not wait."""

    def time_ns(self) -> int:
        """Unix time in nanoseconds."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


@dataclass(frozen=True)
class Schedule:
    """When requests are due.

    Attributes:
        start_ns: Unix time from which they count: without `offsets_ns` that of the first.
        frequency: requests per second, need not be whole.
        warmup: requests of the warm-up; they come first.
        requests: requests of the measured time after it.
        answer_timeout: seconds from when a request is due.
        offsets_ns: when each is due after the start; None for fixed intervals.
    """

    start_ns: int
    frequency: float
    warmup: int
    requests: int
    answer_timeout: float
    offsets_ns: Sequence[int] | None = None

    @property
    def count(self) -> int:
        """All requests."""
        return self.warmup + self.requests

    def due_ns(self, sequence: int) -> int:
        """Unix time at which a request is due; sequences count from 0."""
        if self.offsets_ns is not None:
            return self.start_ns + self.offsets_ns[sequence]
        return self.start_ns + round(sequence * _SECOND_NS / self.frequency)

    @property
    def end_ns(self) -> int:
        """Unix time after which nothing is sent or awaited any more."""
        last_ns = self.due_ns(self.count - 1) if self.count else self.start_ns
        return last_ns + round(self.answer_timeout * _SECOND_NS)

    def arrivals(self, clock: Clock = time) -> Iterator[tuple[int, int]]:
        """(sequence, due time) of each request, at its time; late ones at once, none left out.

        Ends early when `end_ns` has passed: what is left can not be answered in time.
        """
        for sequence in range(self.count):
            due = self.due_ns(sequence)
            now = clock.time_ns()
            while now < due:
                clock.sleep((due - now) / _SECOND_NS)
                now = clock.time_ns()
            if now > self.end_ns:
                return
            yield sequence, due


def write_file(path: Path, content: str = "") -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(content)
    temporary.replace(path)


def clear(folder: Path) -> None:
    """Forget an earlier process in the same folder; before `ready` nobody writes `start`."""
    for name in (READY_FILE, START_FILE):
        (folder / name).unlink(missing_ok=True)


def announce_ready(folder: Path) -> None:
    """Say that the process can start, or take requests."""
    write_file(folder / READY_FILE)


def read_offsets(path: str) -> tuple[int, ...] | None:
    """The content of a file `arrivals.txt`; None without a path: requests come at fixed intervals.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else.
    """
    return tuple(map(int, Path(path).read_text().split())) if path else None


def await_start(folder: Path, timeout: float) -> int:
    """Wait for the file `start`; returns the Unix time in ns that it holds.

    Raises:
        NotStarted: it did not come within `timeout` seconds.
        ValueError: it holds something else.
    """
    path = folder / START_FILE
    end = time.monotonic() + timeout
    while True:
        try:
            text = path.read_text().strip()
        except FileNotFoundError:
            text = ""
        if text:
            return int(text)
        if time.monotonic() > end:
            raise NotStarted(f"{path} did not come within {timeout:g} s")
        time.sleep(_POLL_SECONDS)


class SampleFile:
    """Samples, one JSON object a line; each is in the file when `write` returns."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(
            folder / SAMPLES_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644
        )

    def write(self, sample: Mapping[str, Any]) -> None:
        """Add one line."""
        line = json.dumps(sample, separators=(",", ":")).encode() + b"\n"
        while line:
            line = line[os.write(self._file, line) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
