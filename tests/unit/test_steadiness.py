"""Trends are found where there are any: by simulation, with false alarms and misses counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from continuum.benchmark import samples
from continuum.benchmark.queueing import starts
from continuum.benchmark.steadiness import Trend, kendall, trends

RATE = 10.0
"""Requests a second."""


def table(
    latency: Any,
    *,
    due: Any = None,
    work: Any = None,
    endpoints: int = 1,
    lost: Callable[[int], bool] = lambda _: False,
    repetition: int = 1,
    worker: str = "worker-1",
) -> list[dict[str, Any]]:
    """Samples with these latencies and times of work, in ms."""
    due = np.arange(len(latency)) / RATE if due is None else due
    work = np.full(len(latency), 1.0) if work is None else work
    rows = []
    for number, (taken, at, busy) in enumerate(zip(latency, due, work, strict=True)):
        intended = 10**18 + round(at * 1e9)
        answered = intended + max(0, round(taken * 1e6))
        rows.append(
            {
                "run": "r",
                "repetition": repetition,
                "warmup": False,
                "endpoint": f"endpoint-{1 + number % endpoints}",
                "worker": worker,
                "sequence": number,
                "status": "lost" if lost(number) else "ok",
                "intended_ns": intended,
                "started_ns": intended,
                "finished_ns": intended + round(busy * 1e6),
                "answered_ns": None if lost(number) else answered,
            }
        )
    return rows


def alarms(latency: Any, due: Any = None, work: Any = None) -> list[Trend]:
    """The same at once: of many samples it takes long to make a table row by row."""
    due = np.arange(len(latency)) / RATE if due is None else due
    work = np.full(len(latency), 1.0) if work is None else work
    intended = 10**18 + np.rint(due * 1e9).astype(np.int64)
    number = len(latency)
    return trends(
        pa.table(
            {
                "repetition": np.ones(number, dtype=np.int32),
                "warmup": np.zeros(number, dtype=bool),
                "endpoint": ["endpoint-1"] * number,
                "worker": ["worker-1"] * number,
                "intended_ns": intended,
                "started_ns": intended,
                "finished_ns": intended + np.rint(work * 1e6).astype(np.int64),
                "answered_ns": intended + np.rint(latency * 1e6).astype(np.int64),
            }
        ),
        {"worker-1": 1},
    )


def found(rows: list[dict[str, Any]], servers: int | None = 1) -> list[Trend]:
    return trends(samples.table(rows), {"worker-1": servers, "worker-2": servers})


def noise(count: int, rng: np.random.Generator, dependence: float = 0.9) -> Any:
    """Stationary, around 0 with deviation 1."""
    series = np.empty(count)
    series[0] = rng.standard_normal()
    innovations = rng.standard_normal(count) * np.sqrt(1 - dependence**2)
    for place in range(1, count):
        series[place] = dependence * series[place - 1] + innovations[place]
    return series


def queue(load: float, count: int, rng: np.random.Generator, *, random: bool) -> dict[str, Any]:
    """Latency at one worker, after a warm-up of a fifth."""
    whole = count + count // 5
    gaps = rng.exponential(1 / RATE, whole) if random else np.full(whole, 1 / RATE)
    due = np.cumsum(gaps)
    work = np.maximum(0.1, rng.normal(1, 0.1, whole)) * load / RATE
    latency = 1000 * (starts(due, work, 1) + work - due)
    kept = slice(count // 5, None)
    return {"due": due[kept], "latency": latency[kept], "work": 1000 * work[kept]}


@pytest.mark.parametrize(("count", "runs"), [(60, 600), (300, 600), (1500, 150)])
def test_noise_whose_neighbours_depend_has_no_trend(count: int, runs: int) -> None:
    rng = np.random.default_rng(1)
    told = sum(bool(alarms(100 + 30 * noise(count, rng))) for _ in range(runs))
    assert told <= 0.01 * runs


@pytest.mark.parametrize("random", [True, False])
def test_four_fifths_of_a_load_have_no_trend(random: bool) -> None:
    rng = np.random.default_rng(2)
    told = sum(bool(alarms(**queue(0.8, 200, rng, random=random))) for _ in range(1000))
    assert told <= 10


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("count", [200, 400])
def test_six_fifths_of_a_load_grow(count: int, random: bool) -> None:
    rng = np.random.default_rng(3)
    told = [alarms(**queue(1.2, count, rng, random=random)) for _ in range(200)]
    assert sum(bool(each) for each in told) >= (190 if random else 200)
    slopes = [trend.slope for each in told for trend in each]
    assert np.mean(slopes) == pytest.approx(200, rel=0.2)
    assert all(trend.load == pytest.approx(1.2, rel=0.4) for each in told for trend in each)


def test_growth_is_found_without_knowing_the_load_too() -> None:
    rows = table(**queue(1.2, 300, np.random.default_rng(4), random=False))
    (trend,) = found(rows, servers=None)
    assert trend.kind == "grew"
    assert trend.load is None
    assert str(trend).startswith("latency still grew at the end in repetition 1 at worker-1, by 2")


def test_a_load_of_two_servers_is_half_of_one() -> None:
    rows = table(**queue(1.2, 300, np.random.default_rng(4), random=False))
    (trend,) = found(rows, servers=2)
    assert trend.load == pytest.approx(0.6, rel=0.02)


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        (lambda share: 50 * np.exp(-3 * share), "fell", "warm-up was not over"),
        (lambda share: -50 * np.exp(-3 * share), "grew", "still grew"),
        (lambda share: 50 * np.exp(-6 * share), "levelled", "came to rest"),
        (lambda share: 50 * share, "grew", "still grew"),
    ],
)
def test_a_warm_up_that_was_not_over_is_told(
    shape: Callable[[Any], Any], kind: str, words: str
) -> None:
    count = 300
    rng = np.random.default_rng(5)
    latency = 100 + shape(np.linspace(0, 1, count)) + noise(count, rng, 0.3)
    (trend,) = found(table(latency))
    assert trend.kind == kind
    assert words in str(trend)


def test_what_hardly_changes_is_no_trend() -> None:
    assert found(table(100 + np.linspace(0, 4, 300))) == []
    assert len(found(table(100 + np.linspace(0, 6, 300)))) == 1


def test_endpoints_with_links_of_their_own_have_no_trend_among_them() -> None:
    rng = np.random.default_rng(6)
    # The near endpoint ends half-way.
    far, near = 150 + noise(200, rng, 0), 20 + noise(100, rng, 0)
    rows = table(far) + [{**row, "endpoint": "endpoint-9"} for row in table(near)]
    assert found(rows) == []


def test_requests_that_are_lost_at_last_are_the_longest() -> None:
    latency = np.concatenate([np.linspace(100, 5000, 200), np.full(100, 1.0)])
    (trend,) = found(table(latency, lost=lambda number: number >= 200))
    assert trend.kind in {"grew", "levelled"}
    assert found(table(latency[200:], lost=lambda _: True)) == []


def test_each_repetition_and_worker_is_looked_at_by_itself() -> None:
    flat, growing = np.full(100, 50.0), np.linspace(50, 500, 100)
    rows = [
        row
        for repetition in (1, 2)
        for worker in ("worker-1", "worker-2")
        for row in table(
            growing if (repetition, worker) == (2, "worker-2") else flat,
            repetition=repetition,
            worker=worker,
            endpoints=1,
        )
    ]
    for row in rows:
        row["endpoint"] = row["worker"].replace("worker", "endpoint")
    (trend,) = found(rows)
    assert (trend.repetition, trend.worker) == (2, "worker-2")


def test_few_requests_have_none_and_no_request_does_no_harm() -> None:
    assert found(table(np.linspace(1, 100, 59))) == []
    assert found([]) == []


def test_kendalls_statistic_counts_pairs() -> None:
    assert kendall(np.arange(10.0)) == 45
    assert kendall(-np.arange(10.0)) == -45
    assert kendall(np.array([1.0, 3.0, 2.0])) == 1
