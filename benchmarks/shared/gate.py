"""The link check by simulation: how often links that are wrong, or right, pass its gate.

Everything is the check's own but for the packets: these are drawn as a link of given properties
would let them pass, by the emulator's own jitter process, with the noise of a quiet host.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.infrastructure.links import check
from continuum.infrastructure.links.evidence import Evidence, Limits
from continuum.infrastructure.links.measurement import outside
from continuum.infrastructure.links.rules import burst
from continuum.infrastructure.links.tolerance import DEFAULT, Tolerances
from continuum.infrastructure.plan import LinkSettings
from continuum.testing.link_lab import make_plan

HOST_NOISE = 0.05
"""Milliseconds: scale of what a quiet host adds to a packet's delay, whose mean is the link's."""

SLOT = 2 * math.pi


@dataclass(frozen=True)
class Row:
    """Gates of one link: how many passed, and how many attempts and seconds they took.

    `wrong` says what the link has other than asked for; empty for a true one.
    """

    asked: LinkSettings
    wrong: str
    gates: int
    passed: int
    attempts: float
    seconds: float

    @property
    def share(self) -> float:
        """Percent of the gates that passed."""
        return 100 * self.passed / self.gates


def wave(at_ms: NDArray[np.float64], slot_ms: float, rng: np.random.Generator) -> NDArray[Any]:
    """The jitter process at some times, with mean 0 and deviation 1; see the emulator."""
    phase = at_ms / slot_ms + rng.random()
    slots = np.floor(phase).astype(np.int64)
    angle = math.pi / 2 * (phase - slots)
    first = int(slots.min())
    draws = rng.standard_normal(int(slots.max()) - first + 2)
    return np.asarray(
        np.cos(angle) * draws[slots - first] + np.sin(angle) * draws[slots - first + 1]
    )


class Simulated:
    """Answers for the probes' programs, with packets over a link of these true properties."""

    def __init__(self, true: LinkSettings, rng: np.random.Generator) -> None:
        self.true = true
        self.rng = rng
        self.seconds = 0.0

    def measure(self, tasks: Sequence[check.Task]) -> check.Results:
        """The results that the programs would report."""
        self.seconds += max(task.end_ms for task in tasks) / 1e3
        said: dict[str, dict[str, Any]] = {}
        delays = self._delays([each for each in tasks if each.kind in ("delay", "stream")])
        for task in tasks:
            ends = (task.pair.source.name, task.pair.destination.name)
            for name in ends:
                said.setdefault(name, {"late_ms": 0, "received": {}, "echoed": {}})
            if task.kind == "train":
                got = self._train(task)
            elif task.kind == "loss":
                got = {"packets": int(self.rng.binomial(task.count, 1 - self._lost))}
            else:
                got = delays[task.number]
            said[ends[1]]["received"][str(task.number)] = got
        return said

    @property
    def _lost(self) -> float:
        return self.true.loss_percent / 100

    def _delays(self, tasks: Sequence[check.Task]) -> Mapping[int, dict[str, Any]]:
        """All of them wait as one process in time says, whichever task they are of."""
        if not tasks:
            return {}
        times = [task.at_ms + task.interval_ms * np.arange(task.count) for task in tasks]
        at = np.concatenate(times)
        delays = np.full(len(at), float(self.true.delay_ms))
        if self.true.jitter_ms:
            delays += self.true.jitter_ms * wave(at, SLOT * self.true.jitter_ms, self.rng)
        delays += HOST_NOISE * (self.rng.exponential(1, len(at)) - 1)
        here = np.split(delays, np.cumsum([len(each) for each in times])[:-1])
        found = {}
        for task, sent, values in zip(tasks, times, here, strict=True):
            own = check.sending_ms(task.payload + check.HEADERS, self.true)
            kept = self.rng.random(len(sent)) >= self._lost
            found[task.number] = {
                "packets": int(np.count_nonzero(kept)),
                "sent_ns": (sent[kept] * 1e6).astype(np.int64),
                "delays_ns": (values[kept] + own) * 1e6,
            }
        return found

    def _train(self, task: check.Task) -> dict[str, Any]:
        assert self.true.rate_mbit is not None
        frame = task.payload + check.HEADERS
        # What the bucket holds comes at once, then frame by frame.
        free = burst(self.true.rate_mbit) // frame
        spacing = frame * 8e3 / self.true.rate_mbit
        at = np.maximum(0, np.arange(task.count) - free) * spacing
        at += np.abs(self.rng.normal(0, HOST_NOISE * 1e6, task.count))
        at = np.sort(at)[self.rng.random(task.count) >= self._lost]
        arrivals = np.stack([at.astype(np.int64), np.ones(len(at), dtype=np.int64)], axis=1)
        return {"frame": frame, "packets": len(at), "arrivals": arrivals}


