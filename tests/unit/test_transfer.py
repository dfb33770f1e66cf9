"""How long messages take over links."""

from __future__ import annotations

import ipaddress
import math
from typing import Any

import numpy as np
import pytest

from continuum.benchmark.transfer import HEADERS, SEGMENT, Hop, Way, arrivals, emulated, way_over
from continuum.infrastructure.plan import Link, LinkSettings
from continuum_runtime import jitter

CLOUD_4G = LinkSettings(45, 5, 0, 7.21)
EDGE_4G = LinkSettings(7.5, 2.5, 0, 7.21)


def transfer(size: int, *links: LinkSettings, number: int = 1, every: float = 1000.0) -> Any:
    """What messages take, of which none finds another under way."""
    sent = np.arange(number, dtype=np.float64) * every
    hops = tuple(Hop(link, "10.0.0.1", str(place)) for place, link in enumerate(links))
    rng = np.random.default_rng(1)
    way = np.zeros(number, dtype=np.int64)
    return arrivals(sent, np.full(number, size), [hops], way, rng) - sent


def test_without_jitter_it_is_delay_and_frames_at_the_rate() -> None:
    link = LinkSettings(delay_ms=10, rate_mbit=8)
    one, two = transfer(SEGMENT, link), transfer(SEGMENT + 1, link)
    assert one[0] == pytest.approx(10 + (SEGMENT + HEADERS) / 1000)
    # One byte more makes a second frame, with headers of its own.
    assert two[0] - one[0] == pytest.approx((1 + HEADERS) / 1000)


def test_68_kilobytes_over_4g_take_about_124_ms_and_not_120() -> None:
    plain = 45 + 67_971 * 8 / 7210
    assert plain == pytest.approx(120.4, abs=0.1)
    assert transfer(68_001, CLOUD_4G, number=4000).mean() == pytest.approx(123.9, abs=0.2)
    assert transfer(68_001, EDGE_4G, number=4000).mean() == pytest.approx(86.4, abs=0.2)


@pytest.mark.parametrize("every", [1000.0, 10.0, 0.1])
@pytest.mark.parametrize("link", [LinkSettings(45, 5), LinkSettings(1, 1), LinkSettings(2, 3)])
def test_mean_and_deviation_of_the_delay_are_those_asked_for_however_many_are_sent(
    link: LinkSettings, every: float
) -> None:
    taken = transfer(40, link, number=400_000, every=every)
    assert taken.min() >= 0
    # Of so many slots each is a draw of its own.
    slots = 400_000 * min(1.0, every / (2 * math.pi * link.jitter_ms))
    off = 4 / math.sqrt(slots)
    assert taken.mean() == pytest.approx(link.delay_ms, abs=2 * off * link.jitter_ms)
    assert taken.std() == pytest.approx(link.jitter_ms, rel=2 * off)


def test_messages_shortly_after_another_wait_alike_and_later_ones_do_not() -> None:
    def correlation(every: float) -> float:
        taken = transfer(40, CLOUD_4G, number=20_000, every=every)
        return float(np.corrcoef(taken[:-1], taken[1:])[0, 1])

    slot = 2 * math.pi * 5
    assert correlation(slot / 100) > 0.98
    assert abs(correlation(2 * slot)) < 0.03


def test_the_process_is_that_of_the_emulator() -> None:
    """The correlation at half a slot's distance, as drawn by the emulator's own numbers."""
    process = jitter.process(45e6, 5e6)
    at = [round(each * process.slot / 2) for each in range(20_000)]
    theirs = np.array([jitter.delay(process, 77, each) for each in at]) / 1e6
    ours = transfer(1, LinkSettings(45, 5), number=20_000, every=process.slot / 2e6)
    for drawn in (theirs, ours):
        assert np.corrcoef(drawn[:-1], drawn[1:])[0, 1] == pytest.approx(1 / math.sqrt(2), abs=0.03)


def test_a_link_without_properties_takes_no_time() -> None:
    assert transfer(10**9, LinkSettings(), number=3).tolist() == [0, 0, 0]
    assert transfer(10**9, number=3).tolist() == [0, 0, 0]
    assert not emulated(Way().forward)
    assert emulated([Hop(LinkSettings(rate_mbit=1))])


