"""Figures and their 95 % intervals, from numbers alone: `docs/statistics.md` has each formula.

With two repetitions or more the repetition is the unit, and its figure one number (`between`). Of
one repetition the samples depend on each other, so that their number says little of what a figure
is worth: batch means and their correlation time do (`Series`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CONFIDENCE = 0.95
LEAST_SAMPLES = 20
"""Samples of one repetition below which nothing can be said of how they depend on each other."""
BATCHES = (5, 10)
"""Fewest and most batches."""
BATCH_TIMES = 2
"""Correlation times that a batch lasts, where there is room for it."""
LEAST_TIMES = 10
"""Correlation times below which a repetition says nothing about its own error."""
BLOCKS = 2_000
"""Longer series are averaged to at most this many blocks before their dependence is looked at."""
LEAST_BEYOND = 5
"""Samples that must lie beyond a percentile, on average, for it to be given."""
LEAST_BEYOND_EACH = 3
"""The same within each repetition, for a percentile of that repetition."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; an end is None where it cannot be said. `value` may be infinite."""

    value: float
    low: float | None = None
    high: float | None = None


def between(figures: Floats, *, positive: bool = False) -> Estimate:
    """The mean of the repetitions' figures, with Student's t over them.

    No interval for a single one, nor where all are equal: that they cannot differ is not known.

    Args:
        figures: one per repetition.
        positive: whether there is nothing below 0; the interval then ends there.
    """
    value = float(figures.mean())
    if figures.size < 2 or not math.isfinite(value) or np.ptp(figures) == 0:
        return Estimate(value)
    error = float(figures.std(ddof=1)) / math.sqrt(figures.size)
    return _around(value, student_t(figures.size - 1) * error, positive=positive)


def enough(samples: int, percentile: float, beyond: int = LEAST_BEYOND) -> bool:
    """Tell whether so many samples lie beyond a percentile of 0 … 100."""
    return samples * (100 - percentile) >= 100 * beyond


def percentile_of(ordered: Floats, percentile: float) -> float:
    """The median-unbiased percentile (Hyndman and Fan's type 8) of samples in rising order.

    It lies between two neighbours, in proportion; infinite when one of them is.
    """
    share = percentile / 100
    return _at(ordered, ordered.size * share + (share + 1) / 3)


def _at(ordered: Floats, rank: float) -> float:
    """The value at a rank from 1, between neighbours in proportion."""
    rank = min(max(rank, 1.0), float(ordered.size))
    below = int(rank)
    part = rank - below
    first = float(ordered[below - 1])
    if part < 1e-9:
        return first
    second = float(ordered[below])
    return first + part * (second - first) if math.isfinite(second) else math.inf


@dataclass(frozen=True)
class Series:
    """The samples of one repetition in the order in which they were due.

    Attributes:
        values: (n,), in their unit; infinite where there was no answer, which counts in
            percentiles alone. At least one is finite.
        usual: what is usual for each sample, as its endpoint's mean, (n,) or a number: taken off
            where samples are compared with their neighbours, which are other endpoints'.
    """

    values: Floats
    usual: Floats | float = 0.0

    @cached_property
    def finite(self) -> Floats:
        """Those that were answered."""
        return self.values[np.isfinite(self.values)]

    @cached_property
    def ordered(self) -> Floats:
        """All of them in rising order."""
        return np.sort(self.values)

    @cached_property
    def correlation_time(self) -> float:
        """The number of samples in turn that are worth one that depends on no other."""
        return _correlation_time((self.values - self.usual)[np.isfinite(self.values)])

    @cached_property
    def batches(self) -> int:
        """In how many batches it is cut; 0 where it is too short for what it is."""
        fewest, most = BATCHES
        size = self.finite.size
        if size < LEAST_SAMPLES or np.ptp(self.finite) == 0:
            return 0
        times = size / self.correlation_time
        return int(min(most, max(fewest, times / BATCH_TIMES))) if times >= LEAST_TIMES else 0

    @property
    def mean(self) -> Estimate:
        """The arithmetic mean of those that were answered."""
        values = self.finite
        value = float(values.mean())
        if not self.batches:
            return Estimate(value)
        error = max(
            self._squared_error(values),
            self.correlation_time * float(values.var(ddof=1)) / values.size,
        )
        wide = student_t(self.batches - 1) * math.sqrt(error)
        return _around(value, wide, positive=bool((values >= 0).all()))

    def percentile(self, percentile: float) -> Estimate:
        """A percentile of 0 … 100 of all of them, by order statistics."""
        ordered = self.ordered
        value = percentile_of(ordered, percentile)
        if not self.batches:
            return Estimate(value)
        ranks = order_statistics(self._worth(value, percentile / 100), percentile / 100)
        scale = (ordered.size + 1) / (ranks.samples + 1)
        low = None if ranks.low is None else _at(ordered, ranks.low * scale)
        high = None if ranks.high is None else _at(ordered, ranks.high * scale)
        return Estimate(
            value,
            None if low is None or not math.isfinite(low) else min(low, value),
            None if high is None or not math.isfinite(high) else max(high, value),
        )

    def _worth(self, value: float, share: float) -> float:
        """The number of independent samples that would know as well the share below a value."""
        below = (self.values <= value).astype(np.float64)
        size = below.size
        independent = share * (1 - share) / size
        if math.isfinite(value):
            times = max(self._squared_error(below) / independent, _correlation_time(below))
        else:
            times = self.correlation_time
        if times <= 1:
            return float(size)
        # Few batches do not know the error well: as Student's t is wider than the normal.
        return float(size / times * (_NORMAL / student_t(self.batches - 1)) ** 2)

    def _squared_error(self, values: Floats) -> float:
        """The squared standard error of the mean, from how the batches' means differ."""
        edges = np.linspace(0, values.size, self.batches + 1).round().astype(np.int64)
        means = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
        return float(means.var(ddof=1)) / self.batches


