"""Figures of a run under way, from sample lines as endpoints write them."""

from __future__ import annotations

import json

import pytest

from continuum.experiment.arrivals import poisson_ns
from continuum.watch.figures import Look, Meter, Tally, Watched, percentiles
from watched_runs import SECOND, START, stream


def lines(numbers: range, latency_ms: float = 50, **more: object) -> bytes:
    """Answered requests of a stream, due every 100 ms."""
    return b"".join(
        json.dumps(
            {
                "sequence": number,
                "intended_ns": START + number * SECOND // 10,
                "answered_ns": START + number * SECOND // 10 + int(latency_ms * 1e6),
                **more,
            }
        ).encode()
        + b"\n"
        for number in numbers
    )


def watched(content: bytes, into: float, /, **changes: object) -> Watched:
    found = Watched()
    found.read(found.tally(stream(**changes)), content, START + int(into * SECOND))
    return found


def test_nothing_is_known_before_the_first_look() -> None:
    found = Watched()
    assert found.requests(1) is None
    found.tally(stream())
    assert found.requests(1) is None
    assert found.timeline() == ()


def test_the_warm_up_counts_apart() -> None:
    told = watched(lines(range(30)), 3).requests(2)
    assert told is not None
    assert (told.warmup, told.answered, told.expected) == (10, 20, 200)


def test_what_was_due_and_has_no_sample_yet_waits() -> None:
    told = watched(lines(range(28)), 3).requests(1)
    assert told is not None
    assert (told.waiting, told.lost) == (2, 0)


def test_who_waits_for_longer_than_an_answer_may_take_is_lost_already() -> None:
    # No request of the first two seconds was answered, half of them warm-up; the endpoint tells at
    # its end.
    told = watched(lines(range(20, 80)), 8.0).requests(1)
    assert told is not None
    assert (told.waiting, told.lost) == (0, 10)


def test_overdue_requests_of_the_warm_up_are_neither_lost_nor_do_they_wait() -> None:
    slow: dict[str, object] = {"warmup": 30, "frequency": 1.0, "answer_timeout": 2.0}
    told = watched(b"", 20, **slow).requests(1)
    assert told is not None
    assert (told.waiting, told.lost) == (2, 0)
    # Ten of the load have been due for longer than an answer may take.
    told = watched(b"", 42, **slow).requests(1)
    assert told is not None
    assert (told.waiting, told.lost) == (2, 10)


def test_after_an_interruption_nothing_more_is_lost_and_nothing_waits() -> None:
    told = watched(lines(range(30)), 60).requests(1, interrupted=True)
    assert told is not None
    assert (told.answered, told.lost, told.waiting) == (20, 0, None)


def test_an_answered_warm_up_hides_no_lost_request() -> None:
    told = watched(lines(range(10)), 8.0).requests(1)
    assert told is not None
    assert (told.waiting, told.lost) == (40, 30)


def test_a_second_look_adds_to_the_first() -> None:
    found = watched(lines(range(20)), 2)
    tally = found.tally(stream())
    found.read(tally, lines(range(20, 40)), START + 4 * SECOND)
    told = found.requests(1)
    assert told is not None
    assert (told.answered, told.waiting) == (30, 0)


def test_every_ending_is_counted() -> None:
    content = (
        lines(range(10, 20))
        + lines(range(20, 22), status="timeout")
        + lines(range(22, 25), status="error")
        + lines(range(25, 26), status="lost", answered_ns=None)
    )
    told = watched(content, 2.6, warmup=0).requests(1)
    assert told is not None
    assert (told.answered, told.timeout, told.error, told.lost) == (10, 2, 3, 1)


def test_poisson_requests_are_due_when_they_were_drawn() -> None:
    offsets = poisson_ns(10.0, 11.0, 5)
    first = sum(offset < SECOND for offset in offsets)
    drawn = {
        "arrivals": "poisson",
        "seed": 5,
        "warmup_seconds": 1.0,
        "seconds": 10.0,
        "warmup": first,
        "requests": len(offsets) - first,
    }
    content = b"".join(
        json.dumps(
            {
                "sequence": number,
                "intended_ns": START + offset,
                "answered_ns": START + offset + 50_000_000,
            }
        ).encode()
        + b"\n"
        for number, offset in enumerate(offsets[:40])
    )
    into = offsets[44] / SECOND  # Four more are due, and none of them for long.
    told = watched(content, into, **drawn).requests(3, planned=311)
    assert told is not None
    assert (told.warmup, told.answered, told.waiting) == (first, 40 - first, 4)
    assert told.expected == 311
    late = watched(content, 60, **drawn).requests(1)
    assert late is not None
    assert (late.waiting, late.lost, late.expected) == (0, len(offsets) - 40, len(offsets) - first)