def test_an_empty_message_is_still_a_frame() -> None:
    assert transfer(0, LinkSettings(rate_mbit=8))[0] == pytest.approx((1 + HEADERS) / 1000)
    assert transfer(0, CLOUD_4G, number=0).size == 0


def test_messages_that_find_the_link_busy_wait_for_it() -> None:
    link = LinkSettings(delay_ms=10, rate_mbit=8)
    frame = (SEGMENT + HEADERS) / 1000
    taken = transfer(SEGMENT, link, number=3, every=frame / 2)
    assert taken == pytest.approx([10 + frame, 10 + 1.5 * frame, 10 + 2 * frame])


def test_what_one_machine_sends_shares_a_rate_and_what_others_send_does_not() -> None:
    link = LinkSettings(rate_mbit=8)
    frame = (SEGMENT + HEADERS) / 1000
    sent, sizes, rng = np.zeros(2), np.full(2, SEGMENT), np.random.default_rng(1)
    way = np.arange(2)
    for second, expected in (
        (Hop(link, "10.0.0.1", "edge → cloud"), 2 * frame),
        (Hop(link, "10.0.0.2", "edge → cloud"), frame),
        (Hop(link, "10.0.0.1", "edge → endpoint"), frame),
    ):
        ways = [(Hop(link, "10.0.0.1", "edge → cloud"),), (second,)]
        assert arrivals(sent, sizes, ways, way, rng).max() == pytest.approx(expected)


def test_they_leave_in_the_order_in_which_they_were_sent_whatever_theirs_in_the_table() -> None:
    link = Hop(LinkSettings(rate_mbit=8), "10.0.0.1")
    sent, sizes = np.array([5.0, 0.0]), np.full(2, 10 * SEGMENT)
    way = np.zeros(2, dtype=np.int64)
    first, second = arrivals(sent, sizes, [(link,)], way, np.random.default_rng(1))
    assert second == pytest.approx(15.14)
    assert first == pytest.approx(2 * 15.14)


def test_over_a_gateway_the_slowest_link_takes_the_message_and_others_one_frame() -> None:
    slow, quick = LinkSettings(10, rate_mbit=8), LinkSettings(5, rate_mbit=80)
    whole = (10 * SEGMENT + 10 * HEADERS) / 1000
    frame = (SEGMENT + HEADERS) / 1000
    for links in ((slow, quick), (quick, slow)):
        assert transfer(10 * SEGMENT, *links)[0] == pytest.approx(10 + whole + 5 + frame / 10)
    assert transfer(10 * SEGMENT, slow, slow)[0] == pytest.approx(2 * 10 + whole + frame)


def test_the_first_link_that_fits_counts() -> None:
    def block(text: str) -> tuple[ipaddress.IPv4Network, ...]:
        return (ipaddress.IPv4Network(text),)

    links = [
        Link("edge-1", "endpoint", block("10.0.1.1/32"), block("10.0.2.0/24"), EDGE_4G),
        Link("edge", "endpoint", block("10.0.1.0/24"), block("10.0.2.0/24"), CLOUD_4G),
    ]
    one, other = way_over(links, "10.0.2.9", "10.0.1.1"), way_over(links, "10.0.2.9", "10.0.1.2")
    assert one == Way((Hop(),), (Hop(EDGE_4G, "10.0.1.1", "edge-1 → endpoint"),))
    assert other == Way((Hop(),), (Hop(CLOUD_4G, "10.0.1.2", "edge → endpoint"),))
    assert way_over(links, "10.0.1.1", "10.0.1.1") == Way((Hop(),), (Hop(),))


def test_the_way_over_a_gateway_is_crossed_back_in_the_other_order() -> None:
    def link(start: str, end: str, delay: float) -> Link:
        source, destination = (ipaddress.IPv4Network(f"{each}/32") for each in (start, end))
        return Link(start, end, (source,), (destination,), LinkSettings(delay))

    endpoint, gateway, worker = "10.0.2.1", "10.0.0.1", "10.0.0.2"
    links = [
        link(endpoint, gateway, 1),
        link(gateway, worker, 2),
        link(worker, gateway, 3),
        link(gateway, endpoint, 4),
    ]
    way = way_over(links, endpoint, gateway, worker)
    assert [each.link.delay_ms for each in way.forward] == [1, 2]
    assert [each.link.delay_ms for each in way.back] == [3, 4]
    assert [each.sender for each in way.back] == [worker, gateway]
