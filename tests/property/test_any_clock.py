"""The bound of a clock reading holds, whatever the delays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from continuum.benchmark.results import ClockReading
from continuum.infrastructure.clocks import Exchange, best, offset
from continuum.report.clocks import between

DELAYS = st.integers(0, 10**10)
OFFSETS = st.integers(-(10**15), 10**15)


def exchange(asked: int, ahead: int, there: int, at_work: int, back: int) -> Exchange:
    """What is noted of an exchange with a clock that is ahead, in ns."""
    received = asked + there
    answered = received + at_work
    return Exchange(asked, received + ahead, answered + ahead, answered + back)


@given(OFFSETS, st.lists(st.tuples(DELAYS, DELAYS, DELAYS), min_size=1, max_size=20))
def test_the_true_offset_is_within_the_bound(
    ahead: int, delays: list[tuple[int, int, int]]
) -> None:
    exchanges = [
        exchange(10**18 + number * 10**11, ahead, *each) for number, each in enumerate(delays)
    ]
    chosen = best(exchanges)
    assert chosen is not None
    middle, bound = offset(chosen)
    assert abs(middle - ahead) <= bound
    assert bound <= min(there + back + 1 for there, _, back in delays)


@given(st.lists(st.tuples(OFFSETS, OFFSETS, DELAYS, DELAYS), min_size=2, max_size=6))
def test_the_true_difference_is_within_the_error_at_every_moment(
    moments: list[tuple[int, int, int, int]],
) -> None:
    readings = []
    for place, (first, second, there, back) in enumerate(moments):
        for machine, ahead in (("edge-1", first), ("endpoint-1", second)):
            middle, bound = offset(exchange(0, ahead, there, 5, back))
            readings.append(
                ClockReading(
                    machine=machine,
                    repetition=place // 2 + 1,
                    when="after" if place % 2 else "before",
                    at_ns=0,
                    offset_ns=middle,
                    bound_ns=bound,
                )
            )
    error = between(readings, "edge-1", "endpoint-1")
    for first, second, _, _ in moments:
        assert error.low <= (second - first) / 1e6 <= error.high
