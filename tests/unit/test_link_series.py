"""The links during a run: totals, and when the emulator was not on time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from continuum.benchmark import link_series
from continuum.benchmark.samples import (
    LINK_SERIES_SCHEMA,
    read_link_series,
    write_link_series,
)
from continuum.infrastructure.links.contract import Window
from continuum_runtime import link_series as counts

SECOND = 1_000_000_000


def window(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "repetition": 1,
        "source": "edge",
        "destination": "endpoint",
        "machine": "endpoint-1",
        "start_ns": 1_700_000_000 * SECOND + number * SECOND // 10,
        "packets": 10,
        "bytes": 15_140,
        "lost": 0,
        "overflow": 0,
        "backlog": 3,
        "delay_ms": 7.5,
        "late_p50_ms": 0.06,
        "late_p99_ms": 0.2,
        "late_max_ms": 0.4,
        **changes,
    }


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=LINK_SERIES_SCHEMA)


def test_a_series_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [window(number) for number in range(5)]
    write_link_series(tmp_path / "links", rows)
    assert read_link_series(tmp_path / "links").to_pylist() == rows


def test_totals_are_over_all_windows_of_a_link() -> None:
    there = [window(number, lost=1) for number in range(20)]
    back = [window(number, source="endpoint", destination="edge") for number in range(5)]
    first, second = link_series.totals(table(*there, *back))
    assert (first.name, first.packets, first.lost, first.windows) == (
        "edge → endpoint",
        200,
        20,
        20,
    )
    assert (second.name, second.bytes) == ("endpoint → edge", 75_700)
    assert first.delay_ms == pytest.approx(7.5)
    assert link_series.reasons([first, second]) == []


@pytest.mark.parametrize(
    ("late", "allowed"), [(8, True), (9, False)], ids=["as many as by chance", "more"]
)
def test_late_windows_are_a_reason_beyond_one_in_twenty(late: int, *, allowed: bool) -> None:
    rows = [window(number, late_p50_ms=0.8 if number < late else 0.1) for number in range(100)]
    found = link_series.reasons(link_series.totals(table(*rows)))
    assert (found == []) is allowed
    if found:
        assert found[0].code == "emulator"
        assert "edge → endpoint" in found[0].sentence


def test_windows_in_which_the_host_stalled_are_the_hosts() -> None:
    rows = [window(number, late_p50_ms=0.8 if number < 20 else 0.1) for number in range(100)]
    start = rows[0]["start_ns"]
    series = table(*rows)
    assert link_series.reasons(link_series.totals(series)) != []
    (total,) = link_series.totals(series, [(start, start + 19 * SECOND // 10)])
    assert (total.windows, total.late_windows) == (80, 0)
    assert link_series.reasons([total]) == []


def test_lateness_is_allowed_in_proportion_to_the_delay() -> None:
    rows = [window(number, delay_ms=45.0, late_p50_ms=4.0) for number in range(100)]
    assert link_series.reasons(link_series.totals(table(*rows))) == []
    rows = [window(number, delay_ms=1.0, late_p50_ms=0.4) for number in range(100)]
    assert len(link_series.reasons(link_series.totals(table(*rows)))) == 1


def test_a_pause_is_a_reason_unless_the_host_paused_as_long() -> None:
    rows = [window(number) for number in range(100)] + [window(100, late_max_ms=2_000.0)]
    totals = link_series.totals(table(*rows))
    (reason,) = link_series.reasons(totals)
    assert "2000 ms late" in reason.sentence
    assert link_series.reasons(totals, longest_stall_ms=1_900.0) == []


def test_packets_that_could_not_be_held_are_a_reason() -> None:
    (reason,) = link_series.reasons(link_series.totals(table(window(0, overflow=12))))
    assert reason.figures == {"links": 1, "packets": 12}


def test_a_reason_names_few_links() -> None:
    rows = [
        window(0, source=f"tier-{number}", destination="cloud", overflow=1) for number in range(50)
    ]
    (reason,) = link_series.reasons(link_series.totals(table(*rows)))
    assert reason.sentence.count("→") == link_series.MOST_NAMED
    assert "and 47 more" in reason.sentence


def test_rows_are_windows_with_their_repetition() -> None:
    counted = {name: value for name, value in window(0).items() if name != "repetition"}
    rows = link_series.rows([Window(link=4, **counted)], 3)
    assert rows == [{**window(0), "repetition": 3}]


def test_what_is_damaged_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "1.part").write_bytes(b"\xff\xfe no head\n" + bytes(1000))
    (tmp_path / "x.part").write_bytes(b"")
    os.mkfifo(tmp_path / "2.part")
    assert list(counts.read(tmp_path)) == []
