"""The drawing of what machines took, under the latency."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from continuum.benchmark import samples as tables
from continuum.benchmark.results import MachineRecord, Run
from continuum.report import machines_over_time

SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND


def samples(*, repetitions: int = 2) -> pa.Table:
    rows = []
    for repetition in range(1, repetitions + 1):
        begin = BEGIN + repetition * 100 * SECOND
        rows += [
            {
                "run": "r",
                "repetition": repetition,
                "endpoint": "endpoint-1",
                "worker": "worker-1",
                "sequence": number,
                "warmup": False,
                "status": "ok",
                "intended_ns": begin + number * SECOND,
                "sent_ns": begin + number * SECOND,
                "answered_ns": begin + number * SECOND + 40_000_000,
            }
            for number in range(20)
        ]
    return tables.table(rows)


def rows(
    series: str, machine: str, points: dict[float, float], **labels: str
) -> list[dict[str, Any]]:
    about = {"series": series, "machine": machine, "tier": "edge", "labels": json.dumps(labels)}
    return [
        {**about, "time_ns": BEGIN + round(at * SECOND), "value": value}
        for at, value in points.items()
    ]


def series(content: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(content, schema=tables.SERIES_SCHEMA)


def run(*names: str) -> Run:
    machines = tuple(
        MachineRecord(name=name, tier="edge", address="", cores=2, quota=0.5, memory=2**30)
        for name in names
    )
    return Run(run="r", deployment="d", status="done", started="", finished="", machines=machines)


CPU = "continuum_machine_cpu_seconds_total"


def test_a_rate_is_what_was_added_and_a_counter_may_begin_anew() -> None:
    seen = machines_over_time.lines(series(rows(CPU, "edge-1", {0: 10, 5: 12.5, 10: 1})))
    at, value = machines_over_time._rate(seen, (CPU,), "edge-1", 100)
    assert at.tolist() == [BEGIN + 5 * SECOND, BEGIN + 10 * SECOND]
    assert value.tolist() == [50, 20]


def test_loopback_is_no_network() -> None:
    name = "node_network_receive_bytes_total"
    found = machines_over_time.lines(
        series(
            rows(name, "edge-1", {0: 0, 5: 5e6}, device="eth0")
            + rows(name, "edge-1", {0: 0, 5: 9e9}, device="lo")
        )
    )
    _, value = machines_over_time._rate(found, (name,), "edge-1", 8e-6)
    assert value.tolist() == [8]


def test_what_waits_is_summed_over_processes() -> None:
    name = "continuum_queue_requests"
    found = machines_over_time.lines(
        series(
            rows(name, "edge-1", {0: 1, 5: 3}, process="worker-1")
            + rows(name, "edge-1", {0: 2, 5: 4}, process="worker-2")
        )
    )
    _, value = machines_over_time._level(found, (name,), "edge-1", 1)
    assert value.tolist() == [3, 7]


def test_repetitions_stand_side_by_side() -> None:
    first, second = machines_over_time.places_of(samples())
    assert first.offset == 0
    assert second.offset == pytest.approx(19 + 0.57)
    assert second.begins_ns - first.begins_ns == 100 * SECOND


@pytest.mark.parametrize("count", [1, 3, 9])
def test_all_machines_are_drawn(count: int) -> None:
    names = [f"edge-{number}" for number in range(1, count + 1)]
    content = []
    for name in names:
        content += rows(CPU, name, {float(at): at / 2 for at in np.arange(100, 240, 5)})
    drawn = machines_over_time.draw(run(*names), samples(), series(content))
    assert drawn.startswith("<svg")
    assert "CPU, %" in drawn
    assert "edge-1" in drawn


def test_nothing_is_drawn_of_nothing() -> None:
    assert machines_over_time.draw(run("edge-1"), samples(), series([])) == ""