def _around(value: float, wide: float, *, positive: bool) -> Estimate:
    low = value - wide
    return Estimate(value, max(0.0, low) if positive else low, value + wide)


def _correlation_time(values: Floats) -> float:
    """The integrated autocorrelation time, in samples, at least 1.

    The larger one of that of a first-order process with the same correlation of neighbours, and of
    Geyer's initial monotone sequence. Of a long series that of its blocks' means, of which one is
    worth as many samples as its variance is smaller.
    """
    variance = float(values.var())
    if values.size < 4 or variance <= 0:
        return 1.0
    width = -(-values.size // BLOCKS)
    if width > 1:
        values = values[: values.size // width * width].reshape(-1, width).mean(axis=1)
    size = values.size
    centred = values - values.mean()
    total = float(centred @ centred)
    if total <= 0:
        return 1.0
    neighbours = float(centred[1:] @ centred[:-1]) / total
    # The correlation of a short series is found too small (Kendall 1954).
    neighbours = min(neighbours + (1 + 3 * neighbours) / size, 0.999)
    times = max((1 + neighbours) / (1 - neighbours), _initial_sequence(centred), 1.0)
    return max(1.0, times * width * total / size / variance)


def _initial_sequence(centred: Floats) -> float:
    """Geyer's estimate: sums of two neighbouring autocorrelations, as long as they are positive."""
    size = centred.size
    length = 1 << (2 * size - 1).bit_length()
    spectrum = np.fft.rfft(centred, length)
    correlations = np.fft.irfft(spectrum * spectrum.conj(), length)[: size // 2 * 2]
    pairs = (correlations / correlations[0]).reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    kept = np.minimum.accumulate(pairs[: ends[0] if ends.size else pairs.size])
    return 2 * float(kept.sum()) - 1


@dataclass(frozen=True)
class Ranks:
    """Between which ranks, of so many independent samples, a percentile lies with 95 %.

    An end is None where it lies beyond the least or the largest sample.
    """

    samples: float
    low: float | None
    high: float | None


def order_statistics(samples: float, share: float) -> Ranks:
    """Ranks between which the percentile of a share of 0 … 1 lies, from 1, not whole.

    The share that lies below the r-th of n independent samples is distributed as Beta(r, n - r + 1).
    """
    # Three digits of the number are enough, and leave few to compute.
    digits = 2 - math.floor(math.log10(max(1.0, samples)))
    return _ranks(max(1.0, math.floor(samples * 10**digits) / 10**digits), share)


@lru_cache(maxsize=10_000)
def _ranks(samples: float, share: float) -> Ranks:
    tail = (1 - CONFIDENCE) / 2

    def below(rank: float) -> float:
        return beta(rank, samples - rank + 1, share)

    # The chance that a rank's value lies below the percentile falls as the rank rises.
    low = None if below(1.0) < 1 - tail else _solve(lambda rank: below(rank) - (1 - tail), samples)
    high = None if below(samples) > tail else _solve(lambda rank: below(rank) - tail, samples)
    return Ranks(samples, low, high)


def _solve(falling: Callable[[float], float], highest: float) -> float:
    """The zero of a falling function, between 1 and `highest`, to a ten-thousandth."""
    low, high = 1.0, highest
    while high - low > 1e-4 * max(1.0, high**0.5):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@lru_cache(maxsize=1000)
def student_t(degrees: int, chance: float = (1 + CONFIDENCE) / 2) -> float:
    """The quantile of Student's t at a chance of 0.5 … 1, to ten digits."""
    low, high = 0.0, 1.0
    while _student_chance(high, degrees) < chance:
        low, high = high, 2 * high
    while high - low > 1e-11 * high:
        middle = (low + high) / 2
        if _student_chance(middle, degrees) < chance:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _student_chance(value: float, degrees: int) -> float:
    """The chance that Student's t lies below a value of 0 or more."""
    return 1 - beta(degrees / 2, 0.5, degrees / (degrees + value * value)) / 2


_NORMAL = 1.959963984540054
"""Student's t with very many degrees of freedom."""


def beta(first: float, second: float, value: float) -> float:
    """The regularised incomplete beta function I(first, second), at 0 … 1.

    By its continued fraction (Abramowitz and Stegun 26.5.8), evaluated as Lentz does.
    """
    if value <= 0 or value >= 1:
        return 0.0 if value <= 0 else 1.0
    if value > (first + 1) / (first + second + 2):
        return 1 - beta(second, first, 1 - value)
    front = math.exp(
        math.lgamma(first + second)
        - math.lgamma(first)
        - math.lgamma(second)
        + first * math.log(value)
        + second * math.log1p(-value)
    )
    tiny = 1e-300
    above, fraction = 1.0, 1.0
    under = 1 / (1 - (first + second) * value / (first + 1) or tiny)
    fraction = under
    for step in range(1, 20_000):
        twice = first + 2 * step
        for part in (
            step * (second - step) * value / ((twice - 1) * twice),
            -(first + step) * (first + second + step) * value / (twice * (twice + 1)),
        ):
            under = 1 / (1 + part * under or tiny)
            above = 1 + part / above or tiny
            fraction *= above * under
        if abs(above * under - 1) < 1e-15:
            break
    return front * fraction / first
