"""Each interval of the link check: against known values, and its coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from continuum.infrastructure.links import intervals
from continuum.infrastructure.links.intervals import Blocks

ERROR = 0.025


@pytest.mark.parametrize(
    ("share", "freedom", "value"),
    [(0.975, 9, 2.262), (0.975, 29, 2.045), (0.982, 29, 2.203), (0.999, 59, 3.234)],
)
def test_students_t_is_that_of_the_tables(share: float, freedom: int, value: float) -> None:
    assert intervals.t_quantile(share, freedom) == pytest.approx(value, rel=0.005)


@pytest.mark.parametrize(
    ("count", "whole", "low", "high"),
    # Clopper and Pearson's 95 % intervals.
    [
        (0, 100, 0.0, 0.0362),
        (5, 100, 0.0164, 0.1128),
        (50, 100, 0.3983, 0.6017),
        (10, 10, 0.6915, 1),
    ],
)
def test_shares_are_exact(count: int, whole: int, low: float, high: float) -> None:
    found = intervals.share_interval(count, whole, ERROR)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def autocorrelated(rng: np.random.Generator, count: int, memory: float) -> np.ndarray:
    """Values with mean 0 and deviation 1, each depending on those before it."""
    noise = rng.standard_normal(count) * math.sqrt(1 - memory**2)
    values = np.empty(count)
    values[0] = rng.standard_normal()
    for place in range(1, count):
        values[place] = memory * values[place - 1] + noise[place]
    return values


@pytest.mark.parametrize("memory", [0.0, 0.6])
def test_means_and_deviations_of_dependent_values_are_covered(memory: float) -> None:
    rng = np.random.default_rng(1)
    block = np.repeat(np.arange(30), 30)
    held = {"mean": 0, "deviation": 0}
    for _ in range(600):
        blocks = Blocks.of(autocorrelated(rng, len(block), memory), block)
        mean = intervals.mean_interval(blocks, ERROR)
        deviation = intervals.deviation_interval(blocks, ERROR)
        assert mean is not None
        assert deviation is not None
        held["mean"] += mean.low < 0 < mean.high
        held["deviation"] += deviation.low < 1 < deviation.high
    assert all(0.92 < count / 600 < 0.98 for count in held.values())


def test_a_rate_is_bytes_by_time_and_not_the_mean_of_rates() -> None:
    found = intervals.ratio_interval(np.array([100.0, 100.0]), np.array([1.0, 3.0]), ERROR)
    assert found is not None
    assert found.value == 50


def test_too_little_gives_no_interval() -> None:
    one = Blocks.of(np.array([1.0, 2.0]), np.array([0, 0]))
    assert intervals.mean_interval(one, ERROR) is None
    assert intervals.deviation_interval(one, ERROR) is None
    assert intervals.ratio_interval(np.array([1.0]), np.array([1.0]), ERROR) is None


def test_no_spread_is_a_deviation_of_nothing() -> None:
    blocks = Blocks.of(np.full(40, 7.5), np.repeat(np.arange(4), 10))
    found = intervals.deviation_interval(blocks, ERROR)
    assert found is not None
    assert (found.low, found.value, found.high) == (0, 0, 0)


def test_an_end_on_the_bound_is_not_inside() -> None:
    found = intervals.Interval(1.0, 0.1, 0.8, 1.2)
    assert found.inside(0.7, 1.3)
    assert not found.inside(0.8, 1.3)
    assert not found.outside(0.9, 1.3)
    assert found.outside(1.2, 1.3)
    assert found.inside(-math.inf, math.inf)
