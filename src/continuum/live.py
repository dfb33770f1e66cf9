"""What a run tells about itself while it lasts: one small file in the deployment's folder.

It is written when something begins or ends, not for every request: whoever watches finds in it where
the samples come to lie, and reads them there.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from continuum import folders, state_file
from continuum.errors import InvalidExperiment
from continuum.experiment.arrivals import Kind, offsets_ns
from continuum.infrastructure.links.check import LinkMeasurement
from continuum.secret import masked

FILE = "live.json"
RUNNING = "running"


@dataclass(frozen=True)
class Stream:
    """Where the samples of one endpoint in one repetition come to lie, and which are to come.

    Attributes:
        path: the file on its machine.
        start_ns: Unix time from which requests count, by the machine's clock: that of the first
            where they are periodic.
        frequency: requests per second, on average.
        warmup, requests: numbers of requests; those of the warm-up come first.
        answer_timeout: seconds.
        counted: whether so many requests are made, neither more nor fewer.
        arrivals, seed, trace, column: from which it follows when each is due.
        warmup_seconds, seconds: of load, in the warm-up and after it.
    """

    endpoint: str
    machine: str
    repetition: int
    path: str
    start_ns: int
    frequency: float
    warmup: int
    requests: int
    answer_timeout: float
    counted: bool = True
    arrivals: Kind = "periodic"
    seed: int = 0
    trace: str = ""
    column: int = 0
    warmup_seconds: float = 0.0
    seconds: float = 0.0

    def due(self, at_ns: int) -> int:
        """The number of requests that are due before a moment."""
        count = self.warmup + self.requests
        if self._offsets_ns is not None:
            return bisect_left(self._offsets_ns, at_ns - self.start_ns)
        passed = max(0.0, (at_ns - self.start_ns) / 1e9 * self.frequency)
        return min(count, math.ceil(passed))

    @property
    def lasts(self) -> tuple[float, float]:
        """Seconds of the warm-up, and of the load after it."""
        if self.arrivals != "periodic":
            return self.warmup_seconds, self.seconds
        return self.warmup / self.frequency, self.requests / self.frequency

    @cached_property
    def _offsets_ns(self) -> tuple[int, ...] | None:
        try:
            return offsets_ns(
                self.arrivals,
                frequency=self.frequency,
                seconds=self.warmup_seconds + self.seconds,
                seed=self.seed,
                file=self.trace,
                column=self.column,
            )
        except InvalidExperiment:
            return None  # The file has gone since: what waits is told as if it came evenly.


@dataclass(frozen=True)
class LiveRun:
    """One run as far as it has come.

    Attributes:
        run: its name.
        results: the folder that will hold, or holds, its results.
        process: the process that carries it out.
        began: Unix time in seconds.
        status: `running`, or how it ended.
        reasons: why it did not end as it should.
        noun: what one sample is.
        repetitions: how many there are to be.
        planned: requests of all their warm-ups, and after them; 0 where that is not known.
        links: what was measured of them; empty before they were.
        streams: of the repetitions that have begun, oldest first.
        removed: whether its machines are taken away at its end.
        observed_on: the machine of Prometheus; "" where there is none.
    """

    run: str
    results: str
    process: int
    began: float
    status: str = RUNNING
    reasons: tuple[str, ...] = ()
    noun: str = "request"
    repetitions: int = 0
    planned: tuple[int, int] = (0, 0)
    links: tuple[LinkMeasurement, ...] = ()
    streams: tuple[Stream, ...] = ()
    removed: bool = False
    observed_on: str = ""

    @property
    def lasts(self) -> bool:
        """Whether it is under way; one whose process was killed is not."""
        return self.status == RUNNING and Path("/proc", str(self.process)).exists()


class Teller:
    """Keeps the file of one run. What it cannot write is left out: no run fails for it."""

    def __init__(self, folder: Path, run: LiveRun) -> None:
        self._path = folder / FILE
        self.run = run
        self._write()

    def tell(self, **changes: Any) -> None:  # noqa: ANN401  the fields of `LiveRun`
        """Something has come to be known."""
        self.run = replace(self.run, **changes)
        self._write()

    def begins(self, streams: tuple[Stream, ...]) -> None:
        """A repetition begins."""
        self.tell(streams=(*self.run.streams, *streams))

    def _write(self) -> None:
        with suppress(OSError):  # A full disk is told where it hurts.
            told = masked.values(_adapter().dump_python(self.run, mode="json"))
            text = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
            folders.write_file(self._path, text.encode("utf-8", "replace"), folders.PRIVATE_FILE)


def read(folder: Path) -> LiveRun | None:
    """The deployment's last run; None when there was none, or its file cannot be read."""
    return state_file.kept(folder / FILE, _adapter())


@cache
def _adapter() -> TypeAdapter[LiveRun]:
    return TypeAdapter(LiveRun)
