"""Intervals of what a link check measures. Pure functions.

Probes of one link depend on one another: jitter is a process in time, and a busy host delays
neighbours alike. So means, deviations and rates get their intervals from blocks of time, by the
delete-a-block jackknife (Künsch 1989, doi:10.1214/aos/1176347265; Shao & Tu 1995, "The Jackknife
and Bootstrap", section 9.3) and Student's t. Shares are counts: their interval is exact (Clopper &
Pearson 1934, doi:10.1093/biomet/26.4.404).
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMALLEST = 1e-6
"""Milliseconds; a deviation below that is none."""

LARGEST = 1e6
"""Milliseconds; stands for no upper end of a deviation."""


@dataclass(frozen=True)
class Interval:
    """An estimate, its standard error, and the ends of its interval."""

    value: float
    standard_error: float
    low: float
    high: float

    def inside(self, least: float, most: float) -> bool:
        """Tell whether all of it is strictly within a range; an infinite end bounds nothing."""
        return least < self.low and self.high < most

    def outside(self, least: float, most: float) -> bool:
        """Tell whether all of it is beyond a range, or at its very end."""
        return self.high <= least or self.low >= most


def normal_quantile(share: float) -> float:
    """Quantile of the standard normal distribution."""
    return statistics.NormalDist().inv_cdf(share)


def t_quantile(share: float, freedom: int) -> float:
    """Quantile of Student's t, by its expansion in 1/freedom; within 0.5 % from 10 on.

    Abramowitz & Stegun 1964, 26.7.5.
    """
    z = normal_quantile(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / float(freedom**power) for power, term in enumerate(terms, start=1))


@dataclass(frozen=True)
class Blocks:
    """Values by block of time: how many each has, their sum, and the sum of their squares.

    All three have shape (blocks,). Sums are of differences from `centre`, so that squares lose no
    digits.
    """

    count: Floats
    total: Floats
    square: Floats
    centre: float

    @classmethod
    def of(cls, values: Floats, block: NDArray[np.int64]) -> Blocks:
        """Of values and the number of each one's block, both of shape (n,), n at least 1."""
        centre = float(np.median(values))
        _, place = np.unique(block, return_inverse=True)
        apart = values - centre
        return cls(
            np.bincount(place).astype(np.float64),
            np.bincount(place, apart).astype(np.float64),
            np.bincount(place, apart * apart).astype(np.float64),
            centre,
        )


def mean_interval(blocks: Blocks, error: float) -> Interval | None:
    """Mean of all values; None for fewer than two blocks.

    `error`: probability that the true mean is above the interval, and that it is below.
    """
    count, total = blocks.count.sum(), blocks.total.sum()
    if len(blocks.count) < 2:
        return None
    without = (total - blocks.total) / (count - blocks.count)
    value = float(total / count)
    spread = _jackknife(without)
    reach = t_quantile(1 - error, len(without) - 1) * spread
    middle = blocks.centre + value
    return Interval(middle, spread, middle - reach, middle + reach)


def deviation_interval(blocks: Blocks, error: float) -> Interval | None:
    """Standard deviation of all values, by the interval of its inverse.

    The inverse is nearly symmetric, and its spread does not depend on the deviation itself: with
    the deviation or its logarithm a jitter that is too large is missed up to twice as often as it
    should be.
    """
    count, total, square = (each.sum() for each in (blocks.count, blocks.total, blocks.square))
    rest = count - blocks.count
    if len(blocks.count) < 2 or rest.min() < 2:
        return None
    whole = _deviation(np.array([count]), np.array([total]), np.array([square]))
    value = float(whole[0])
    if value < SMALLEST:
        return Interval(value, 0.0, value, value)
    without = _deviation(rest, total - blocks.total, square - blocks.square)
    spread = _jackknife(1 / np.maximum(without, SMALLEST))
    reach = t_quantile(1 - error, len(without) - 1) * spread
    return Interval(
        value,
        value**2 * spread,
        1 / (1 / value + reach),
        1 / max(1 / value - reach, 1 / LARGEST),
    )


def ratio_interval(above: Floats, below: Floats, error: float) -> Interval | None:
    """Sum of `above` by that of `below`, both of shape (blocks,): a rate of bytes and times."""
    if len(above) < 2 or not np.all(below.sum() - below > 0):
        return None
    without = (above.sum() - above) / (below.sum() - below)
    value = float(above.sum() / below.sum())
    spread = _jackknife(without)
    reach = t_quantile(1 - error, len(without) - 1) * spread
    return Interval(value, spread, value - reach, value + reach)


def share_interval(count: int, whole: int, error: float) -> Interval:
    """Share of `whole`, at least 1, that `count` is; exact for independent draws."""
    value = count / whole
    return Interval(
        value,
        math.sqrt(value * (1 - value) / whole),
        1 - _upper(whole - count, whole, error),
        _upper(count, whole, error),
    )


def _deviation(count: Floats, total: Floats, square: Floats) -> Floats:
    variance = (square - total * total / count) / (count - 1)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _jackknife(without: Floats) -> float:
    """Standard error of a figure from its values without each block, of shape (blocks,)."""
    blocks = len(without)
    return float(np.sqrt((blocks - 1) / blocks * np.sum((without - without.mean()) ** 2)))


def _upper(count: int, whole: int, error: float) -> float:
    """The share at which so few or fewer have the probability `error`."""
    if count == whole:
        return 1.0
    low, high = count / whole, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(count, whole, middle) > error:
            low = middle
        else:
            high = middle
    return high


def _at_most(count: int, whole: int, share: float) -> float:
    """Probability of at most `count` of `whole`, where `count` is no more than the mean.

    Terms fall from the last one on; those that no longer matter are left out.
    """
    if share >= 1:
        return 0.0
    term = math.exp(
        math.lgamma(whole + 1)
        - math.lgamma(count + 1)
        - math.lgamma(whole - count + 1)
        + count * math.log(share)
        + (whole - count) * math.log1p(-share)
    )
    found = term
    for number in range(count, 0, -1):
        term *= number * (1 - share) / ((whole - number + 1) * share)
        found += term
        if term < found * 1e-12:
            break
    return found
