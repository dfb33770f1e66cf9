"""The coverage of the true value by 95 % intervals, by simulation of samples of known truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from continuum.benchmark.intervals import Series
from continuum.benchmark.statistics import QUANTITIES, summarise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CENTRE = 100.0
SPREAD = 10.0
"""Mean and standard deviation of the samples of one repetition, in ms."""
FIGURES = ("mean", "p50", "p95")
_NORMAL_95 = 1.6448536269514722


@dataclass
class Coverage:
    """Simulations that gave an interval, and those of them whose interval held the truth."""

    simulated: int = 0
    given: int = 0
    held: int = 0

    @property
    def percent(self) -> float:
        """Of the intervals that were given; 100 without any, since none was wrong."""
        return 100 * self.held / self.given if self.given else 100.0

    def add(self, low: float | None, high: float | None, truth: float) -> None:
        """Count one simulation. An end that cannot be said excludes nothing."""
        self.simulated += 1
        if low is not None or high is not None:
            self.given += 1
            self.held += (low is None or low <= truth) and (high is None or truth <= high)


def over_repetitions(
    repetitions: int,
    samples: int,
    between: float,
    simulations: int,
    seed: int,
) -> dict[str, Coverage]:
    """Coverage of each figure, of repetitions whose level differs from one to the next.

    Args:
        repetitions: two or more.
        samples: of each.
        between: standard deviation of the repetitions' levels, in that of their samples.
        simulations: how many.
        seed: of all random numbers.
    """
    random = np.random.default_rng(seed)
    truths = _truths(CENTRE, SPREAD)
    found = {name: Coverage() for name in FIGURES}
    for _ in range(simulations):
        levels = CENTRE + between * SPREAD * random.standard_normal((repetitions, 1))
        drawn = levels + SPREAD * random.standard_normal((repetitions, samples))
        statistic = summarise(QUANTITIES[0], list(drawn))
        for name, truth in truths.items():
            figure = getattr(statistic, name)
            found[name].add(figure.low, figure.high, truth)
    return found


def _truths(centre: float, spread: float) -> dict[str, float]:
    return {"mean": centre, "p50": centre, "p95": centre + _NORMAL_95 * spread}


def within_run(
    process: Callable[[np.random.Generator, int], Floats],
    truths: dict[str, float],
    samples: int,
    simulations: int,
    seed: int,
) -> dict[str, Coverage]:
    """Coverage of each figure of a single repetition.

    Args:
        process: gives so many samples in the order of their time.
        truths: the true value of each of `FIGURES`.
        samples: of each simulation.
        simulations: how many.
        seed: of all random numbers.
    """
    random = np.random.default_rng(seed)
    found = {name: Coverage() for name in FIGURES}
    for _ in range(simulations):
        series = Series(process(random, samples))
        for name in FIGURES:
            figure = series.mean if name == "mean" else series.percentile(float(name[1:]))
            found[name].add(figure.low, figure.high, truths[name])
    return found


def autoregressive(correlation: float) -> Callable[[np.random.Generator, int], Floats]:
    """Standard normal samples, each correlated with the one before it."""

    def process(random: np.random.Generator, samples: int) -> Floats:
        steps = random.standard_normal(samples) * np.sqrt(1 - correlation**2)
        values = np.empty(samples)
        value = random.standard_normal()
        for place, step in enumerate(steps):
            values[place] = value = correlation * value + step
        return values

    return process


NORMAL = _truths(0.0, 1.0)
"""Of standard normal samples."""


def waiting(load: float) -> Callable[[np.random.Generator, int], Floats]:
    """Waits in a queue with Poisson arrivals and equal services of length 1 (Lindley's recursion)."""

    def process(random: np.random.Generator, samples: int) -> Floats:
        before = 2000
        steps = 1.0 - random.exponential(1 / load, samples + before)
        # The wait is how far the sum of steps lies above its least value so far.
        sums = np.cumsum(steps)
        waits: Floats = sums - np.minimum(0.0, np.minimum.accumulate(sums))
        return waits[before:]

    return process
