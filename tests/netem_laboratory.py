"""Effects of netem on packets, for a kernel with slow system calls; `test_netem_kernel` runs it there.

On such a kernel programs run late, the more so the busier its host is, so that means and deviations
tell that and not the link. No packet is early, however: what the link does is seen in the quickest
ones, in what is lost, and in the kernel's own stamps of a train of packets.
"""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from continuum import folders
from continuum.deployment import Deployment
from continuum.infrastructure.links import check
from continuum.infrastructure.links.evidence import Attempt
from continuum.infrastructure.links.intervals import Floats
from continuum.infrastructure.links.netem import Netem
from continuum.infrastructure.plan import LinkSettings
from continuum.machine import Machine
from continuum.testing.link_lab import Lab, lab, make_plan

THERE = LinkSettings(delay_ms=20.0, rate_mbit=10.0)
BACK = LinkSettings(delay_ms=5.0, jitter_ms=1.0, loss_percent=2.0)
PROBES = 400
INTERVAL_MS = 10.0
PIECES = 20
STANDARD_DEVIATIONS = (0.0228, 0.1587)
"""Shares of a normal distribution below its mean less two of them, and less one."""


@pytest.fixture(scope="module")
def measured() -> dict[str, Attempt]:
    """Probes and a train over a link there, and probes over one back, by the sender's name."""
    plan = make_plan(
        {"edge": 1, "endpoint": 1}, {("edge", "endpoint"): THERE, ("endpoint", "edge"): BACK}
    )
    there, back = check.choose_pairs(plan, all_pairs=False)
    number = count()
    payload = check.PROBE_PAYLOAD

    def probes(pair: check.Pair, kind: str, at: float, many: int, interval: float) -> check.Task:
        return check.Task(next(number), pair, kind, at, many, interval, payload)

    span = PROBES * INTERVAL_MS
    train = check.schedule([there], {there: {"rate_mbit"}})[0]
    tasks = [
        probes(there, "delay", 0, PROBES, INTERVAL_MS),
        probes(back, "delay", INTERVAL_MS / 2, PROBES, INTERVAL_MS),
        probes(back, "loss", span, 3000, 1.0),
        check.Task(next(number), there, "train", span + 4000, *_of(train)),
    ]
    clocks = check.Clocks(by_kernel=True)
    with lab(plan) as running:
        deployment = Deployment("lab", folders.state_folder())
        Netem().apply(deployment, plan, running.interfaces)
        results = check.carry_out_in_time(_machines(running), tasks, clocks)
    return {
        pair.source.name: check.gather(
            pair, [each for each in tasks if each.pair == pair], results, plan.network.links
        )
        for pair in (there, back)
    }


def _of(train: check.Task) -> tuple[int, float, int, int, float]:
    return train.count, train.interval_ms, train.payload, train.ahead, train.pace


def _machines(running: Lab) -> dict[str, Machine]:
    return {each.name: each for each in running.machines}


def _delays(attempt: Attempt) -> Floats:
    assert attempt.delay is not None
    assert attempt.delay.delays.size > PROBES / 2
    return attempt.delay.delays


def test_delay(measured: dict[str, Attempt]) -> None:
    quickest = np.quantile(_delays(measured["edge-1"]), (0.0, 0.1))
    assert 19.9 < quickest[0] <= quickest[1] < 21.0


def test_jitter(measured: dict[str, Attempt]) -> None:
    delays = _delays(measured["endpoint-1"])
    two, one = np.quantile(delays, STANDARD_DEVIATIONS)
    assert 5.0 - 2 * 1.0 - 0.5 < two < 5.0 - 2 * 1.0 + 1.0
    assert 0.5 < one - two < 1.6
    assert delays.min() < 5.0 - 1.5


def test_loss(measured: dict[str, Attempt]) -> None:
    attempt = measured["endpoint-1"]
    share = 1 - attempt.received / attempt.sent
    assert abs(share - 0.02) < 4 * (0.02 * 0.98 / attempt.sent) ** 0.5
    attempt = measured["edge-1"]
    assert attempt.received == attempt.sent


def test_rate(measured: dict[str, Attempt]) -> None:
    train = measured["edge-1"].train
    assert train is not None
    arrivals = np.asarray(train.arrivals, dtype=np.int64)
    # After what the bucket lets pass at once, in pieces: the sender may have stopped for a while.
    edges = np.linspace(len(arrivals) // 10, len(arrivals) - 1, PIECES + 1).astype(np.int64)
    carried = np.diff(np.cumsum(arrivals[:, 1])[edges]) * train.frame * 8
    seconds = np.diff(arrivals[edges, 0]) / 1e9
    assert np.median(carried / seconds / 1e6) == pytest.approx(10.0, rel=0.05)
