"""What the machines' clocks add to one-way figures, and how the report says so."""

from __future__ import annotations

import html
import math
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from continuum.benchmark.results import ClockReading, Run, read_run
from continuum.report import format as show
from continuum.report import table, terminal
from continuum.report.clocks import UNKNOWN, ClockError, Clocks, between
from continuum.report.page import write_report
from made_up_runs import MadeUp

MILLISECOND = 1_000_000


def reading(machine: str, offset: float, bound: float, when: str = "before") -> ClockReading:
    return ClockReading.model_validate(
        {
            "machine": machine,
            "repetition": 1,
            "when": when,
            "at_ns": 0,
            "offset_ns": round(offset * MILLISECOND),
            "bound_ns": round(bound * MILLISECOND),
        }
    )


def both(machine: str, offset: float, bound: float, later: float | None = None) -> list[Any]:
    after = offset if later is None else later
    return [reading(machine, offset, bound), reading(machine, after, bound, "after")]


def run_with(*readings: ClockReading, one_clock: bool = False) -> MadeUp:
    return MadeUp(changes={"clock": {"one_clock": one_clock, "readings": readings}})


def made(what: MadeUp) -> Run:
    return what.run(what.table())


def test_the_difference_of_two_clocks_has_the_sum_of_both_bounds() -> None:
    readings = [*both("edge-1", 0.5, 0.1), *both("endpoint-1", -0.25, 0.2)]
    error = between(readings, "endpoint-1", "edge-1")
    assert (error.low, error.high) == pytest.approx((0.45, 1.05))
    assert error.worst == pytest.approx(1.05)
    back = between(readings, "edge-1", "endpoint-1")
    assert (back.low, back.high) == pytest.approx((-1.05, -0.45))


def test_a_clock_that_moved_was_somewhere_between() -> None:
    readings = [*both("edge-1", 0.0, 0.1, later=0.3), *both("endpoint-1", 0.0, 0.1)]
    error = between(readings, "endpoint-1", "edge-1")
    assert (error.low, error.high) == pytest.approx((-0.2, 0.5))


def test_a_machine_has_one_clock_and_what_was_not_read_is_unknown() -> None:
    assert between([], "edge-1", "edge-1") == ClockError(0, 0)
    assert between([], "edge-1", "endpoint-1") == UNKNOWN
    once = [reading("edge-1", 0, 0.1), reading("endpoint-1", 0, 0.1)]
    assert between(once, "edge-1", "endpoint-1") == UNKNOWN
    missing = [*both("edge-1", 0, 0.1), reading("endpoint-1", 0, 0.1)]
    assert between(missing, "edge-1", "endpoint-1") == UNKNOWN


@pytest.mark.parametrize(
    ("error", "figure", "outweighs"),
    [
        (ClockError(-1.0, 0.5), 10.1, False),
        (ClockError(-1.0, 0.5), 9.9, True),
        (ClockError(-0.5, 1.0), -9.9, True),
        (ClockError(0, 0), 0.0, False),
        (UNKNOWN, 1e9, True),
    ],
)
def test_a_tenth_of_the_figure_is_the_limit(
    error: ClockError, figure: float, *, outweighs: bool
) -> None:
    assert error.outweighs(figure) is outweighs
    assert (show.DOUBTFUL in table.marked(figure, error)) is outweighs


def test_a_group_has_the_worst_of_its_endpoints() -> None:
    run = made(
        run_with(
            *both("edge-1", 1.0, 0.1), *both("endpoint-1", 0.0, 0.1), *both("endpoint-2", 4.0, 0.1)
        )
    )
    clocks = Clocks(run)
    first = clocks.error("forward_ms", "endpoint", "endpoint-1")
    second = clocks.error("forward_ms", "endpoint", "endpoint-2")
    every = clocks.error("forward_ms", "all", "all")
    back = clocks.error("return_ms", "worker", "worker-1")
    assert first is not None
    assert second is not None
    assert every is not None
    assert back is not None
    assert (first.low, first.high) == pytest.approx((0.8, 1.2))
    assert (second.low, second.high) == pytest.approx((-3.2, -2.8))
    assert (every.low, every.high) == pytest.approx((-3.2, 1.2))
    assert (back.low, back.high) == pytest.approx((-1.2, 3.2))
    assert clocks.error("latency_ms", "all", "all") is None
    assert "at most 3.20 ms" in clocks.note


