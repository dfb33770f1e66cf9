"""What the declared links and queues let expect, and what it takes to be as expected."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from continuum.benchmark import samples
from continuum.benchmark.contract import Transport
from continuum.benchmark.expectation import Network, expect, told
from continuum.benchmark.results import Baseline, Expectation
from continuum.benchmark.transfer import Hop, Way
from continuum.infrastructure.plan import LinkSettings
from continuum.testing.synthetic import Behaviour, MadeUpLoad, synthetic_samples

CLOUD_4G = LinkSettings(45, 5, 0, 7.21)
EDGE_4G = LinkSettings(7.5, 2.5, 0, 7.21)
SHORT = LinkSettings(1, 0.1)
MQTT = Transport(30)
BASELINE = tuple(
    Baseline(quantity=quantity, n=50, mean=mean, deviation=deviation)
    for quantity, mean, deviation in (
        ("forward_ms", 0.5, 0.12),
        ("return_ms", 0.5, 0.12),
    )
)
"""What `Behaviour` adds to each step."""


def made_up(
    behaviour: Behaviour,
    *,
    endpoints: int = 1,
    repetitions: int = 1,
    frequency: float = 5,
    duration: float = 60,
    **changes: Any,
) -> pa.Table:
    """Samples of endpoints that have a worker each."""
    return samples.table(
        {
            **each,
            "run": "r",
            "repetition": repetition,
            "endpoint": f"endpoint-{number}",
            "worker": f"worker-{number}",
            **changes,
        }
        for repetition in range(1, repetitions + 1)
        for number in range(1, endpoints + 1)
        for each in synthetic_samples(
            MadeUpLoad(10 * repetition + number, frequency, duration=duration), behaviour
        )
    )


def way(forward: LinkSettings, back: LinkSettings, number: int = 1) -> Way:
    return Way(
        (Hop(forward, f"10.0.0.{number}", "endpoint → edge"),),
        (Hop(back, f"10.0.1.{number}", "edge → endpoint"),),
    )


def ways(link: LinkSettings, endpoints: int = 1) -> dict[str, Way]:
    return {f"endpoint-{number}": way(link, link, number) for number in range(1, endpoints + 1)}


def expected(
    table: pa.Table,
    over: Mapping[str, Way],
    *,
    transport: Transport | None = MQTT,
    baselines: Sequence[Baseline] = BASELINE,
    name: str = "all",
    servers: int | None = 1,
    seed: int = 1,
) -> dict[str, Expectation]:
    at_a_time = {f"{kind}-{n}": servers for n in range(1, 30) for kind in ("worker", "endpoint")}
    network = Network(over, transport)
    rows = expect(table, network, servers=at_a_time, baselines=baselines, seed=seed)
    return {row.quantity: row for row in rows if row.name == name}


def verdicts(found: Mapping[str, Expectation]) -> list[str | None]:
    return [row.verdict for row in found.values()]


@pytest.mark.parametrize("repetitions", [1, 3])
@pytest.mark.parametrize("link", [CLOUD_4G, LinkSettings(20, 1, 0, 30), LinkSettings(45)])
def test_a_network_that_does_what_it_should_is_as_expected(
    link: LinkSettings, repetitions: int
) -> None:
    table = made_up(Behaviour(link, link), repetitions=repetitions, duration=60)
    found = expected(table, ways(link))
    assert list(found) == ["forward_ms", "queue_ms", "return_ms", "latency_ms"]
    assert verdicts(found) == ["as expected"] * 4
    assert all(row.within for row in found.values())
    assert found["latency_ms"].n == 300 * repetitions


BACK_30 = replace(CLOUD_4G, delay_ms=45 * 1.3)
FAULTS: dict[str, tuple[Behaviour, dict[str, Way], dict[str, float]]] = {
    "worker overloaded, link 100 ms too slow": (
        Behaviour(replace(EDGE_4G, delay_ms=107.5), EDGE_4G, processing_ms=300),
        ways(EDGE_4G),
        {"forward_ms": 100},
    ),
    "worker takes 1 s, link 50 ms too slow": (
        Behaviour(replace(EDGE_4G, delay_ms=57.5), EDGE_4G, processing_ms=1000),
        ways(EDGE_4G),
        {"forward_ms": 50},
    ),
    "1 ms link without delay": (
        Behaviour(),
        ways(SHORT),
        {"forward_ms": -1, "return_ms": -1},
    ),
    "1 ms link 2.9 ms too slow": (
        Behaviour(LinkSettings(3.9, 0.1), LinkSettings(3.9, 0.1)),
        ways(SHORT),
        {"forward_ms": 2.9, "return_ms": 2.9},
    ),
    "30 % too slow on the way back": (
        Behaviour(CLOUD_4G, BACK_30),
        ways(CLOUD_4G),
        {"return_ms": 13.5},
    ),
    "30 % too slow on the way back of a short link": (
        Behaviour(EDGE_4G, replace(EDGE_4G, delay_ms=7.5 * 1.3)),
        ways(EDGE_4G),
        {"return_ms": 2.25},
    ),
    "another link altogether": (
        Behaviour(EDGE_4G, EDGE_4G),
        ways(CLOUD_4G),
        {"forward_ms": -37.5, "return_ms": -37.5},
    ),
    "rate 10 % too low": (
        Behaviour(replace(CLOUD_4G, rate_mbit=6.49), CLOUD_4G),
        ways(CLOUD_4G),
        {"forward_ms": 8.7},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("repetitions", [1, 3])
def test_what_is_wrong_differs_by_what_it_is_wrong(fault: str, repetitions: int) -> None:
    behaviour, over, wrong = FAULTS[fault]
    frequency = 5 if behaviour.processing_ms < 1000 else 0.9
    table = made_up(
        behaviour, frequency=frequency, duration=300 / frequency, repetitions=repetitions
    )
    found = expected(table, over)
    assert {name for name, row in found.items() if row.verdict == "differs"} == {
        *wrong,
        "latency_ms",
    }
    for quantity, by in wrong.items():
        row = found[quantity]
        assert row.difference_ms == pytest.approx(by, abs=0.5 + 0.05 * abs(by))
        assert row.difference_ms is not None
        assert row.low_ms is not None
        assert row.high_ms is not None
        assert row.low_ms <= row.difference_ms <= row.high_ms
        assert row.within is False
    rows = expect(table, Network(over, MQTT), servers={"worker-1": 1}, baselines=BASELINE)
    assert {row.quantity for row in told(rows)} == set(wrong)


@pytest.mark.parametrize(
    ("behaviour", "link", "quantity"),
    [
        (Behaviour(), SHORT, "forward_ms"),
        (Behaviour(), SHORT, "return_ms"),
        (Behaviour(LinkSettings(5), LinkSettings(5)), SHORT, "return_ms"),
        (Behaviour(CLOUD_4G, BACK_30), CLOUD_4G, "return_ms"),
    ],
)
def test_without_a_baseline_too_what_programs_cannot_add_differs(
    behaviour: Behaviour, link: LinkSettings, quantity: str
) -> None:
    found = expected(made_up(behaviour), ways(link), baselines=())
    assert found[quantity].verdict == "differs"
    assert found["latency_ms"].verdict == "differs"


def test_without_a_baseline_what_programs_may_add_is_neither_as_expected_nor_differs() -> None:
    short = LinkSettings(7.5)
    for delay in (7.5, 7.5 * 1.3):
        real = LinkSettings(delay)
        found = expected(
            made_up(Behaviour(CLOUD_4G, real)), {"endpoint-1": way(CLOUD_4G, short)}, baselines=()
        )
        assert found["return_ms"].verdict == "not shown"
        assert found["return_ms"].within is None
        assert "not measured" in found["return_ms"].why_not
        # 5 % of the way forward are more than what they may add.
        assert found["forward_ms"].verdict == "as expected"
        assert found["latency_ms"].verdict == "not shown"


def test_few_samples_show_nothing() -> None:
    found = expected(made_up(Behaviour(CLOUD_4G, CLOUD_4G), duration=1), ways(CLOUD_4G))
    assert verdicts(found) == ["not shown"] * 4
    assert "samples" in found["return_ms"].why_not
    assert found["forward_ms"].low_ms is None


def exchange_at_one_worker(
    load: float,
    *,
    servers: int = 1,
    endpoints: int = 4,
    link: LinkSettings = EDGE_4G,
    count: int = 300,
    pause_ms: float = 0.4,
    stopped_at: float = 1e18,
    seed: int = 1,
) -> pa.Table:
    """Samples of endpoints with random arrivals at one worker, which pauses after each request."""
    rng = np.random.default_rng(seed)
    work = 14.0
    each = 1000 * load * servers / (endpoints * (work + pause_ms))
    events = sorted(
        (float(at), endpoint)
        for endpoint in range(endpoints)
        for at in 1000 * np.cumsum(rng.exponential(1 / each, count))
    )
    on_their_way = []
    for at, endpoint in events:
        size = 900
        takes = (size + 66) * 8 / (link.rate_mbit * 1e3) if link.rate_mbit else 0.0
        there = at + takes + max(0.0, rng.normal(link.delay_ms, link.jitter_ms)) + 0.5
        on_their_way.append((there, at, endpoint, size))
    free = [0.0] * servers
    rows, numbers = [], [0] * endpoints
    for there, at, endpoint, size in sorted(on_their_way):
        start = max(there + 0.1, heapq.heappop(free))
        if at > stopped_at:
            start, stopped_at = start + 5000, 1e18
        finish = start + max(1.0, rng.normal(work, 1.5))
        heapq.heappush(free, finish + pause_ms)
        back = finish + 0.5 + max(0.0, rng.normal(link.delay_ms, link.jitter_ms)) + 0.1
        numbers[endpoint] += 1
        moments = {
            "intended_ns": at,
            "prepare_started_ns": at,
            "prepare_finished_ns": at,
            "sent_ns": at,
            "received_ns": there,
            "started_ns": start,
            "finished_ns": finish,
            "answered_ns": back,
        }
        rows.append(
            {
                "run": "r",
                "repetition": 1,
                "warmup": numbers[endpoint] <= 10,
                "status": "ok",
                "endpoint": f"endpoint-{endpoint + 1}",
                "worker": "worker-1",
                "sequence": numbers[endpoint],
                "request_bytes": size - 30,
                "answer_bytes": 18,
                **{name: 10**18 + round(1e6 * moment) for name, moment in moments.items()},
            }
        )
    return samples.table(rows)


@pytest.mark.parametrize("servers", [1, 2, 4])
@pytest.mark.parametrize("load", [0.8, 1.2])
def test_the_queue_at_a_worker_is_expected_below_and_above_what_it_can_do(
    load: float, servers: int
) -> None:
    table = exchange_at_one_worker(load, servers=servers, count=1000)
    row = expected(table, ways(EDGE_4G, 4), servers=servers)["queue_ms"]
    assert row.verdict == "as expected"
    assert row.expected_mean == pytest.approx(row.measured_mean, rel=0.1)
    assert row.measured_mean > (1000 if load > 1 else 3)


@pytest.mark.parametrize("servers", [1, 2])
def test_a_worker_that_works_on_fewer_at_a_time_than_it_should_differs(servers: int) -> None:
    table = exchange_at_one_worker(0.9, servers=servers)
    row = expected(table, ways(EDGE_4G, 4), servers=servers + 1)["queue_ms"]
    assert row.verdict == "differs"
    assert row.difference_ms is not None
    assert row.difference_ms > 0


def test_a_worker_that_was_stopped_between_two_requests_differs() -> None:
    table = exchange_at_one_worker(0.5, stopped_at=4000)
    row = expected(table, ways(EDGE_4G, 4))["queue_ms"]
    assert row.measured_mean > 500
    assert row.expected_mean is not None
    assert row.expected_mean < 50
    assert row.difference_percent is not None
    assert row.difference_percent > 100


@pytest.mark.parametrize("load", [0.8, 1.2])
def test_the_queue_at_the_link_is_expected_below_and_above_its_rate(load: float) -> None:
    frequency = load * 7210 / 8 / (68 + 47 * 0.066)
    table = made_up(Behaviour(EDGE_4G, EDGE_4G), frequency=frequency, duration=20)
    found = expected(table, ways(EDGE_4G))
    row = found["forward_ms"]
    assert row.verdict == "as expected"
    assert row.expected_mean == pytest.approx(row.measured_mean, rel=0.01)
    if load > 1:
        assert row.measured_mean > 1500
    # Twice the rate has no queue.
    other = expected(table, ways(replace(EDGE_4G, rate_mbit=14.4)))["forward_ms"]
    assert other.verdict == "differs"


def test_requests_of_the_warm_up_and_lost_ones_keep_the_link_busy_too() -> None:
    """All of the load was before: only who knows it expects the queue that it left."""
    behaviour = Behaviour(LinkSettings(7.5, 0, 0, 7.21), EDGE_4G)
    load = MadeUpLoad(1, frequency=30, warmup=8, duration=2)
    rows = [
        {**each, "run": "r", "repetition": 1, "endpoint": "endpoint-1", "worker": "worker-1"}
        for each in synthetic_samples(load, behaviour)
    ]
    for each in rows[:100]:
        each.update(status="lost", answered_ns=None, finished_ns=None, started_ns=None)
    row = expected(samples.table(rows), ways(LinkSettings(7.5, 0, 0, 7.21)))["forward_ms"]
    assert row.measured_mean > 4000
    assert row.verdict == "as expected"


def test_each_endpoint_has_its_own_way() -> None:
    table = made_up(Behaviour(CLOUD_4G, CLOUD_4G), endpoints=2)
    over = {"endpoint-1": way(CLOUD_4G, CLOUD_4G, 1), "endpoint-2": way(EDGE_4G, CLOUD_4G, 2)}
    assert expected(table, over, name="endpoint-1")["forward_ms"].within
    assert expected(table, over, name="endpoint-2")["forward_ms"].within is False


def test_an_endpoint_that_differs_is_told_where_all_of_them_together_do_not() -> None:
    table = made_up(Behaviour(CLOUD_4G, CLOUD_4G), endpoints=12)
    over = ways(CLOUD_4G, 12) | {"endpoint-7": way(CLOUD_4G, EDGE_4G, 7)}
    at_a_time = {f"worker-{number}": 1 for number in range(1, 13)}
    rows = expect(table, Network(over, MQTT), servers=at_a_time, baselines=BASELINE)
    assert [(row.name, row.quantity) for row in told(rows)] in (
        [("endpoint-7", "return_ms")],
        [("all", "return_ms")],
    )


@pytest.mark.parametrize(
    ("over", "transport", "words"),
    [
        ({}, MQTT, "not known"),
        ({"endpoint-1": Way()}, None, "does not say"),
        ({"endpoint-1": way(LinkSettings(loss_percent=1), SHORT)}, MQTT, "lossy"),
        ({"endpoint-1": way(SHORT, LinkSettings(loss_percent=1))}, MQTT, "lossy"),
        ({"endpoint-1": Way((Hop(),), (Hop(),))}, MQTT, "no link is emulated"),
    ],
)
def test_what_cannot_be_said_is_not_and_why(
    over: dict[str, Way], transport: Transport | None, words: str
) -> None:
    found = expected(made_up(Behaviour(CLOUD_4G, CLOUD_4G)), over, transport=transport)
    for quantity in ("forward_ms", "return_ms"):
        row = found[quantity]
        assert (row.expected_mean, row.verdict, row.difference_percent) == (None, None, None)
        assert words in row.why_not
    assert found["latency_ms"].verdict in {None, "not shown"}


def test_messages_of_unknown_size_have_no_expectation() -> None:
    table = made_up(Behaviour(CLOUD_4G, CLOUD_4G), request_bytes=None)
    found = expected(table, ways(CLOUD_4G))
    assert "size" in found["forward_ms"].why_not
    assert "size" in found["latency_ms"].why_not
    assert found["queue_ms"].expected_mean is None
    assert found["return_ms"].within


def test_of_a_worker_that_may_do_several_things_at_a_time_no_wait_is_expected() -> None:
    found = expected(made_up(Behaviour(CLOUD_4G, CLOUD_4G)), ways(CLOUD_4G), servers=None)
    assert "at a time" in found["queue_ms"].why_not
    assert "at a time" in found["latency_ms"].why_not
    assert found["forward_ms"].verdict == "as expected"


@pytest.mark.parametrize("named", [True, False])
def test_an_endpoint_that_answers_itself_crosses_nothing_and_has_a_queue(named: bool) -> None:
    table = made_up(Behaviour(programs_ms=0), worker="endpoint-1" if named else None, frequency=20)
    found = expected(table, {"endpoint-1": Way()}, transport=None)
    assert list(found) == ["queue_ms", "latency_ms"]
    assert verdicts(found) == ["as expected"] * 2


@pytest.mark.parametrize(
    ("transport", "words"), [(MQTT, "received_ns"), (None, "what crosses the network")]
)
@pytest.mark.parametrize("missing", [("received_ns", "finished_ns"), ("finished_ns",)])
def test_of_a_worker_that_does_not_tell_its_times_no_latency_is_expected(
    missing: tuple[str, ...], transport: Transport | None, words: str
) -> None:
    absent: dict[str, Any] = dict.fromkeys(missing)
    link = LinkSettings(10)
    found = expected(made_up(Behaviour(link, link), **absent), ways(link), transport=transport)
    latency = found["latency_ms"]
    assert (latency.expected_mean, latency.verdict) == (None, None)
    assert words in latency.why_not
    assert "return_ms" not in found


def test_nothing_answered_lets_nothing_expect() -> None:
    table = made_up(Behaviour(CLOUD_4G, CLOUD_4G), status="lost")
    assert expect(table, Network(ways(CLOUD_4G), MQTT)) == ()
    assert expect(samples.table([]), Network({}, MQTT)) == ()


def test_the_same_seed_expects_the_same() -> None:
    table = made_up(Behaviour(CLOUD_4G, CLOUD_4G))
    assert expected(table, ways(CLOUD_4G), seed=3) == expected(table, ways(CLOUD_4G), seed=3)
    assert expected(table, ways(CLOUD_4G), seed=3) != expected(table, ways(CLOUD_4G), seed=4)


def test_what_is_expected_of_few_samples_does_not_depend_on_chance() -> None:
    table = made_up(Behaviour(CLOUD_4G, CLOUD_4G), duration=4)
    means = [
        expected(table, ways(CLOUD_4G), seed=seed)["return_ms"].expected_mean for seed in range(20)
    ]
    assert means == pytest.approx([45.6] * 20, abs=0.5)


def test_what_clocks_add_belongs_to_no_link() -> None:
    """The worker's clock is 20 ms ahead, give or take 1: forward seems longer, and back shorter."""
    rows = made_up(Behaviour(CLOUD_4G, CLOUD_4G)).to_pylist()
    for row in rows:
        for name in ("received_ns", "started_ns", "finished_ns"):
            row[name] += 20_000_000
    table, over = samples.table(rows), ways(CLOUD_4G)

    def row_of(clocks: dict[str, tuple[float, float]], quantity: str) -> Expectation:
        found = expect(
            table, Network(over, MQTT, clocks), servers={"worker-1": 1}, baselines=BASELINE
        )
        return next(row for row in found if (row.name, row.quantity) == ("all", quantity))

    assert row_of({}, "forward_ms").verdict == row_of({}, "return_ms").verdict == "differs"
    read = {"endpoint-1": (19.0, 21.0)}
    assert row_of(read, "forward_ms").verdict == "as expected"
    assert row_of(read, "queue_ms").verdict == "as expected"
    assert row_of(read, "return_ms").verdict in {"as expected", "not shown"}
    unread = row_of({"endpoint-1": (-np.inf, np.inf)}, "forward_ms")
    assert unread.verdict == "not shown"
    assert "clocks" in unread.why_not
