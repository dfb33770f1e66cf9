"""Jitter as a process in time: its moments at every packet rate, and that it keeps order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum.infrastructure.links.jitter import delays
from continuum_runtime import jitter

MS = 1_000_000
SECOND = 1000 * MS
SLOTS = 40_000
"""Of so many the mean has a standard error of 0.6 % of the deviation, 1.27 / sqrt(slots)."""


def arrivals(rate: float, process: jitter.Process) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Packets at that rate, for as many slots; at least 20,000 and at most two million."""
    count = min(max(SLOTS * process.slot * rate / SECOND, 20_000), 2_000_000)
    return (np.arange(int(count)) * (SECOND / rate)).astype(np.int64)


@pytest.mark.parametrize("rate", [1, 100, 1000, 10_000])
@pytest.mark.parametrize(("mean", "deviation"), [(7.5, 2.5), (45, 5), (1, 0.2), (5, 4), (5, 5)])
def test_mean_and_deviation_at_every_packet_rate(rate: int, mean: float, deviation: float) -> None:
    process = jitter.process(mean * MS, deviation * MS)
    at = arrivals(rate, process)
    due = np.maximum.accumulate(at + delays(process, jitter.key(7, 11), at))
    waited = (due - at) / MS
    assert waited.mean() == pytest.approx(mean, rel=0.03)
    assert waited.std() == pytest.approx(deviation, rel=0.03)
    assert waited.min() >= 0


def test_order_keeps_itself() -> None:
    process = jitter.process(7.5 * MS, 2.5 * MS)
    at = arrivals(10_000, process)
    due = at + delays(process, jitter.key(1, 2), at)
    assert np.mean(np.diff(due) < 0) < 1e-4


def test_it_is_normal() -> None:
    process = jitter.process(45.0 * MS, 5.0 * MS)
    at = np.arange(20_000, dtype=np.int64) * (2 * process.slot + 12_345)
    found = np.sort(delays(process, jitter.key(3, 4), at))
    expected = [0.5 * math.erfc((45 * MS - each) / (5 * MS) / math.sqrt(2)) for each in found]
    steps = (np.arange(len(found)) + 0.5) / len(found)
    assert np.abs(steps - expected).max() < 1.63 / math.sqrt(len(found))  # Kolmogorov, 1 %


def test_paths_are_independent() -> None:
    process = jitter.process(45.0 * MS, 5.0 * MS)
    at = np.arange(20_000, dtype=np.int64) * 2 * process.slot
    one, other = (delays(process, jitter.key(3, source), at) for source in (1, 2))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
    later = delays(process, jitter.key(3, 1), at + 2 * process.slot)
    assert abs(np.corrcoef(one, later)[0, 1]) < 0.03


@given(mean=st.floats(0.01, 1000), ratio=st.floats(0, 1))
def test_the_cut_at_zero_is_made_up_for(mean: float, ratio: float) -> None:
    process = jitter.process(mean * MS, mean * ratio * MS)
    if not process.slot:
        assert process.centre == mean * MS
        return
    # The quantile function of the normal distribution, cut at 0, over a fine grid.
    grid = np.linspace(-8, 8, 160_001)
    weight = np.exp(-grid * grid / 2) * (grid[1] - grid[0]) / math.sqrt(2 * math.pi)
    values = np.maximum(0, process.centre + process.spread * grid) / MS
    first = float((values * weight).sum())
    assert first == pytest.approx(mean, rel=1e-4)
    deviation = math.sqrt(max(0.0, float((values**2 * weight).sum()) - first**2))
    assert deviation == pytest.approx(mean * ratio, rel=1e-3, abs=1e-4 * mean)


def test_without_a_delay_the_deviation_counts() -> None:
    process = jitter.process(0.0, 2.0 * MS)
    at = arrivals(100, process)
    found = delays(process, jitter.key(1, 1), at)
    assert found.std() / MS == pytest.approx(2, rel=0.03)
    assert jitter.process(5.0, 0.0) == jitter.Process(5.0, 0.0, 0)
    assert jitter.delay(jitter.Process(5.0, 0.0, 0), 1, 123) == 5.0


@given(
    key=st.integers(0, 2**64 - 1),
    at=st.integers(0, 2**60),
    mean=st.floats(0.1, 100),
    ratio=st.floats(0.01, 1),
)
def test_one_packet_and_many_wait_alike(key: int, at: int, mean: float, ratio: float) -> None:
    process = jitter.process(mean * MS, mean * ratio * MS)
    (found,) = delays(process, key, np.array([at]))
    assert found == pytest.approx(jitter.delay(process, key, at), abs=1e-3)
