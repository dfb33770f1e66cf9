"""Queues of known arrivals, against a simulation of one request after another."""

from __future__ import annotations

import numpy as np
import pytest

from continuum.benchmark.queueing import departures, starts


def one_after_another(arrivals: list[float], service: list[float], servers: int) -> list[float]:
    """When each begins: at the least busy server, when both are there."""
    free = [0.0] * servers
    begun = []
    for arrival, takes in zip(arrivals, service, strict=True):
        server = min(range(servers), key=lambda each: free[each])
        begun.append(max(arrival, free[server]))
        free[server] = begun[-1] + takes
    return begun


@pytest.mark.parametrize("servers", [1, 2, 3, 8])
@pytest.mark.parametrize("load", [0.5, 0.95, 1.3])
def test_requests_begin_as_if_simulated_one_by_one(servers: int, load: float) -> None:
    rng = np.random.default_rng(1)
    arrivals = np.cumsum(rng.exponential(1, 500))
    service = rng.exponential(load * servers, 500)
    found = starts(arrivals, service, servers)
    expected = one_after_another(arrivals.tolist(), service.tolist(), servers)
    assert found == pytest.approx(expected)
    if servers == 1:
        assert departures(arrivals, service) == pytest.approx(found + service)


def test_the_mean_wait_of_random_arrivals_is_pollaczek_and_khinchines() -> None:
    rng = np.random.default_rng(2)
    arrivals = np.cumsum(rng.exponential(1, 400_000))
    waits = starts(arrivals, np.full(400_000, 0.8), 1) - arrivals
    assert waits.mean() == pytest.approx(0.8**2 / (2 * (1 - 0.8)), rel=0.03)


def test_nothing_arrives_nothing_waits() -> None:
    nothing = np.array([])
    assert departures(nothing, nothing).size == 0
    assert starts(nothing, nothing, 1).size == 0
    assert starts(nothing, nothing, 2).size == 0
