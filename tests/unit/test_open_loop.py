from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from continuum_runtime.open_loop import (
    NotStarted,
    SampleFile,
    Schedule,
    announce_ready,
    await_start,
    clear,
    read_offsets,
    write_file,
)

START = 1_700_000_000_000_000_001


@dataclass
class FakeClock:
    """Time passes when somebody sleeps, and `work` seconds between two looks at a request."""

    now: int = START - 10**9

    def time_ns(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += max(1, round(seconds * 1e9))


def test_requests_are_due_at_whole_multiples_of_the_interval_without_drift() -> None:
    schedule = Schedule(START, frequency=3, warmup=1, requests=10**9, answer_timeout=1)
    assert [schedule.due_ns(index) - START for index in range(4)] == [
        0,
        333_333_333,
        666_666_667,
        1_000_000_000,
    ]
    assert schedule.due_ns(3 * 10**8) - START == 10**17


def test_less_than_one_request_a_second() -> None:
    schedule = Schedule(START, frequency=0.4, warmup=0, requests=3, answer_timeout=2)
    assert [schedule.due_ns(index) - START for index in range(3)] == [0, 2.5e9, 5e9]
    assert schedule.end_ns - START == 7e9


def test_requests_may_be_due_at_any_times(tmp_path: Path) -> None:
    (tmp_path / "arrivals.txt").write_text("5\n1000000000\n1000000000\n2500000000\n")
    offsets = read_offsets(str(tmp_path / "arrivals.txt"))
    schedule = Schedule(START, 5, warmup=1, requests=3, answer_timeout=2, offsets_ns=offsets)
    assert [schedule.due_ns(index) - START for index in range(4)] == [5, 10**9, 10**9, 2.5e9]
    assert schedule.end_ns - START == 4.5e9
    clock = FakeClock()
    assert [due - START for _, due in schedule.arrivals(clock)] == [5, 10**9, 10**9, 2.5e9]
    assert read_offsets("") is None


def test_a_schedule_without_requests_ends_at_once() -> None:
    schedule = Schedule(START, 5, warmup=0, requests=0, answer_timeout=2, offsets_ns=())
    assert list(schedule.arrivals(FakeClock())) == []
    assert schedule.end_ns - START == 2e9


def test_arrivals_come_at_their_time() -> None:
    clock = FakeClock()
    schedule = Schedule(START, frequency=5, warmup=2, requests=3, answer_timeout=1)
    seen = []
    for sequence, due in schedule.arrivals(clock):
        seen.append((sequence, due, clock.now))
    assert [each[0] for each in seen] == [0, 1, 2, 3, 4]
    assert all(due == schedule.due_ns(sequence) for sequence, due, _ in seen)
    assert all(0 <= now - due < 1000 for _, due, now in seen)


def test_late_arrivals_come_at_once_and_none_is_left_out() -> None:
    clock = FakeClock()
    schedule = Schedule(START, frequency=10, warmup=0, requests=10, answer_timeout=5)
    moments = []
    for sequence, due in schedule.arrivals(clock):
        moments.append(clock.now - due)
        if sequence == 2:
            clock.now += 350_000_000  # preparing took long once
    assert [late // 10**6 for late in moments] == [0, 0, 0, 250, 150, 50, 0, 0, 0, 0]


def test_what_cannot_be_answered_in_time_is_not_sent() -> None:
    clock = FakeClock()
    schedule = Schedule(START, frequency=10, warmup=0, requests=100, answer_timeout=0.5)
    sent = []
    for sequence, _ in schedule.arrivals(clock):
        sent.append(sequence)
        clock.now += 10**9  # one second for each
    assert sent == list(range(11))
    assert clock.now > schedule.end_ns


def test_ready_is_a_file(tmp_path: Path) -> None:
    announce_ready(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]


def test_files_of_an_earlier_process_are_forgotten(tmp_path: Path) -> None:
    for name in ("ready", "start", "config.json"):
        (tmp_path / name).write_text("1")
    clear(tmp_path)
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_start_is_awaited(tmp_path: Path) -> None:
    timer = threading.Timer(0.05, write_file, (tmp_path / "start", f"{START}\n"))
    timer.start()
    assert await_start(tmp_path, 10) == START
    timer.join()


def test_a_start_that_is_not_written_yet_is_awaited_further(tmp_path: Path) -> None:
    (tmp_path / "start").touch()
    timer = threading.Timer(0.05, write_file, (tmp_path / "start", str(START)))
    timer.start()
    assert await_start(tmp_path, 10) == START
    timer.join()


def test_a_start_that_never_comes(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="start did not come"):
        await_start(tmp_path, 0.02)


def test_samples_are_in_the_file_at_once(tmp_path: Path) -> None:
    samples = SampleFile(tmp_path)
    for number in range(3):
        samples.write({"sequence": number, "result": "a\nb"})
        lines = (tmp_path / "samples.jsonl").read_text().splitlines()
        assert [json.loads(line)["sequence"] for line in lines] == list(range(number + 1))
    samples.close()
