"""What the declared links let expect."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np
import pytest

from continuum.benchmark import samples
from continuum.benchmark.contract import Transport
from continuum.benchmark.expectation import (
    HEADERS,
    SEGMENT,
    Way,
    expect,
    simulate_transfer,
    simulate_way,
    way_over,
)
from continuum.benchmark.results import Expectation
from continuum.infrastructure.plan import Link, LinkSettings
from continuum.testing.synthetic import Behaviour, MadeUpLoad, synthetic_samples

CLOUD_4G = LinkSettings(45, 5, 0, 7.21)
EDGE_4G = LinkSettings(7.5, 2.5, 0, 7.21)
MQTT = Transport(30)


def transfer(size: int, link: LinkSettings, number: int = 4000, protocol: int = 0) -> Any:
    return simulate_transfer(np.full(number, size), link, protocol, np.random.default_rng(1))


def test_without_jitter_it_is_delay_and_frames_at_the_rate() -> None:
    link = LinkSettings(delay_ms=10, rate_mbit=8)
    one = transfer(SEGMENT, link, 1)
    assert one[0] == pytest.approx(10 + (SEGMENT + HEADERS) / 1000)
    # One byte more makes a second frame, with headers of its own.
    two = transfer(SEGMENT + 1, link, 1)
    assert two[0] - one[0] == pytest.approx((1 + HEADERS) / 1000)
    assert transfer(SEGMENT, link, 1, protocol=1)[0] == two[0]


def test_68_kilobytes_over_4g_take_about_127_ms_and_not_120() -> None:
    plain = 45 + 67_971 * 8 / 7210
    assert plain == pytest.approx(120.4, abs=0.1)
    assert transfer(67_971, CLOUD_4G, protocol=30).mean() == pytest.approx(127.2, abs=0.4)
    assert transfer(67_971, EDGE_4G, protocol=30).mean() == pytest.approx(87.3, abs=0.4)


def test_a_small_message_feels_the_jitter_of_one_frame() -> None:
    taken = transfer(40, CLOUD_4G)
    assert taken.mean() == pytest.approx(45.1, abs=0.3)
    assert taken.std() == pytest.approx(5, rel=0.05)


def test_no_delay_is_below_zero() -> None:
    taken = transfer(40, LinkSettings(1, 1))
    assert taken.min() == 0
    assert taken.mean() > 1


def test_frames_that_cannot_be_the_last_need_not_be_drawn() -> None:
    """The same distribution as with the jitter of every frame."""
    rng = np.random.default_rng(2)
    frames = -(-67_971 // SEGMENT)
    each = (SEGMENT + HEADERS) * 8 / 7210
    left = (67_971 + frames * HEADERS) * 8 / 7210 - each * np.arange(frames)[::-1]
    left[:-1] += each - (67_971 - (frames - 1) * SEGMENT + HEADERS) * 8 / 7210
    there = left + np.maximum(0, rng.normal(45, 5, (4000, frames)))
    whole = there.max(axis=1)
    taken = transfer(67_971, CLOUD_4G)
    assert taken.mean() == pytest.approx(whole.mean(), abs=0.4)
    assert np.percentile(taken, 95) == pytest.approx(np.percentile(whole, 95), abs=0.8)


def test_a_link_without_properties_takes_no_time() -> None:
    assert transfer(10**9, LinkSettings(), 3).tolist() == [0, 0, 0]


def test_an_empty_message_is_still_a_frame() -> None:
    assert transfer(0, LinkSettings(rate_mbit=8), 1)[0] == pytest.approx((1 + HEADERS) / 1000)
    assert (
        simulate_transfer(np.array([], dtype=np.int64), CLOUD_4G, 0, np.random.default_rng(1)).size
        == 0
    )


def test_a_huge_message_over_a_jittery_link_without_rate_comes_to_an_end() -> None:
    taken = transfer(10**9, LinkSettings(10, 1), 2000)
    assert 13 < taken.mean() < 17


def test_the_first_link_that_fits_counts() -> None:
    def block(text: str) -> tuple[ipaddress.IPv4Network, ...]:
        return (ipaddress.IPv4Network(text),)

    links = [
        Link("edge-1", "endpoint", block("10.0.1.1/32"), block("10.0.2.0/24"), EDGE_4G),
        Link("edge", "endpoint", block("10.0.1.0/24"), block("10.0.2.0/24"), CLOUD_4G),
    ]
    assert way_over(links, "10.0.2.9", "10.0.1.1") == Way((LinkSettings(),), (EDGE_4G,))
    assert way_over(links, "10.0.2.9", "10.0.1.2") == Way((LinkSettings(),), (CLOUD_4G,))
    assert way_over(links, "10.0.1.1", "10.0.1.1") == Way((LinkSettings(),), (LinkSettings(),))


def made_up(
    link: LinkSettings = CLOUD_4G, endpoints: int = 1, **changes: Any
) -> list[dict[str, Any]]:
    behaviour = Behaviour(forward=link, back=link)
    return [
        {
            **each,
            "run": "r",
            "repetition": 1,
            "endpoint": f"endpoint-{number}",
            "worker": "worker-1",
            **changes,
        }
        for number in range(1, endpoints + 1)
        for each in synthetic_samples(MadeUpLoad(seed=number, duration=60), behaviour)
    ]


def by_quantity(rows: tuple[Expectation, ...], name: str = "all") -> dict[str, Expectation]:
    return {row.quantity: row for row in rows if row.name == name}


def test_a_network_that_does_what_it_should_is_as_expected() -> None:
    table = samples.table(made_up())
    found = by_quantity(expect(table, {"endpoint-1": Way((CLOUD_4G,), (CLOUD_4G,))}, MQTT))
    assert list(found) == ["forward_ms", "return_ms", "latency_ms"]
    assert all(row.within for row in found.values())
    assert found["forward_ms"].expected_mean == pytest.approx(127, abs=4)
    assert found["return_ms"].expected_mean == pytest.approx(45, abs=2)
    assert found["latency_ms"].n == 300


def test_a_network_that_does_not_is_not() -> None:
    table = samples.table(made_up(EDGE_4G))
    found = by_quantity(expect(table, {"endpoint-1": Way((CLOUD_4G,), (CLOUD_4G,))}, MQTT))
    assert [row.within for row in found.values()] == [False, False, False]
    difference = found["latency_ms"].difference_ms
    assert difference is not None
    assert difference < -60


def test_the_latency_expected_keeps_the_worker_as_it_was_measured() -> None:
    rows = made_up()
    for row in rows:
        for name in ("started_ns", "finished_ns", "answered_ns"):
            row[name] += 500_000_000
    table = samples.table(rows)
    latency = by_quantity(expect(table, {"endpoint-1": Way((CLOUD_4G,), (CLOUD_4G,))}, MQTT))
    expected = latency["latency_ms"].expected_mean
    assert expected is not None
    assert expected > 600
    assert latency["latency_ms"].within


def test_each_endpoint_has_its_own_way() -> None:
    table = samples.table(made_up(endpoints=2))
    ways = {"endpoint-1": Way((CLOUD_4G,), (CLOUD_4G,)), "endpoint-2": Way((EDGE_4G,), (EDGE_4G,))}
    rows = expect(table, ways, MQTT)
    assert by_quantity(rows, "endpoint-1")["forward_ms"].within
    assert by_quantity(rows, "endpoint-2")["forward_ms"].within is False


@pytest.mark.parametrize(
    ("ways", "transport", "words"),
    [
        ({}, MQTT, "not known"),
        ({"endpoint-1": Way()}, None, "does not say"),
        ({"endpoint-1": Way((LinkSettings(loss_percent=1),))}, MQTT, "lossy"),
        ({"endpoint-1": Way(back=(LinkSettings(loss_percent=1),))}, MQTT, "lossy"),
    ],
)
def test_what_cannot_be_said_is_not_and_why(
    ways: dict[str, Way], transport: Transport | None, words: str
) -> None:
    rows = expect(samples.table(made_up()), ways, transport)
    assert len(rows) == 6
    for row in rows:
        assert (row.expected_mean, row.within, row.difference_percent) == (None, None, None)
        assert words in row.why_not


def test_messages_of_unknown_size_have_no_expectation() -> None:
    table = samples.table(made_up(request_bytes=None))
    found = by_quantity(expect(table, {"endpoint-1": Way((CLOUD_4G,), (CLOUD_4G,))}, MQTT))
    assert "size" in found["forward_ms"].why_not
    assert "size" in found["latency_ms"].why_not
    assert found["return_ms"].within


def test_an_endpoint_that_answers_itself_crosses_nothing() -> None:
    rows = made_up(LinkSettings(), sent_ns=None, received_ns=None, worker=None)
    found = by_quantity(expect(samples.table(rows), {"endpoint-1": Way()}, MQTT))
    assert "forward_ms" not in found
    latency = found["latency_ms"]
    assert latency.expected_mean == pytest.approx(latency.measured_mean, abs=1)
    assert latency.within


@pytest.mark.parametrize("transport", [MQTT, None])
def test_an_endpoint_that_answers_itself_is_known_by_the_workers_name(
    transport: Transport | None,
) -> None:
    rows = made_up(LinkSettings(), sent_ns=None, received_ns=None, finished_ns=None)
    for row in rows:
        row["worker"] = row["endpoint"]
    found = by_quantity(expect(samples.table(rows), {"endpoint-1": Way()}, transport))
    assert list(found) == ["latency_ms"]
    assert found["latency_ms"].expected_mean == found["latency_ms"].measured_mean


@pytest.mark.parametrize(
    ("transport", "words"), [(MQTT, "received_ns"), (None, "what crosses the network")]
)
@pytest.mark.parametrize("missing", [("received_ns", "finished_ns"), ("finished_ns",)])
def test_of_a_worker_that_does_not_tell_its_times_no_latency_is_expected(
    missing: tuple[str, ...], transport: Transport | None, words: str
) -> None:
    absent: dict[str, Any] = dict.fromkeys(missing)
    table = samples.table(made_up(**absent))
    link = LinkSettings(10)
    found = by_quantity(expect(table, {"endpoint-1": Way((link,), (link,))}, transport))
    latency = found["latency_ms"]
    assert (latency.expected_mean, latency.within) == (None, None)
    assert words in latency.why_not
    assert "return_ms" not in found


def test_nothing_answered_lets_nothing_expect() -> None:
    rows = made_up(status="lost")
    assert expect(samples.table(rows), {"endpoint-1": Way()}, MQTT) == ()
    assert expect(samples.table([]), {}, MQTT) == ()


def test_the_same_seed_expects_the_same() -> None:
    table = samples.table(made_up())
    ways = {"endpoint-1": Way((CLOUD_4G,), (CLOUD_4G,))}
    assert expect(table, ways, MQTT, seed=3) == expect(table, ways, MQTT, seed=3)
    assert expect(table, ways, MQTT, seed=3) != expect(table, ways, MQTT, seed=4)


def test_what_is_expected_of_few_samples_does_not_depend_on_chance() -> None:
    table = samples.table(made_up()[:30])
    ways = {"endpoint-1": Way((CLOUD_4G,), (CLOUD_4G,))}
    found = [by_quantity(expect(table, ways, MQTT, seed=seed))["return_ms"] for seed in range(20)]
    assert {row.n for row in found} == {found[0].n}
    for row in found:
        assert row.expected_mean == pytest.approx(found[0].expected_mean, abs=0.4)


def test_over_a_gateway_the_slowest_link_takes_the_message_and_others_their_last_frame() -> None:
    sizes = np.full(1, 10 * SEGMENT)
    slow, quick = LinkSettings(10, rate_mbit=8), LinkSettings(5, rate_mbit=80)
    rng = np.random.default_rng(1)
    whole = (10 * SEGMENT + 10 * HEADERS) / 1000
    last = (SEGMENT + HEADERS) / 10_000
    for links in ((slow, quick), (quick, slow)):
        (found,) = simulate_way(sizes, links, 0, rng)
        assert found == pytest.approx(10 + whole + 5 + last)
    (same,) = simulate_way(sizes, (slow, slow), 0, rng)
    assert same == pytest.approx(2 * 10 + whole + (SEGMENT + HEADERS) / 1000)
    assert simulate_way(sizes, (), 0, rng)[0] == 0


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
    assert [each.delay_ms for each in way.forward] == [1, 2]
    assert [each.delay_ms for each in way.back] == [3, 4]
