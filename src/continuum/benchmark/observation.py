"""What a run tells the service `observability` while it lasts, and what it takes home at its end.

Nothing here may disturb a run: what cannot be told, or had, is a reason why it is degraded.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from continuum.errors import ContinuumError
from continuum.machine import Command
from continuum.software.services import scraping
from continuum.software.services.observability import PHASES, TARGETS

if TYPE_CHECKING:
    from continuum.infrastructure.plan import MachineSpec
    from continuum.machine import Machine
    from continuum.software.contract import ProcessSpec

PATIENCE = 3 * scraping.INTERVAL
"""Seconds without a figure that count as a gap: one look that was late is none."""

_ANSWER_LIMIT = 60
_OWN_LABELS = frozenset({"__name__", "machine", "tier"})

# Prometheus listens on its machine's address alone, and the emulated network has no way to us.
_ASK = """\
import sys, urllib.request, urllib.error
try:
    with urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])) as answer:
        sys.stdout.buffer.write(answer.read())
except urllib.error.HTTPError as error:
    sys.exit(error.read().decode("utf-8", "replace"))
except OSError as error:
    sys.exit(str(error))
"""


@dataclass
class Observation:
    """One run as Prometheus sees it.

    Attributes:
        run: the run's name.
        machine: the observing one.
        machines: all of them, by name.
        problems: what could not be told, each once.
    """

    run: str
    machine: Machine
    machines: Mapping[str, MachineSpec]
    started: float = field(default_factory=time.time)
    problems: dict[str, None] = field(default_factory=dict)
    _phase: tuple[int, str] = (0, "")

    def begin(self) -> None:
        """Forget the phase and the targets of a run before this one that was killed."""
        self._put(phase_text(self.run, *self._phase), PHASES)
        self.targets(())

    def targets(self, processes: Iterable[ProcessSpec]) -> None:
        """Have those asked that tell figures of themselves, and no others."""
        told = scraping.files_of_targets(
            (each.name, self.machines[each.machine], each.metrics_port)
            for each in processes
            if each.metrics_port is not None
        )
        self._put(json.dumps(told, indent=2) + "\n", TARGETS)

    def phase(self, repetition: int, name: str) -> None:
        """Note the phase that begins now; "" for none."""
        if (repetition, name) == self._phase:
            return
        self._phase = (repetition, name)
        self._put(phase_text(self.run, repetition, name), PHASES)

    def end(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Forget the run's targets, and take home what was seen: rows, and what is missing."""
        ended = time.time()
        self.phase(0, "")
        rows: list[dict[str, Any]] = []
        try:
            rows = list(parse(self._ask(ended)))
            missing = gaps(rows, self.started, ended, tuple(self.machines))
        except (ContinuumError, ValueError, KeyError, TypeError) as error:
            told = error.message if isinstance(error, ContinuumError) else repr(error)
            missing = [f"no series of any machine, broker or process: {told}"]
        self.targets(())
        return rows, [*self.problems, *missing]

    def _ask(self, ended: float) -> bytes:
        # Names of jobs are never empty: all series of the window, with every sample.
        window = math.ceil(ended - self.started) + scraping.INTERVAL
        query = f"query=%7Bjob%21%3D%22%22%7D%5B{window}s%5D&time={ended:.3f}"
        address = f"http://{self.machine.address}:{scraping.PROMETHEUS_PORT}/api/v1/query?{query}"
        asked = ("python3", "-I", "-S", "-c", _ASK, address, str(_ANSWER_LIMIT))
        result = self.machine.run(Command(asked, timeout=_ANSWER_LIMIT + 5, only_reads=True))
        return result.check(f"Prometheus on {self.machine.name} does not answer").stdout

    def _put(self, text: str, path: str) -> None:
        try:
            self.machine.put(text.encode(), path)
        except ContinuumError as error:
            self.problems[f"the run could not be told to Prometheus: {error.message}"] = None


def phase_text(run: str, repetition: int, phase: str) -> str:
    """What node-exporter reads; empty when there is no phase."""
    if not phase:
        return ""
    labels = f'run="{run}",repetition="{repetition}",phase="{phase}"'
    return (
        "# HELP continuum_run_phase 1 while a phase of a run lasts.\n"
        "# TYPE continuum_run_phase gauge\n"
        f"continuum_run_phase{{{labels}}} 1\n"
    )


def parse(answer: bytes) -> Iterator[dict[str, Any]]:
    """Rows of `series.parquet` from Prometheus' answer to a query for a window.

    Raises:
        ValueError: it is no such answer.
        KeyError: it lacks what such an answer has.
    """
    told = json.loads(answer)
    if told["status"] != "success" or told["data"]["resultType"] != "matrix":
        raise ValueError(f"no window of series: {answer[:200]!r}")
    for series in told["data"]["result"]:
        metric = series["metric"]
        labels = {name: value for name, value in metric.items() if name not in _OWN_LABELS}
        about = {
            "series": metric["__name__"],
            "machine": metric.get("machine", ""),
            "tier": metric.get("tier", ""),
            "labels": json.dumps(labels, sort_keys=True),
        }
        for at, value in series["values"]:
            yield {**about, "time_ns": round(at * 1000) * 1_000_000, "value": float(value)}


def gaps(
    rows: Sequence[Mapping[str, Any]], started: float, ended: float, machines: Sequence[str] = ()
) -> list[str]:
    """Sentences about what was not seen, of targets that are there as long as their machines are.

    `started` and `ended` are Unix times; of the named machines something must have been seen.
    """
    seen: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in rows:
        if row["series"] != "up":
            continue
        labels = json.loads(row["labels"])
        if labels["job"] != scraping.APPLICATION:
            key = (labels["job"], row["machine"], labels.get("instance", ""))
            seen.setdefault(key, []).append((row["time_ns"] / 1e9, row["value"]))
    if not seen:
        return ["no series of any machine: Prometheus saw none in this run"]
    found: dict[tuple[int, int], list[str]] = {}
    looked_at = {machine for job, machine, _ in seen if job == scraping.MACHINES}
    never = [f"machines of {name}" for name in sorted(set(machines) - looked_at)]
    if never and ended - started > PATIENCE:
        found[0, round((ended - started) / PATIENCE)] = never
    for (job, machine, instance), values in sorted(seen.items()):
        good = sorted(at for at, value in values if value > 0)
        edges = [started, *good, ended]
        for before, after in itertools.pairwise(edges):
            if after - before > PATIENCE:
                # Neighbours are asked at other moments of the same interval: one gap for all.
                first, last = (round((at - started) / PATIENCE) for at in (before, after))
                found.setdefault((first, last), []).append(f"{job} of {machine} ({instance})")
    return [
        f"no series from about {first * PATIENCE} s to {last * PATIENCE} s after the start: "
        + ", ".join(names[:6])
        + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        for (first, last), names in sorted(found.items())
    ]
