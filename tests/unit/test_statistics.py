"""The table made of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from continuum.benchmark import samples
from continuum.benchmark.results import LABELS, Group
from continuum.benchmark.statistics import (
    QUANTITIES,
    Bootstrap,
    aggregate,
    summarise,
    values,
)
from continuum.testing.synthetic import Behaviour, MadeUpLoad, synthetic_samples

MS = 1_000_000
AGREES = pa.schema([pa.field("agrees", pa.bool_())])


def sample(sequence: int, **changes: Any) -> dict[str, Any]:
    """One request a second: 2 ms late, 3 of preparation, 10, 1, 20 and 5 ms after that."""
    due = 1_750_000_000_000_000_000 + sequence * 1000 * MS
    return {
        "run": "r",
        "repetition": 1,
        "warmup": False,
        "endpoint": "endpoint-1",
        "worker": "worker-1",
        "sequence": sequence,
        "status": "ok",
        "intended_ns": due,
        "prepare_started_ns": due + 2 * MS,
        "prepare_finished_ns": due + 5 * MS,
        "sent_ns": due + 5 * MS,
        "received_ns": due + 15 * MS,
        "started_ns": due + 16 * MS,
        "finished_ns": due + 36 * MS,
        "answered_ns": due + 41 * MS,
        "request_bytes": 1000 + sequence,
        **changes,
    }


def everything(rows: list[dict[str, Any]], own: pa.Schema | None = None) -> Group:
    return aggregate(samples.table(rows, own))[0]


def mean(group: Group, quantity: str) -> float:
    found = group.statistic(quantity)
    assert found is not None
    return found.mean.value


def test_every_quantity_is_what_its_name_says() -> None:
    group = everything([sample(number) for number in range(3)])
    assert {name: mean(group, name) for name in LABELS} == {
        "latency_ms": 41,
        "late_ms": 2,
        "preparation_ms": 3,
        "forward_ms": 10,
        "queue_ms": 1,
        "processing_ms": 20,
        "return_ms": 5,
        "request_bytes": 1001,
    }
    assert [quantity.name for quantity in QUANTITIES] == list(LABELS)


def test_nanoseconds_survive() -> None:
    table = samples.table(
        [sample(0, sent_ns=1_750_000_000_000_000_001, received_ns=1_750_000_000_000_000_124)]
    )
    assert values(table, "forward_ms")[0] == pytest.approx(123e-6)


def test_only_answered_samples_after_the_warm_up_count() -> None:
    rows = [
        sample(0, warmup=True, answered_ns=1_760_000_000_000_000_000),
        sample(1),
        sample(2, status="lost", answered_ns=None),
        sample(3, status="timeout", answered_ns=1_760_000_000_000_000_000),
        sample(4, status="error"),
        sample(5, status="error"),
        sample(6),
    ]
    group = everything(rows)
    assert (group.samples, group.ok, group.lost, group.timeout, group.error) == (6, 2, 1, 1, 2)
    assert group.warmup == 1
    assert group.unanswered == 4
    latency = group.statistic("latency_ms")
    assert latency is not None
    assert (latency.n, latency.mean.value) == (2, 41)


def test_groups_are_all_then_endpoints_then_workers_in_natural_order() -> None:
    rows = [
        sample(0, endpoint=f"endpoint-{number}", worker=f"worker-{number % 2}")
        for number in (10, 2, 1)
    ]
    assert [(group.kind, group.name) for group in aggregate(samples.table(rows))] == [
        ("all", "all"),
        ("endpoint", "endpoint-1"),
        ("endpoint", "endpoint-2"),
        ("endpoint", "endpoint-10"),
        ("worker", "worker-0"),
        ("worker", "worker-1"),
    ]


def test_an_endpoint_without_worker_makes_no_group_of_workers() -> None:
    groups = aggregate(samples.table([sample(0, worker=None)]))
    assert [group.kind for group in groups] == ["all", "endpoint"]


def test_a_quantity_whose_times_are_missing_is_left_out() -> None:
    rows = [sample(0, sent_ns=None), sample(1, sent_ns=None, request_bytes=None), sample(2)]
    group = everything(rows)
    forward = group.statistic("forward_ms")
    assert forward is not None
    assert forward.n == 1
    assert everything(rows[:2]).statistic("forward_ms") is None


def test_no_samples_make_one_empty_group() -> None:
    (group,) = aggregate(samples.table([]))
    assert (group.samples, group.statistics, group.seconds, group.agreement) == (0, (), None, None)


def test_all_lost_leaves_counts_alone() -> None:
    group = everything([sample(number, status="lost", answered_ns=None) for number in range(5)])
    assert (group.samples, group.lost, group.statistics, group.seconds) == (5, 5, (), None)


def test_one_sample_has_no_deviation_and_no_interval() -> None:
    latency = everything([sample(0)]).statistic("latency_ms")
    assert latency is not None
    assert latency.deviation is None
    assert (latency.p99.value, latency.p99.low, latency.p99.high) == (41, None, None)


def test_agreement_is_among_those_that_were_judged() -> None:
    rows = [sample(number, agrees=value) for number, value in enumerate([True, True, False, None])]
    rows.append(sample(9, status="error", agrees=False))
    group = everything(rows, AGREES)
    assert (group.judged, group.agreed) == (3, 2)
    assert group.agreement == pytest.approx(2 / 3)
    assert everything([sample(0)]).agreement is None
    words = pa.schema([pa.field("agrees", pa.string())])
    assert everything([sample(0, agrees="no")], words).agreement is None


def test_total_time_is_summed_over_repetitions() -> None:
    rows = [sample(number, repetition=each) for each in (1, 2) for number in range(3)]
    assert everything(rows).seconds == pytest.approx(2 * 2.041)


def made_up(repetitions: int, **load: float) -> pa.Table:
    behaviour = Behaviour(seed_share=0.1)
    return samples.table(
        {**each, "run": "r", "repetition": number, "endpoint": "endpoint-1", "worker": "worker-1"}
        for number in range(1, repetitions + 1)
        for each in synthetic_samples(
            MadeUpLoad(seed=number, **load),
            behaviour,
        )
    )


def test_the_same_seed_gives_the_same_table() -> None:
    table = made_up(3)
    assert aggregate(table, seed=5) == aggregate(table, seed=5)
    assert aggregate(table, seed=5) != aggregate(table, seed=6)


def test_intervals_hold_their_value() -> None:
    for statistic in aggregate(made_up(3))[0].statistics:
        for name in ("mean", "p50", "p95"):
            figure = getattr(statistic, name)
            assert figure.low <= figure.value <= figure.high, statistic.quantity


def width(clusters: list[np.ndarray[Any, np.dtype[np.float64]]], draws: int = 5000) -> float:
    statistic = summarise(QUANTITIES[0], clusters, Bootstrap(1000, draws, np.random.default_rng(1)))
    assert statistic.mean.low is not None
    assert statistic.mean.high is not None
    return statistic.mean.high - statistic.mean.low


def test_an_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    taken = np.random.default_rng(3).normal(100, 10, 400)
    assert width([taken]) == pytest.approx(2 * 1.96 * 10 / 20, rel=0.15)


def test_fewer_draws_leave_the_interval_as_wide() -> None:
    taken = np.random.default_rng(3).normal(100, 10, 5000)
    assert width([taken], draws=500) == pytest.approx(width([taken]), rel=0.15)


def test_repetitions_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    alike = [rng.normal(100, 5, 200) for _ in range(5)]
    unlike = [rng.normal(100 + 10 * number, 5, 200) for number in range(5)]
    assert width(unlike) > 5 * width(alike)
    assert width(unlike) > 5 * width([np.concatenate(unlike)])


def test_repetitions_may_have_different_numbers_of_samples() -> None:
    rng = np.random.default_rng(3)
    clusters = [rng.normal(100, 5, size) for size in (1, 30, 400)]
    statistic = summarise(QUANTITIES[0], clusters, Bootstrap(500, 5000, rng))
    whole = np.concatenate(clusters)
    assert statistic.n == 431
    assert statistic.mean.value == pytest.approx(whole.mean(), abs=1e-4)
    assert statistic.p95.value == pytest.approx(np.percentile(whole, 95), abs=1e-4)
    assert whole.min() <= statistic.p50.low <= statistic.p50.high <= whole.max()  # type: ignore[operator]


def test_many_groups_keep_within_their_effort() -> None:
    rows = [
        sample(number, endpoint=f"endpoint-{endpoint}")
        for endpoint in range(40)
        for number in range(30)
    ]
    groups = aggregate(samples.table(rows))
    assert len(groups) == 42
    assert all(group.statistic("latency_ms") is not None for group in groups)
