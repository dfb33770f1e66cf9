"""Clocks that are set while a run lasts."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
import pytest

from continuum.benchmark import clock_steps, samples, statistics
from continuum.benchmark.sample_lines import parse_lines
from continuum.machine import Result
from continuum.reasons import Code
from continuum_runtime import steady_clock

SECOND = 10**9


class _Clock:
    """The clocks of Python, of which the wall clock can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monotonic_ns, self.ahead_ns = 5 * SECOND, 1000 * SECOND
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.monotonic_ns)
        monkeypatch.setattr(time, "time_ns", lambda: self.monotonic_ns + self.ahead_ns)


@pytest.mark.parametrize("step_ns", [-3600 * SECOND, -5 * SECOND, 5 * SECOND, 2_000_000])
def test_a_clock_that_is_set_is_told_and_changes_no_duration(
    monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    clock = _Clock(monkeypatch)
    before = clock_steps.offsets([])
    steady = steady_clock.SteadyClock()
    began = steady.time_ns()
    clock.monotonic_ns += SECOND
    clock.ahead_ns += step_ns
    assert steady.time_ns() - began == SECOND
    assert steady.monotonic_of_ns(time.time_ns()) == clock.monotonic_ns
    (reason,) = clock_steps.reasons(3, before, clock_steps.offsets([]))
    assert reason.code == Code.CLOCK
    assert "the clock of this host was set by" in reason.sentence
    assert reason.figures == {"repetition": 3, "clock_step_ms": step_ns / 1e6}


def test_readings_that_differ_by_less_are_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(monkeypatch)
    before = clock_steps.offsets([])
    clock.ahead_ns += 900_000
    assert clock_steps.reasons(1, before, clock_steps.offsets([])) == []


def test_machines_with_clocks_of_their_own_are_read_each() -> None:
    class Own:
        def __init__(self, name: str, answers: list[bytes]) -> None:
            self.name, self._answers = name, answers

        def run(self, command: Any) -> Result:
            assert "continuum_runtime.steady_clock" in command.arguments
            return Result(command, 0, self._answers.pop(0), b"", 0.0, self.name)

    machines: list[Any] = [Own("a", [b"10\n", b"5000000010\n"]), Own("b", [b"7\n", b"no number\n"])]
    before = clock_steps.offsets(machines)
    after = clock_steps.offsets(machines)
    assert (before["a"], before["b"]) == (10, 7)
    assert "b" not in after
    (reason,) = clock_steps.reasons(1, before, after)
    assert "the clock of a was set by +5e+03 ms" in reason.sentence


def _table(*rows: dict[str, Any]) -> pa.Table:
    whole = {"run": "r", "repetition": 1, "endpoint": "e", "worker": "w", "warmup": False}
    return samples.table(
        {**whole, "sequence": number, "status": "ok", **row} for number, row in enumerate(rows)
    )


def test_times_below_0_are_counted_and_left_out_of_means() -> None:
    table = _table(
        {"sent_ns": 100, "received_ns": 2_000_100},
        {"sent_ns": 10_000_100, "received_ns": 4_000_100},
        {"sent_ns": 100, "received_ns": 4_000_100},
    )
    assert statistics.negative(table) == {"forward_ms": 1}
    statistic = statistics.aggregate(table)[0].statistic("forward_ms")
    assert statistic is not None
    assert (statistic.n, statistic.mean.value) == (2, 3.0)
    assert samples.MONOTONIC.names[0] not in table.schema.names


def test_durations_are_by_the_clock_that_is_never_set_where_samples_have_it() -> None:
    table = _table(
        {
            "intended_ns": 100 * SECOND,
            "answered_ns": 40 * SECOND,
            "intended_monotonic_ns": SECOND,
            "answered_monotonic_ns": SECOND + 7_000_000,
        },
        {"intended_ns": SECOND, "answered_ns": SECOND + 5_000_000},
    )
    assert statistics.values(table, "latency_ms").tolist() == [7.0, 5.0]
    assert statistics.negative(table) == {}


def test_an_answer_is_late_by_the_clock_that_is_never_set() -> None:
    line = (
        b'{"sequence":%d,"intended_ns":%d,"answered_ns":%d,'
        b'"intended_monotonic_ns":%d,"answered_monotonic_ns":%d}\n'
    )
    set_forward = line % (0, SECOND, 3600 * SECOND, SECOND, SECOND + 5)
    set_back = line % (1, 3600 * SECOND, SECOND, SECOND, 9 * SECOND)
    found, problems = parse_lines(set_forward + set_back, 0, 2.0)
    assert problems == []
    assert [each["status"] for each in found] == ["ok", "timeout"]
