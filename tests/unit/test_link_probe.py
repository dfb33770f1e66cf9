from __future__ import annotations

import socket
import statistics
import time
from typing import Any

import pytest

from continuum_runtime import link_probe

SLOW = 0.02


def plan(*, kernel: bool) -> dict[str, Any]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    task = {"task": 1, "kind": "delay", "address": "127.0.0.1", "at_ms": 0}
    now = time.time_ns()
    return {
        "port": port,
        "start_ns": now + 10**8,
        "end_ns": now + 10**10,
        "echo": True,
        "kernel": kernel,
        "expected": {"1": 10},
        "tasks": [task | {"count": 10, "interval_ms": 3 * SLOW * 1e3, "payload": 64}],
    }


@pytest.mark.parametrize("kernel", [True, False])
def test_a_program_that_is_slow_to_take_a_packet_delays_it_only_by_its_own_clock(
    monkeypatch: pytest.MonkeyPatch, *, kernel: bool
) -> None:
    take = link_probe.Receiver._take

    def slowly(self: link_probe.Receiver) -> None:
        time.sleep(SLOW)
        take(self)

    monkeypatch.setattr(link_probe.Receiver, "_take", slowly)
    said = link_probe.run(plan(kernel=kernel))
    delay = statistics.median(said["received"][1]["delays_ns"]) / 1e9
    trip = statistics.median(trip for _, trip in said["echoed"][1]) / 1e9
    assert (delay < SLOW) == kernel
    assert (trip < SLOW) == kernel
