"""The host's own share, as the report and the terminal show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from continuum.benchmark import host_share as shares
from continuum.benchmark import samples
from continuum.benchmark.host_share import LINK_CHECK, Shared
from continuum.benchmark.results import STALLS_FILE, Results, Run, write_run
from continuum.benchmark.statistics import aggregate
from continuum.infrastructure.host.processor import Throttling
from continuum.infrastructure.host.sentinel import Lateness
from continuum.infrastructure.host.share import HostShare
from continuum.report import host_share, plots, terminal
from continuum.report.page import write_report
from made_up_runs import MadeUp

MILLISECOND = 1_000_000


def share(stalls: list[tuple[int, int, int]] | None, host: str = "") -> HostShare:
    return HostShare(
        host=host,
        began_ns=0,
        ended_ns=10 * 10**9,
        cores=2,
        lateness=None if stalls is None else Lateness(stalls=stalls, wakes=1, period_ms=4.0),
        busy_percent=41.5,
        foreign_percent=None,
        steal_percent=3.25,
        saturated_percent=0.0,
        crowded_percent=None,
        pressure_percent=None,
        load_before=0.4,
        ready_before=1,
        governor=None,
        clock_step_ms=0.0,
        throttling={"edge-1": Throttling(500, 20, 0.2), "endpoint-1": Throttling()},
    )


def watched(folder: Path, stalls: list[tuple[int, int, int]] | None, **changes: Any) -> Run:
    """A results folder of a made-up run whose host had these stalls in its repetition."""
    made_up = MadeUp()
    run = made_up.write(folder)
    shared = [Shared(LINK_CHECK, share([])), Shared(1, share(stalls))]
    marked = shares.mark(made_up.table(), shared, {})
    samples.write_samples(folder / "samples.parquet", marked, {})
    rows = list(shares.stall_rows(shared))
    if rows:
        samples.write_stalls(folder / STALLS_FILE, rows)
    calm, stalled = shares.without_stalls(marked)
    run = run.model_copy(
        update={
            "host_share": tuple(shares.record(each) for each in shared),
            "unstalled": aggregate(calm) if calm is not None else (),
            "stalled": stalled,
            **changes,
        }
    )
    write_run(folder, run)
    return run


def middle() -> int:
    """A moment in the middle of the first request after the warm-up."""
    table = MadeUp().table()
    first = table["warmup"].to_pylist().index(False)
    span = (table["intended_ns"][first].as_py(), table["answered_ns"][first].as_py())
    found: int = sum(span) // 2
    return found


def text(run: Run, folder: Path) -> str:
    from rich.console import Console

    console = Console(width=140, no_color=True)
    with console.capture() as taken:
        console.print(terminal.summary(run, folder))
    return taken.get()


def test_figures_stand_beside_those_without_stalls(tmp_path: Path) -> None:
    begin = middle()
    run = watched(tmp_path, [(begin, begin + 3 * MILLISECOND, 0)])
    assert 0 < run.stalled < 10
    page = write_report(tmp_path).read_text()
    assert "without stalls of the host" in page
    assert "The host’s own share" in page
    assert "stood still once, 3.00 ms at the longest" in page
    assert "wakes on each core every 4 ms" in page
    assert "the host stood still" in (tmp_path / "plots" / "timeline.svg").read_text()
    shown = text(run, tmp_path)
    assert "without stalls" in shown
    assert f"{run.stalled} of" in shown
    calm = host_share.unstalled_rows(run)["latency_ms"]
    assert run.all is not None
    assert calm.n == run.all.ok - run.stalled


def test_without_stalls_nothing_is_said_twice(tmp_path: Path) -> None:
    run = watched(tmp_path, [])
    page = write_report(tmp_path).read_text()
    assert "without stalls of the host" not in page
    assert "without stalls" not in text(run, tmp_path)
    assert host_share.remark(run) == ""


def test_a_stall_over_the_whole_repetition_leaves_nothing(tmp_path: Path) -> None:
    run = watched(tmp_path, [(0, 2**62, 0)])
    assert host_share.remark(run).endswith("None did not.")
    write_report(tmp_path)


def test_a_host_without_a_sentinel_is_told(tmp_path: Path) -> None:
    run = watched(tmp_path, None)
    run = run.model_copy(update={"host_share": run.host_share[1:]})
    write_run(tmp_path, run)
    assert "No sentinel could be started" in write_report(tmp_path).read_text()
    (row,) = host_share.share_rows(run)
    assert (row.part, row.stalls, row.others, row.steal) == ("repetition 1", "–", "–", "3.25")


def test_machines_that_waited_for_their_quota_are_named(tmp_path: Path) -> None:
    run = watched(tmp_path, [])
    (row,) = host_share.throttled_rows(run)
    assert (row.machine, row.periods, row.share) == ("edge-1", "500", "4 %")
    # Of the link check's machines nobody asks how they computed.
    check, repetition = host_share.share_rows(run)
    assert (check.part, repetition.throttled) == ("link check", "1 of 2")


def test_hosts_are_named_where_there_are_several(tmp_path: Path) -> None:
    run = watched(tmp_path, [])
    records = (shares.record(Shared(1, share([], host="left"))),)
    (row,) = host_share.share_rows(run.model_copy(update={"host_share": records}))
    assert row.part == "repetition 1, host left"


def test_older_folders_have_none_of_it(tmp_path: Path) -> None:
    MadeUp().write(tmp_path)
    results = Results.load(tmp_path)
    assert results.stalls is None
    assert results.run.host_share == ()
    assert "own share" not in write_report(tmp_path).read_text()


@pytest.mark.parametrize("count", [1, 5000])
def test_many_stalls_are_thinned_in_the_drawing(count: int, tmp_path: Path) -> None:
    table = MadeUp().table()
    begin = table["intended_ns"].to_pylist()[0]
    stalls = [(begin + at * MILLISECOND, begin + (at + 1) * MILLISECOND, 0) for at in range(count)]
    path = tmp_path / "stalls.parquet"
    samples.write_stalls(path, shares.stall_rows([Shared(1, share(stalls))]))
    svg = str(plots.timeline(table, samples.read_stalls(path)))
    assert svg.count("the host stood still") == 1
    assert len(svg) < 400_000