def test_what_is_answered_too_late_is_late_while_it_is_watched_too() -> None:
    told = watched(lines(range(30), latency_ms=3001), 8).requests(1)
    assert told is not None
    assert (told.answered, told.timeout) == (0, 20)


def test_latency_counts_from_the_intended_time() -> None:
    told = watched(lines(range(100), latency_ms=80), 10).requests(1)
    assert told is not None
    assert told.median_ms == pytest.approx(80)
    assert told.p95_ms == pytest.approx(80)
    assert told.per_second == pytest.approx(10, abs=0.5)


def test_percentiles_are_those_of_the_reports_table() -> None:
    assert percentiles([float(number) for number in range(1, 101)]) == (50.5, 95.05)


def test_the_timeline_has_whole_buckets_in_their_order() -> None:
    points = watched(lines(range(60)), 6.5).timeline()
    assert [point.at * SECOND - START for point in points] == [2 * SECOND, 4 * SECOND, 6 * SECOND]
    assert all(point.per_second == pytest.approx(10, abs=1) for point in points)
    assert [point.median_ms for point in points] == [pytest.approx(50)] * 3


def test_a_gap_is_a_gap() -> None:
    content = lines(range(20)) + lines(range(60, 80))
    points = watched(content, 8.2).timeline()
    assert [point.median_ms is None for point in points] == [False, True, True, False]


def test_where_the_load_has_ended_the_drawing_stays() -> None:
    found = watched(lines(range(110)), 11.5)
    before = found.timeline()
    found.read(found.tally(stream()), b"", START + 600 * SECOND)
    assert found.timeline() == before
    told = found.requests(1)
    assert told is not None
    assert (told.waiting, told.lost, told.answered) == (0, 0, 100)


def test_a_program_that_makes_as_many_requests_as_it_likes_has_none_that_wait() -> None:
    told = watched(lines(range(5)), 5, counted=False).requests(1)
    assert told is not None
    assert (told.waiting, told.expected, told.lost) == (None, None, 0)


def test_old_buckets_are_dropped() -> None:
    found = watched(lines(range(20)), 2, requests=10_000)
    found.read(found.tally(stream(requests=10_000)), lines(range(9000, 9010)), START + 901 * SECOND)
    assert len(found.timeline()) <= 90
    assert len(found.buckets) <= 3


def test_lines_that_are_none_are_passed_over() -> None:
    told = watched(b"nonsense\n{}\n" + lines(range(10, 12)), 1.2).requests(1)
    assert told is not None
    assert told.answered == 2


def test_samples_without_times_are_counted_all_the_same() -> None:
    content = b'{"sequence": 10, "status": "error"}\n'
    told = watched(content, 1).requests(1)
    assert told is not None
    assert told.error == 1


def test_due_requests_begin_at_the_start_and_end_with_the_last() -> None:
    tally = Tally(stream())
    assert tally.due(START - SECOND) == 0
    assert tally.due(START + SECOND // 20) == 1
    assert tally.due(START + 3600 * SECOND) == 110


def test_cores_are_the_difference_of_two_looks() -> None:
    meter = Meter()
    meter.read(Look(START, 5 * SECOND, 100))
    assert meter.usage().cores is None
    meter.read(Look(START + 2 * SECOND, 6 * SECOND, 200))
    assert meter.usage().cores == pytest.approx(0.5)
    assert meter.usage().memory == 200
    assert meter.usage().history == (0.5,)


def test_a_look_that_follows_at_once_and_a_machine_that_started_again_say_nothing() -> None:
    meter = Meter()
    meter.read(Look(START, 5 * SECOND, 100))
    meter.read(Look(START + 1000, 6 * SECOND, 100))
    assert meter.usage().history == ()
    meter.read(Look(START + 2 * SECOND, 0, 100))
    assert meter.usage().history == ()
    meter.read(Look(START + 4 * SECOND, SECOND, 100))
    assert meter.usage().history == (0.5,)