def test_what_compares_no_clocks_is_neither_marked_nor_explained() -> None:
    run = made(run_with(*both("edge-1", 900, 1), *both("endpoint-1", 0, 1)))
    for row in table.summary_table(run):
        one_way = row.quantity in {"forward_ms", "return_ms"}
        assert bool(row.clocks) is one_way
        assert (show.DOUBTFUL in row.mean.value + row.p95.value) is one_way
        assert show.DOUBTFUL not in row.deviation.value


def summary(run: Run) -> str:
    console = Console(file=StringIO(), width=250)
    console.print(terminal.summary(run, Path("results")))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def page(what: MadeUp, folder: Path) -> str:
    what.write(folder)
    return html.unescape(write_report(folder).read_text())


NEAR = [
    *both("edge-1", 0.02, 0.1), *both("endpoint-1", 0.0, 0.1), *both("endpoint-2", 0.02, 0.1)
]  # fmt: skip
FAR = [*both("edge-1", 20.0, 0.1), *both("endpoint-1", 0.0, 0.1), *both("endpoint-2", 0.0, 0.1)]


def test_clocks_that_are_near_stand_beside_one_way_figures_unmarked(tmp_path: Path) -> None:
    what = run_with(*NEAR)
    for text in (summary(made(what)), page(what, tmp_path)):
        assert "clocks +0.010 ± 0.210" in text
        assert "differ by at most 0.220 ms" in text
        assert not re.search(rf"\d {show.DOUBTFUL}", text)
    text = page(what, tmp_path)
    assert "before repetition 1" in text
    assert "± 0.100" in text
    run = made(what)
    for row in table.group_rows(run, run.groups("endpoint")):
        assert row.forward.clocks
        assert not row.latency.clocks
    assert read_run(tmp_path).clock.readings == tuple(NEAR)


def test_clocks_that_are_far_mark_one_way_figures(tmp_path: Path) -> None:
    what = run_with(*FAR)
    run = made(what)
    assert run.all is not None
    forward = run.all.statistic("forward_ms")
    assert forward is not None
    marked = f"{table.cell(forward.mean).value} {show.DOUBTFUL}"
    for text in (summary(run), page(what, tmp_path)):
        assert marked in text
        assert "clocks +20.00 ± 0.200" in text
    for rows in (
        table.group_rows(run, run.groups("endpoint")),
        table.group_rows(run, table.workers(run)),
    ):
        for row in rows:
            assert row.forward.value.endswith(show.DOUBTFUL)
            assert show.DOUBTFUL not in row.latency.value
    for expected in table.expectation_rows(run, "all"):
        assert expected.measured_mean.endswith(show.DOUBTFUL) is (
            expected.label in {"forward delay", "return"}
        )


def test_clocks_that_were_not_read_are_said(tmp_path: Path) -> None:
    what = run_with()
    for text in (summary(made(what)), page(what, tmp_path)):
        assert "may differ by any amount" in text
        assert "clocks unknown" in text
        assert show.DOUBTFUL in text


def test_one_clock_is_said_and_marks_nothing(tmp_path: Path) -> None:
    what = run_with(one_clock=True)
    assert Clocks(made(what)).error("forward_ms", "all", "all") is None
    text = page(what, tmp_path)
    assert "All machines share one clock" in text
    assert show.DOUBTFUL not in text
    assert "one way" not in summary(made(what))


def test_nothing_can_be_said_of_a_group_without_machines() -> None:
    error = Clocks(made(run_with(*NEAR))).error("forward_ms", "endpoint", "endpoint-9")
    assert error == UNKNOWN
    assert math.isinf(error.worst)
