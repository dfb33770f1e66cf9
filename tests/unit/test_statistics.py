"""The table made of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from continuum.benchmark import samples
from continuum.benchmark.results import LABELS, Group, Percentile, Statistic
from continuum.benchmark.statistics import QUANTITIES, aggregate, summarise, values
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
    assert latency.p50 == Percentile(value=41)
    assert latency.p95 == latency.p99 == Percentile()
    assert latency.maximum == Percentile(value=41)


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


def test_the_same_samples_give_the_same_table() -> None:
    table = made_up(3)
    assert aggregate(table) == aggregate(table.take(list(reversed(range(table.num_rows)))))


@pytest.mark.parametrize("repetitions", [1, 3])
def test_intervals_hold_their_value(repetitions: int) -> None:
    for statistic in aggregate(made_up(repetitions, duration=20, warmup=0))[0].statistics:
        for name in ("mean", "p50", "p95"):
            figure = getattr(statistic, name)
            low = figure.value if figure.low is None else figure.low
            high = figure.value if figure.high is None else figure.high
            assert low <= figure.value <= high, statistic.quantity


def found(repetitions: list[list[float]], **more: float) -> Statistic:
    return summarise(QUANTITIES[0], [np.array(each) for each in repetitions], **more)


def test_with_several_repetitions_each_is_one_figure() -> None:
    repetitions = [[100.0, 102.0, 98.0], [110.0, 111.0, 112.0], [90.0, 91.0, 95.0]]
    statistic = found(repetitions)
    assert (statistic.level, statistic.repetitions, statistic.n) == ("repetitions", 3, 9)
    for name, each in (("mean", np.mean), ("p50", np.median)):
        figures = np.array([each(repetition) for repetition in repetitions])
        wide = 4.3026527 * figures.std(ddof=1) / 3**0.5
        figure = getattr(statistic, name)
        assert figure.value == pytest.approx(figures.mean(), abs=1e-4)
        assert figure.low == pytest.approx(figures.mean() - wide, abs=1e-3)
        assert figure.high == pytest.approx(figures.mean() + wide, abs=1e-3)
    assert statistic.deviation is not None
    deviations = [np.std(each, ddof=1) for each in repetitions]
    assert statistic.deviation.value == pytest.approx(np.mean(deviations), abs=1e-4)
    assert statistic.deviation.low == 0


def test_more_samples_do_not_narrow_what_repetitions_differ_by() -> None:
    rng = np.random.default_rng(3)
    levels = (100, 104, 96, 101, 99)
    few, many = (
        found([list(rng.normal(level, 5, size)) for level in levels]) for size in (500, 50_000)
    )
    truth = 2 * 2.7764 * np.std(levels, ddof=1) / 5**0.5
    for statistic in (few, many):
        assert statistic.mean.low is not None
        assert statistic.mean.high is not None
        assert statistic.mean.high - statistic.mean.low == pytest.approx(truth, rel=0.1)


def test_repetitions_may_have_different_numbers_of_samples() -> None:
    rng = np.random.default_rng(3)
    clusters = [list(rng.normal(100, 5, size)) for size in (1, 100, 400)]
    statistic = found(clusters)
    assert statistic.n == 501
    assert statistic.mean.value == pytest.approx(np.mean([np.mean(each) for each in clusters]))
    # Only two of them have a 95th percentile of their own, and none a 99th: that is of them all.
    assert statistic.p95.low is not None
    assert statistic.p99.value == pytest.approx(
        np.percentile(np.concatenate(clusters), 99), rel=0.1
    )
    assert (statistic.p99.low, statistic.p99.high) == (None, None)


def test_a_percentile_with_fewer_than_five_samples_beyond_it_is_left_out() -> None:
    for size, beyond_95, beyond_99 in ((99, False, False), (100, True, False), (500, True, True)):
        rows = list(np.random.default_rng(1).normal(100, 5, size))
        for statistic in (found([rows]), found([rows[::2], rows[1::2]])):
            assert (statistic.p95.value is not None) is beyond_95
            assert (statistic.p99.value is not None) is beyond_99
            assert statistic.maximum is not None
            assert statistic.maximum.value == pytest.approx(max(rows), abs=1e-4)


def test_a_single_repetition_is_said_to_be_one() -> None:
    statistic = found([list(np.random.default_rng(1).normal(100, 5, 300))])
    assert (statistic.level, statistic.repetitions) == ("run", 1)
    assert statistic.mean.low is not None
    assert statistic.deviation is not None
    assert statistic.deviation.low is None


def lossy(lost: int, answered: int, repetition: int = 1, status: str = "lost") -> list[Any]:
    every = max(1, answered // max(1, lost))
    return [
        sample(number, repetition=repetition, status=status, answered_ns=None)
        if number % (every + 1) == every and number // (every + 1) < lost
        else sample(number, repetition=repetition)
        for number in range(lost + answered)
    ]


@pytest.mark.parametrize("status", ["lost", "timeout", "error"])
def test_requests_without_an_answer_take_for_ever_in_percentiles(status: str) -> None:
    table = samples.table(lossy(40, 560, status=status))
    latency = aggregate(table, answer_timeout=10)[0].statistic("latency_ms")
    assert latency is not None
    assert (latency.n, latency.unanswered) == (560, 40)
    assert latency.mean.value == 41
    assert latency.p50.value == 41
    for figure in (latency.p95, latency.p99, latency.maximum):
        assert figure is not None
        assert (figure.value, figure.high, figure.above) == (None, None, 10_000)
    # What ended before is no longer for it.
    queue = aggregate(table)[0].statistic("queue_ms")
    assert queue is not None
    assert (queue.n, queue.unanswered, queue.p95.value) == (560, 0, 1)
    # Without a time-out it is more than the largest that came.
    latency = aggregate(table)[0].statistic("latency_ms")
    assert latency is not None
    assert latency.p95.above == 41


def test_one_repetition_with_an_infinite_percentile_makes_it_infinite() -> None:
    rows = lossy(40, 560) + lossy(0, 600, 2) + lossy(0, 600, 3)
    latency = aggregate(samples.table(rows), answer_timeout=10)[0].statistic("latency_ms")
    assert latency is not None
    # The mean of three, of which one is at least 10 s.
    assert latency.p95.above == pytest.approx((10_000 + 2 * 41) / 3)
    assert latency.p95.value is None
    assert latency.p50.value == 41


def test_one_repetition_of_two_with_answers_has_no_interval_between_them() -> None:
    rows = lossy(0, 300) + [
        sample(number, repetition=2, status="lost", answered_ns=None) for number in range(300)
    ]
    latency = aggregate(samples.table(rows), answer_timeout=10)[0].statistic("latency_ms")
    assert latency is not None
    assert (latency.level, latency.repetitions, latency.unanswered) == ("repetitions", 2, 300)
    assert (latency.mean.value, latency.mean.low, latency.mean.high) == (41, None, None)
    assert (latency.p50.value, latency.p50.above) == (None, (41 + 10_000) / 2)


def test_records_of_earlier_versions_are_read() -> None:
    figure = {"value": 3.0, "low": 1.0, "high": 5.0}
    old = {"quantity": "latency_ms", "unit": "ms", "n": 9, "deviation": None}
    old |= dict.fromkeys(("mean", "p50", "p95", "p99"), figure)
    statistic = Statistic.model_validate(old)
    assert (statistic.level, statistic.repetitions, statistic.maximum) == ("", 0, None)
    assert statistic.p95.value == 3


def test_many_groups_are_all_there() -> None:
    rows = [
        sample(number, endpoint=f"endpoint-{endpoint}")
        for endpoint in range(40)
        for number in range(30)
    ]
    groups = aggregate(samples.table(rows))
    assert len(groups) == 42
    assert all(group.statistic("latency_ms") is not None for group in groups)
