"""The load of workers, from samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest

from continuum.benchmark import samples as tables
from continuum.benchmark.loads import loads
from continuum.benchmark.results import LoadRecord, Run
from continuum.report.loads import of, sentence
from made_up_runs import MadeUp

SECOND = 10**9


def table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    return tables.table(rows, pa.schema([]))


def answered(
    number: int, worker: str = "worker-1", repetition: int = 1, service_ms: float = 80
) -> dict[str, Any]:
    """A request of ten a second, from the endpoint of its worker."""
    due = number * SECOND // 10
    return {
        "run": "r",
        "repetition": repetition,
        "warmup": False,
        "endpoint": f"endpoint-of-{worker}",
        "worker": worker,
        "sequence": number,
        "status": "ok",
        "intended_ns": due,
        "started_ns": due + SECOND,
        "finished_ns": due + SECOND + round(service_ms * 1e6),
        "answered_ns": due + 2 * SECOND,
    }


def test_arrivals_times_service_over_servers() -> None:
    rows = [answered(number, repetition=each) for number in range(100) for each in (1, 2)]
    whole, worker = loads(table(rows), {"worker-1": 2}, 10.0)
    assert worker.load is not None
    assert worker.load == pytest.approx(0.4)
    assert (worker.name, worker.servers, worker.arrivals) == ("worker-1", 2, 10.0)
    assert worker.service_ms == pytest.approx(80.0)
    assert whole == worker.model_copy(update={"name": "all"})


def test_workers_have_loads_of_their_own_and_one_together() -> None:
    rows = [answered(number) for number in range(100)]
    rows += [answered(number, "worker-2", service_ms=20) for number in range(50)]
    whole, first, second = loads(table(rows), {"worker-1": 1, "worker-2": 3}, 10.0)
    assert first.load == pytest.approx(0.8)
    assert second.load == pytest.approx(5 * 0.02 / 3)
    assert whole.servers == 4
    assert whole.load == pytest.approx((0.8 + 5 * 0.02) / 4)


def test_all_that_was_due_arrived_but_only_what_was_processed_tells_the_service() -> None:
    rows = [{**answered(number), "warmup": number < 20} for number in range(60)]
    late = {"status": "timeout"}
    rows += [{**answered(number, service_ms=180), **late} for number in range(60, 100)]
    refused = {"status": "error"}
    rows += [{**answered(number, service_ms=0), **refused} for number in range(100, 110)]
    nothing = {"status": "lost", "started_ns": None, "finished_ns": None, "answered_ns": None}
    rows += [{**answered(number), **nothing} for number in range(110, 120)]
    _, worker = loads(table(rows), {"worker-1": 1}, 10.0)
    assert worker.arrivals == 10.0
    assert worker.service_ms == pytest.approx((40 * 80 + 40 * 180) / 80)


def test_what_is_not_known_leaves_no_load() -> None:
    rows = [answered(0), {**answered(1, "worker-2"), "started_ns": None}]
    whole, first, second = loads(table(rows), {"worker-2": 2}, 1.0)
    assert (first.servers, first.load) == (None, None)
    assert (second.servers, second.service_ms, second.load) == (2, None, None)
    assert (whole.servers, whole.service_ms, whole.load) == (None, 80.0, None)
    assert loads(table([{**answered(0), "warmup": True}]), {}, 1.0) == ()


def test_an_interrupted_repetition_lasted_until_its_last_request() -> None:
    rows = [answered(number) for number in range(100)]
    rows += [answered(number, repetition=2) for number in range(51)]
    _, worker = loads(table(rows), {"worker-1": 1}, 10.0, interrupted=True)
    assert worker.arrivals == pytest.approx(151 / 15)


# -- in words --------------------------------------------------------------------------------------


def run_with(loads_of: tuple[LoadRecord, ...], arrivals: object = "poisson") -> Run:
    made = MadeUp()
    return made.run(made.table()).model_copy(
        update={"loads": loads_of, "experiment": {"benchmark": {"arrivals": arrivals}}}
    )


LOAD = LoadRecord(name="all", servers=2, arrivals=10.0, service_ms=83.5, load=0.4175)


def test_the_load_is_told_with_what_it_is_made_of() -> None:
    run = run_with((LOAD, LOAD.model_copy(update={"name": "worker-1"})))
    assert sentence(run) == (
        "Arrivals: Poisson; load of the workers: 0.417 (10.00 requests/s × 83.50 ms / 2 at a time)."
    )
    assert of(run, "worker-1") == "0.417"
    assert of(run, "all") == of(run, "worker-2") == "–"


def test_what_is_not_known_of_a_load_is_said() -> None:
    unknown = LoadRecord(name="all", arrivals=10.0)
    run = run_with((unknown,) * 3, {"file": "/a/arrivals.csv"})
    assert sentence(run) == (
        "Arrivals: from a file (/a/arrivals.csv); "
        "load of the workers: not known (10.00 requests/s)."
    )
    assert sentence(run_with((), None)) == ""
