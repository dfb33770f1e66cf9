"""What Prometheus is asked by who watches, and what its answers mean."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from continuum.live import LiveRun
from continuum.watch import prometheus
from watched_runs import stream

NOW = 1_750_000_103.7
RUN = LiveRun(
    "paper-1", "/results", 1, NOW - 60, repetitions=2, streams=(stream(), stream(endpoint="b"))
)


def vector(*values: tuple[dict[str, str], str]) -> list[Any]:
    return [{"metric": labels, "value": [NOW, value]} for labels, value in values]


def matrix(*values: str, **labels: str) -> list[Any]:
    times = [1_750_000_090 + 5 * number for number in range(len(values))]
    return [
        {"metric": labels, "values": [[at, value] for at, value in zip(times, values, strict=True)]}
    ]


RESULTS: dict[str, list[Any]] = {
    "cores": matrix("0.25", "0.5", machine="edge-1") + matrix("0.1", machine="endpoint-1"),
    "per_second": matrix("9.5", "10", "10.2"),
    "failed": matrix("0", "2.2"),
    "median": matrix("NaN", "0.112", "0.113"),
    "p95": matrix("NaN", "0.13", "0.131"),
    "memory": vector(({"machine": "edge-1"}, "1048576"), ({"machine": "cloud-1"}, "2097152")),
    "ended": vector(({"status": "ok"}, "150"), ({"status": "lost"}, "2")),
    "waiting": vector(({}, "3")),
    "median_now": vector(({}, "0.112")),
    "p95_now": vector(({}, "0.131")),
}


def answers(**changes: list[Any]) -> list[dict[str, Any]]:
    told = {**RESULTS, **changes}
    return [
        {"status": 200, "body": json.dumps({"status": "success", "data": {"result": told[name]}})}
        for name in RESULTS
    ]


def read(**changes: list[Any]) -> prometheus.Figures:
    found = prometheus.figures(answers(**changes), RUN)
    assert found is not None
    return found


def test_it_is_asked_in_the_order_in_which_it_is_read() -> None:
    asked = prometheus.addresses("10.0.0.2", NOW, 60)
    names = [*prometheus.RANGES, *prometheus.instants(60)]
    assert names == list(RESULTS)
    for name, address in zip(names, asked, strict=True):
        parts = urlsplit(address)
        assert parts.netloc == "10.0.0.2:9090"
        query = parse_qs(parts.query)
        assert query["query"] == [{**prometheus.RANGES, **prometheus.instants(60)}[name]]
        if parts.path.endswith("query_range"):
            # Steps at the same moments each time: what was drawn does not move.
            assert (float(query["end"][0]) % 5, query["step"]) == (0, ["5"])
    assert "[60s]" in prometheus.instants(59.2)["ended"]
    assert "[5s]" in prometheus.instants(0)["ended"]


def test_machines_have_cores_memory_and_a_history() -> None:
    usage = read().usage
    assert usage["edge-1"].cores == 0.5
    assert usage["edge-1"].memory == 2**20
    assert usage["edge-1"].history == (0.25, 0.5)
    assert usage["endpoint-1"].memory is None
    assert usage["cloud-1"].cores is None


def test_requests_count_with_the_warm_up() -> None:
    told = read().requests
    assert told is not None
    assert (told.answered, told.lost, told.waiting, told.warmup) == (150, 2, 3, None)
    assert told.expected == 2 * 2 * 110
    assert told.per_second == pytest.approx(10.2)
    assert told.median_ms == pytest.approx(112)


def test_a_moment_without_an_answer_is_a_gap() -> None:
    points = read().timeline
    assert [point.median_ms for point in points] == [None, pytest.approx(112), pytest.approx(113)]
    assert [point.failed for point in points] == [0, 2, 0]


def test_an_application_that_does_not_tell_leaves_requests_to_the_samples() -> None:
    names = ("per_second", "failed", "median", "p95", "ended", "waiting")
    nothing: dict[str, list[Any]] = {name: [] for name in names}
    found = read(**nothing)
    assert found.requests is None
    assert found.timeline == ()
    assert found.usage


def test_an_application_of_its_own_mind_has_no_expected_number() -> None:
    run = replace(RUN, streams=(stream(counted=False),))
    found = prometheus.figures(answers(), run)
    assert found is not None
    assert found.requests is not None
    assert found.requests.expected is None


@pytest.mark.parametrize(
    "broken",
    [
        [],
        answers()[:-1],
        [{"status": 0, "body": "refused"}] * 10,
        [{"status": 503, "body": "starting"}] * 10,
        [{"status": 200, "body": "<html>"}] * 10,
        [{"status": 200, "body": "{}"}] * 10,
        answers(cores=[], memory=[]),
        answers(waiting=[{"metric": {}}]),
    ],
)
def test_what_is_no_answer_is_none(broken: list[dict[str, Any]]) -> None:
    assert prometheus.figures(broken, RUN) is None
