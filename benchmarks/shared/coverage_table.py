"""The table of how often 95 % intervals hold the true value, simulated."""

from __future__ import annotations

import math

import numpy as np

from continuum.testing import coverage
from continuum.testing.coverage import FIGURES, NORMAL, Coverage

OVER_REPETITIONS = 2000
WITHIN_RUN = 400
"""Simulations of each row."""
ASKED = (93.0, 97.0)
ASKED_WITHIN = 88.0
SHAPES = ((60, 1.0), (60, 0.3), (200, 0.1), (300, 2.0))
"""Samples of each repetition, and how far repetitions lie apart, in their samples' deviation."""


def show() -> bool:
    """Print the table; whether all that something is asked of lies within it."""
    print("Coverage of 95 % intervals, in percent of those that were given")
    print(f"\nbetween repetitions ({OVER_REPETITIONS} simulations a row; asked: 93 … 97)")
    _head()
    held = True
    for samples, apart in SHAPES:
        for repetitions in (2, 3, 5, 10):
            found = coverage.over_repetitions(
                repetitions, samples, apart, OVER_REPETITIONS, seed=repetitions
            )
            name = f"{repetitions} × {samples}, {apart:g} deviations apart"
            held &= _row(name, found, *ASKED)
    print(f"\nwithin one run ({WITHIN_RUN} simulations a row; asked of AR(1) 0.9: at least 88)")
    _head()
    for correlation in (0.0, 0.6, 0.9, 0.98):
        for samples in (50, 300, 3000):
            process = coverage.autoregressive(correlation)
            found = coverage.within_run(process, NORMAL, samples, WITHIN_RUN, seed=samples)
            asked = correlation == 0.9 and samples >= 300
            name = f"AR(1) {correlation:g}, n = {samples}"
            held &= _row(name, found, ASKED_WITHIN if asked else 0.0, 100.0)
    for load in (0.5, 0.8):
        for samples in (300, 3000):
            found = coverage.within_run(
                coverage.waiting(load), _waits(load), samples, WITHIN_RUN, seed=samples
            )
            _row(f"a queue, load {load:g}, n = {samples}", found, 0.0, 100.0)
    return held


def _waits(load: float) -> dict[str, float]:
    """True figures of the waits: the mean by Pollaczek and Khinchine, the others of a long run."""
    waits = coverage.waiting(load)(np.random.default_rng(1), 5_000_000)
    p50, p95 = np.percentile(waits, (50, 95))
    return {"mean": load / (2 * (1 - load)), "p50": float(p50), "p95": float(p95)}


def _head() -> None:
    print(f"  {'':36}" + "".join(f"{name:>7}" for name in FIGURES) + "   given")


def _row(name: str, found: dict[str, Coverage], low: float, high: float) -> bool:
    held = all(low <= each.percent <= high for each in found.values())
    figures = "".join(
        f"{each.percent:7.1f}" if each.given else f"{'–':>7}" for each in found.values()
    )
    given = 100 * min(each.given / each.simulated for each in found.values())
    print(
        f"  {name:36}{figures}   {math.floor(given)} %" + ("" if held else "   not as asked"),
        flush=True,
    )
    return held
