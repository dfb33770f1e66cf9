"""The host's own share: what the kernel tells, what a stall overlaps, and what degrades a run."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum import native
from continuum.benchmark import host_share, samples
from continuum.benchmark.host_share import Shared
from continuum.benchmark.reasons import Code
from continuum.errors import CommandFailed
from continuum.infrastructure.host import processor, share
from continuum.infrastructure.host.processor import Consumer, Throttling, Times
from continuum.infrastructure.host.sentinel import Lateness
from continuum.infrastructure.host.share import HostShare, StallsSoFar
from continuum.infrastructure.links.process import environment
from continuum.machine import commands_stopped
from continuum_runtime import sentinel

STAT = """\
cpu  59247 10 14156 26045 638 3 150 70 5 0
cpu0 25832 0 6232 17934 134 0 17 28 0 0
intr 965018
"""
PRESSURE = """\
some avg10=57.99 avg60=56.08 avg300=38.16 total=186827630
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
"""
V1 = "nr_periods 200\nnr_throttled 41\nthrottled_time 2500000000\n"
V2 = "usage_usec 1500000\nuser_usec 1\nnr_periods 10\nnr_throttled 4\nthrottled_usec 30000\n"


def test_times_of_all_cores() -> None:
    found = processor.times(STAT)
    assert found == Times(busy=734.13, interrupts=1.53, idle=266.83, stolen=0.7)
    assert found.all == pytest.approx(1003.19)
    with pytest.raises(ValueError, match="no line"):
        processor.times("intr 1\n")


def test_old_kernels_tell_less() -> None:
    assert processor.times("cpu  100 0 100 100\n") == Times(2.0, 0.0, 1.0, 0.0)


def test_pressure_is_that_of_some_program() -> None:
    assert processor.waiting_seconds(PRESSURE) == pytest.approx(186.82763)
    assert processor.waiting_seconds("") is None


def test_throttling_of_both_versions() -> None:
    assert processor.throttling(V1) == Throttling(200, 41, 2.5)
    assert processor.throttling(V2) == Throttling(10, 4, 0.03)
    assert processor.throttling("usage_usec 3\n") == Throttling()
    assert processor.usage(V2) == 1.5


def test_load_and_ready_threads() -> None:
    assert processor.load("3.33 2.46 1.16 5/135 24469\n") == (3.33, 5)
    with pytest.raises(ValueError, match="no load"):
        processor.load("")


def test_a_process_may_have_any_name() -> None:
    fields = " ".join(str(number) for number in range(4, 30))
    assert processor.process_seconds(f"7 (a) b) (c) S {fields}") == (14 + 15) / processor.TICKS


def test_a_consumer_counts_once_in_all_hierarchies(tmp_path: Path) -> None:
    accounting, limits, second = (tmp_path / name for name in ("cpuacct", "cpu", "unified"))
    for folder in (accounting, limits, second):
        folder.mkdir()
    (accounting / "cpuacct.usage").write_text("1600000000\n")
    (limits / "cpu.stat").write_text(V1)
    (second / "cpu.stat").write_text("usage_usec 1500000\n")
    consumer = Consumer((accounting, limits, second, tmp_path / "gone"))
    assert consumer.used() == 1.6
    assert consumer.throttling() == Throttling(200, 41, 2.5)
    assert Consumer().used() == 0.0


# -- stalls --------------------------------------------------------------------------------------

MOMENTS = st.integers(min_value=0, max_value=60)


@given(
    spans=st.lists(st.tuples(MOMENTS, MOMENTS).map(lambda pair: tuple(sorted(pair))), max_size=8),
    stalls=st.lists(st.tuples(MOMENTS, MOMENTS).map(lambda pair: tuple(sorted(pair))), max_size=8),
)
def test_overlaps_are_those_counted_one_by_one(
    spans: list[tuple[int, int]], stalls: list[tuple[int, int]]
) -> None:
    begin = np.array([span[0] for span in spans], dtype=np.int64) * 1_000_000
    end = np.array([span[1] for span in spans], dtype=np.int64) * 1_000_000
    found = host_share.overlap_ms(
        begin, end, [(first * 1_000_000, last * 1_000_000) for first, last in stalls]
    )
    stalled = {each for first, last in stalls for each in range(first, last)}
    assert found.tolist() == [len(stalled & set(range(*span))) for span in spans]


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "run": "r",
            "repetition": 1,
            "warmup": number == 0,
            "endpoint": "endpoint-1",
            "worker": "w",
            "sequence": number,
            "status": "ok",
            "intended_ns": 10**9 + number * 10**8,
            "answered_ns": 10**9 + number * 10**8 + 5 * 10**7,
            **more,
        }
        for number in range(count)
    ]


SHARE = HostShare(
    host="",
    began_ns=10**9,
    ended_ns=11 * 10**9,
    cores=2,
    lateness=Lateness(stalls=[(10**9 + 120_000_000, 10**9 + 130_000_000, 1)], wakes=20_000),
    busy_percent=30.0,
    foreign_percent=2.0,
    steal_percent=0.5,
    saturated_percent=0.0,
    crowded_percent=0.0,
    pressure_percent=5.0,
    load_before=0.4,
    ready_before=1,
    governor=None,
    clock_step_ms=0.0,
    throttling={"edge-1": Throttling(500, 20, 0.2)},
)


def test_samples_are_marked_with_what_a_stall_overlaps() -> None:
    made = samples.table(rows(3))
    marked = host_share.mark(made, [Shared(1, SHARE)], {})
    assert marked["host_stall_ms"].to_pylist() == [0.0, 10.0, 0.0]
    calm, stalled = host_share.without_stalls(marked)
    assert calm is not None
    assert calm["sequence"].to_pylist() == [0, 2]
    assert stalled == 1


def test_what_is_not_known_is_null_and_counts_as_calm() -> None:
    unwatched = host_share.mark(samples.table(rows(2)), [], {})
    assert unwatched["host_stall_ms"].to_pylist() == [None, None]
    lost = samples.table(rows(2, status="lost", answered_ns=None))
    assert host_share.mark(lost, [Shared(1, SHARE)], {})["host_stall_ms"].null_count == 2
    no_sentinel = [Shared(1, replace(SHARE, lateness=None))]
    assert host_share.mark(samples.table(rows(2)), no_sentinel, {})["host_stall_ms"].null_count == 2
    assert host_share.without_stalls(unwatched) == (None, 0)


def test_stalls_of_hosts_are_compared_by_the_endpoint_s_clock() -> None:
    ahead = 3_000_000_000
    other = replace(SHARE, host="b", offset_ns=ahead)
    other = replace(
        other,
        lateness=Lateness(stalls=[(10**9 + 20_000_000 + ahead, 10**9 + ahead + 30_000_000, 0)]),
    )
    shared = [Shared(1, SHARE), Shared(1, other)]
    here = host_share.mark(samples.table(rows(2)), shared, {"endpoint-1": ""})
    assert here["host_stall_ms"].to_pylist() == [10.0, 10.0]
    moved = [
        {
            **row,
            "intended_ns": row["intended_ns"] + ahead,
            "answered_ns": row["answered_ns"] + ahead,
        }
        for row in rows(2)
    ]
    there = host_share.mark(samples.table(moved), shared, {"endpoint-1": "b"})
    assert there["host_stall_ms"].to_pylist() == [10.0, 10.0]


def test_an_own_column_of_that_name_is_refused() -> None:
    with pytest.raises(Exception, match="host_stall_ms"):
        samples.table(rows(1), pa.schema([pa.field("host_stall_ms", pa.float64())]))


def test_many_samples_and_many_stalls_are_quick() -> None:
    rng = np.random.default_rng(1)
    begin = np.sort(rng.integers(0, 10**12, 480_000))
    stalls = [(int(at), int(at) + 10**6) for at in rng.integers(0, 10**12, 100_000)]
    began = time.process_time()
    found = host_share.overlap_ms(begin, begin + 10**8, stalls)
    # Far below what a loop in Python over them all would take.
    assert time.process_time() - began < 5
    assert found.mean() == pytest.approx(9.5, abs=0.5)


def test_many_endpoints_and_repetitions_are_marked_quickly() -> None:
    count = 480_000
    numbers = np.arange(count)
    at = numbers * 10**7
    table = pa.table(
        {
            "repetition": pa.array(1 + numbers % 10, pa.int32()),
            "endpoint": pa.array([f"endpoint-{number}" for number in range(100)] * (count // 100)),
            "intended_ns": at,
            "answered_ns": at + 10**7,
        }
    )
    stalls = [(int(begin), int(begin) + 10**6, 0) for begin in at[::8]]
    shared = [
        Shared(each, replace(SHARE, lateness=Lateness(stalls=stalls))) for each in range(1, 11)
    ]
    began = time.process_time()
    marked = host_share.mark(table, shared, {})
    assert time.process_time() - began < 10
    assert marked["host_stall_ms"].to_numpy().sum() == pytest.approx(count / 8)


def test_stalls_survive_being_written_down(tmp_path: Path) -> None:
    path = tmp_path / "stalls.parquet"
    samples.write_stalls(path, host_share.stall_rows([Shared(0, SHARE)]))
    (row,) = samples.read_stalls(path).to_pylist()
    assert row == {
        "host": "",
        "repetition": 0,
        "core": 1,
        "begin_ns": 1_120_000_000,
        "end_ns": 1_130_000_000,
    }


# -- what degrades a run -------------------------------------------------------------------------


def found(**changes: Any) -> list[tuple[str, str]]:
    record = host_share.record(Shared(2, replace(SHARE, **changes)))
    return [(each.code, each.sentence) for each in host_share.reasons([record])]


def test_a_record_holds_sums() -> None:
    record = host_share.record(Shared(1, SHARE))
    assert (record.stalls, record.stalled_ms, record.longest_ms) == (1, 10.0, 10.0)
    assert record.stalled_percent == 0.05
    assert record.throttling[0].ms == 200.0
    assert host_share.record(Shared(1, replace(SHARE, lateness=None))).stalls is None


def test_a_little_steal_is_no_reason() -> None:
    stalls = [(10**9 + at, 10**9 + at + 10**7, 0) for at in range(0, 10**10, 2 * 10**8)]
    both = stalls + [(begin + 10**8, end + 10**8, 1) for begin, end, _ in stalls]
    assert found(steal_percent=5.0, lateness=Lateness(stalls=both, wakes=1)) == []


def test_others_that_take_the_host_are_told() -> None:
    ((code, sentence),) = found(foreign_percent=61.0, saturated_percent=100.0, crowded_percent=95.0)
    assert code == Code.HOST_BUSY
    assert "other programs had 61 %" in sentence
    assert "repetition 2" in sentence


def test_a_host_that_is_kept_from_us_is_told() -> None:
    ((code, sentence),) = found(steal_percent=22.0)
    assert (code, "kept 22 %" in sentence) == (Code.HOST_BUSY, True)
    pause = Lateness(stalls=[(2 * 10**9, 5 * 10**9, core) for core in (0, 1)], wakes=1)
    ((code, sentence),) = found(lateness=pause)
    assert (code, "stood still for 30 %" in sentence) == (Code.HOST_BUSY, True)


def test_machines_that_want_more_than_the_host_has_are_told_but_where_that_is_the_point() -> None:
    ((code, sentence),) = found(saturated_percent=80.0)
    assert (code, "wait for each other" in sentence) == (Code.HOST_BUSY, True)
    record = host_share.record(Shared(1, replace(SHARE, saturated_percent=80.0)))
    assert list(host_share.reasons([record], may_saturate=True)) == []


def test_a_clock_that_is_set_is_told() -> None:
    ((code, sentence),) = found(clock_step_ms=-4.2)
    assert (code, "-4.2 ms" in sentence) == (Code.CLOCK, True)


def test_the_link_check_judges_itself() -> None:
    record = host_share.record(Shared(host_share.LINK_CHECK, replace(SHARE, steal_percent=40.0)))
    assert list(host_share.reasons([record])) == []


# -- watching ------------------------------------------------------------------------------------


def test_lateness_adds_up_over_answers() -> None:
    answer = (
        b'{"stalls": [[1, 2000002, 0]], "stalls_left_out": 1, "wakes": 100, "period_ns": 1000000,'
        b' "real_time": true, "latest_ns": 2000001, "lateness": [[100, 99], [%d, 1]]}'
        % sentinel.bucket(2_000_001)
    )
    seen = Lateness().add(answer).add(answer)
    assert (seen.wakes, seen.left_out, len(seen.stalls)) == (200, 2, 2)
    assert seen.percentile(50) == pytest.approx(sentinel.begin_of(100) / 1e6, rel=0.13)
    assert seen.percentile(100) == pytest.approx(2.0, rel=0.13)
    assert Lateness().percentile(50) is None


@given(st.integers(min_value=0, max_value=2**40))
def test_buckets_hold_their_values(nanoseconds: int) -> None:
    number = sentinel.bucket(nanoseconds)
    assert sentinel.begin_of(number) <= nanoseconds < sentinel.begin_of(number + 1)


class Watch:
    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.asked = 0
        self.ended = False

    def begin(self) -> None:
        if self.fails:
            raise CommandFailed("gone")

    def stalls(self) -> list[tuple[int, int, int]]:
        self.asked += 1
        return [(1, 2, 0)] * self.asked

    def end(self) -> HostShare:
        self.ended = True
        return SHARE


def test_a_host_that_cannot_be_watched_stops_nothing() -> None:
    notes: list[str] = []
    with share.watched([Watch(fails=True), Watch()], notes.append) as shares:
        assert shares == []
    assert shares == [SHARE]
    assert notes == ["a host's own share is not known: gone"]


def test_watches_end_with_what_is_interrupted() -> None:
    watch = Watch()
    with pytest.raises(KeyboardInterrupt), share.watched([watch], print):
        raise KeyboardInterrupt
    assert watch.ended


def test_stalls_are_asked_for_when_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    stalls = StallsSoFar([watch])
    assert len(stalls) == 1
    assert sorted(stalls) == [(1, 2)]
    assert watch.asked == 1
    monkeypatch.setattr(share, "_FRESH", -1.0)
    assert len(stalls) == 2
    assert stalls[0] == (1, 2)


def test_this_host_can_be_watched() -> None:
    watch = share.ThisHost({"edge-1": Consumer()})
    watch.begin()
    time.sleep(0.05)
    assert watch.stalls() == [] or watch.stalls()
    seen = watch.end()
    assert seen.lateness is not None
    assert seen.lateness.wakes > 0
    assert 0 <= seen.busy_percent <= 100
    assert abs(seen.clock_step_ms) < 1
    assert seen.throttling == {"edge-1": Throttling()}
    assert share.from_json(share.to_json(seen), 7) == replace(seen, offset_ns=7)


def test_without_a_compiler_python_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "program", lambda _: None)
    watch = share.ThisHost({})
    watch.begin()
    time.sleep(0.2)
    seen = watch.end()
    assert seen.lateness is not None
    assert seen.lateness.wakes > 0
    assert seen.foreign_percent is None


def test_a_sentinel_that_cannot_start_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "program", lambda _: Path("/nowhere/sentinel"))
    watch = share.ThisHost({})
    watch.begin()
    assert watch.end().lateness is None


@pytest.mark.parametrize("kind", ["native", "python"])
def test_a_sentinel_ends_with_its_input(kind: str) -> None:
    program = native.program("sentinel")
    if kind == "native" and program is None:
        pytest.skip("no compiler")
    arguments = (
        [str(program)] if kind == "native" else [sys.executable, "-m", "continuum_runtime.sentinel"]
    )
    process = subprocess.Popen(
        [*arguments, "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    assert Lateness().add(answer).left_out == 0
    process.stdin.close()
    assert process.wait(10) == 0
    process.stdout.close()


def test_only_the_experiment_s_machines_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter([0.0, 5.0, 10.0, 10.0])
    monkeypatch.setattr(Consumer, "used", lambda _: next(used))
    monkeypatch.setattr(share, "SETTLING_SLICE", 0.0)
    told: list[str] = []
    assert share.await_settled({"edge-1": Consumer()}, told.append) is None
    assert len(told) == 2
    assert share.await_settled({}, told.append) is None


def test_machines_that_never_settle_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Consumer, "used", lambda _: 1e6 * time.monotonic())
    monkeypatch.setattr(share, "SETTLING_LIMIT", 0.0)
    still = share.await_settled({"edge-1": Consumer()}, print)
    assert still is not None
    assert still > share.SETTLED


def test_commands_that_are_stopped_end_a_watch() -> None:
    watch = share.ThisHost({})
    watch.begin()
    with commands_stopped():
        seen = watch.end()
    assert seen.busy_percent >= 0