def gates(
    asked: LinkSettings,
    wrong: Mapping[str, Any] | None = None,
    *,
    count: int = 400,
    seed: int = 1,
    tolerances: Tolerances = DEFAULT,
) -> Row:
    """Let so many gates judge a link that differs by some properties from what was asked.

    A gate is a whole check of the link, with all its attempts.
    """
    rng = np.random.default_rng(seed)
    true = replace(asked, **(wrong or {}))
    plan = make_plan({"edge": 1, "endpoint": 1}, {("edge", "endpoint"): asked})
    (pair,) = check.choose_pairs(plan, all_pairs=False)
    sizes = check.Sizes(tolerances=tolerances, links=plan.network.links)
    passed, attempts, seconds = 0, 0, 0.0
    for _ in range(count):
        (wanted,) = check.quantities([pair]).values()
        evidence = Evidence(pair.ends, asked, tolerances, Limits(), wanted)
        link = Simulated(true, rng)
        check.attempts({pair: evidence}, sizes, link.measure)
        passed += not outside(evidence.measurements)
        attempts += max(each.attempt for each in evidence.measurements)
        seconds += link.seconds
    words = ", ".join(f"{name.split('_')[0]} {value:g}" for name, value in (wrong or {}).items())
    return Row(asked, words, count, passed, attempts / count, seconds / count)


LOSSES = (0.1, 0.5, 1.0, 5.0, 20.0)
MOBILE = LinkSettings(7.5, 2.5, 0, 7.21)


def table(count: int = 400) -> Iterator[Row]:
    """Links that are off by just what must be found, each with the true one before them."""
    cases: list[tuple[LinkSettings, list[dict[str, float]]]] = [
        (MOBILE, [{"delay_ms": 6.75}, {"delay_ms": 8.25}, {"jitter_ms": 2.0}, {"jitter_ms": 3.0}]),
        (LinkSettings(45, 5, 0, 29.66), [{"delay_ms": 40.5}, {"jitter_ms": 6.0}]),
        (LinkSettings(1), [{"delay_ms": 0.0}, {"delay_ms": 0.7}, {"delay_ms": 1.3}]),
        (LinkSettings(0.1), [{"delay_ms": 0.4}, {"jitter_ms": 0.3}]),
        (LinkSettings(5, 0, 0, 100), [{"loss_percent": 0.1}]),
    ]
    cases += [
        (LinkSettings(5, 0, each), [{"loss_percent": each / 2}, {"loss_percent": each * 2}])
        for each in LOSSES
    ]
    cases += [
        (LinkSettings(5, 0, loss, rate), [{"rate_mbit": 0.95 * rate}, {"rate_mbit": 1.05 * rate}])
        for rate, loss in ((1.0, 0.0), (7.21, 1.0), (100.0, 20.0), (900.0, 0.0))
    ]
    each = ((asked, wrong) for asked, wrongs in cases for wrong in ({}, *wrongs))
    for seed, (asked, wrong) in enumerate(each, start=1):
        yield gates(asked, wrong, count=count, seed=seed)


def show(count: int = 400) -> bool:
    """Print the table; whether at most 5 % of wrong links pass, and at least 99 % of true ones."""
    print(f"Link check: {count} gates of each link, whole checks with all attempts, simulated")
    print(
        f"{'asked':34s} {'the link has':16s} {'passes':>8s} {'asked':>8s} {'attempts':>9s} {'s':>6s}"
    )
    fine = True
    for row in table(count):
        asked = row.asked
        words = f"{asked.delay_ms:g} ± {asked.jitter_ms:g} ms, {asked.loss_percent:g} %"
        words += "" if asked.rate_mbit is None else f", {asked.rate_mbit:g} Mbit/s"
        right = row.share <= 5 if row.wrong else row.share >= 99
        fine &= right
        print(
            f"{words:34s} {row.wrong or 'the same':16s} {row.share:6.1f} % "
            f"{'<= 5 %' if row.wrong else '>= 99 %':>8s} {row.attempts:9.2f} {row.seconds:6.1f}"
            f"{'' if right else '  <-- not reached'}"
        )
    return fine
