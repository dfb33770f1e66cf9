"""Made-up samples are as an endpoint would write them."""

from __future__ import annotations

import itertools
import json
import statistics
from typing import Any

from continuum.benchmark.contract import Load
from continuum.benchmark.sample_lines import TIMES, parse_lines
from continuum.infrastructure.plan import LinkSettings
from continuum.testing.synthetic import (
    Behaviour,
    MadeUpLoad,
    synthetic_sample_lines,
    synthetic_samples,
)

LOAD = MadeUpLoad(seed=7, frequency=5, warmup=2, duration=60)


def test_requests_come_at_their_frequency_and_the_warm_up_first() -> None:
    made = synthetic_samples(LOAD, start_ns=10**18)
    assert [each["sequence"] for each in made] == list(range(310))
    assert [each["warmup"] for each in made] == [True] * 10 + [False] * 300
    assert made[5]["intended_ns"] == 10**18 + 10**9


def test_times_come_in_their_order() -> None:
    for each in synthetic_samples(LOAD, Behaviour(forward=LinkSettings(7.5, 2.5, 0, 7.21))):
        times = [each[name] for name in TIMES]
        assert all(before <= after for before, after in itertools.pairwise(times))


def test_the_same_seed_gives_the_same_lines() -> None:
    assert synthetic_sample_lines(LOAD) == synthetic_sample_lines(LOAD)
    assert synthetic_sample_lines(LOAD) != synthetic_sample_lines(MadeUpLoad(seed=8))


def test_lines_are_read_without_a_problem() -> None:
    behaviour = Behaviour(forward=LinkSettings(loss_percent=20), late=0.1, failed=0.1)
    read, problems = parse_lines(synthetic_sample_lines(LOAD, behaviour))
    assert problems == []
    assert len(read) == 310
    assert {each["status"] for each in read} == {"ok", "lost", "timeout", "error"}


def test_the_benchmarks_own_load_fits() -> None:
    load = Load(1, 3, 5.0, 1.0, 2.0, 10.0, "/run")
    lines = synthetic_sample_lines(load).splitlines()
    assert len(lines) == sum(load.requests)
    assert json.loads(lines[0])["warmup"] is True


def forward(each: dict[str, Any]) -> float:
    return float(each["received_ns"] - each["sent_ns"]) / 1e6


def test_links_are_felt() -> None:
    there = synthetic_samples(LOAD, Behaviour(forward=LinkSettings(45, 5, 0, 7.21)))
    assert 124 < statistics.mean(forward(each) for each in there) < 132
    assert statistics.mean(forward(each) for each in synthetic_samples(LOAD)) < 1


def test_a_slow_worker_has_a_queue() -> None:
    slow = synthetic_samples(LOAD, Behaviour(processing_ms=300))
    waits = [each["started_ns"] - each["received_ns"] for each in slow]
    assert waits[-1] > 25 * 10**9
    assert waits[0] < 10**9
