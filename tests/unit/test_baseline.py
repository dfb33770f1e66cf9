"""What programs add where no link is crossed: who measures it, when, and what comes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from continuum.benchmark import baseline
from continuum.benchmark.applications.image_classification import ImageClassification
from continuum.benchmark.applications.image_classification.application import (
    ImageClassificationSettings,
)
from continuum.benchmark.configure import BenchmarkPlan, configure
from continuum.benchmark.results import Baseline
from continuum.experiment.model import Experiment
from continuum.infrastructure.configure import Surroundings
from continuum.infrastructure.configure import configure as infrastructure


def plan_of(**benchmark: Any) -> BenchmarkPlan:
    asked = Experiment.model_validate(
        {
            "name": "sample",
            "tiers": {
                "edge": {"machines": 2, "cores": 1, "quota": 0.25, "memory": "1 GiB"},
                "endpoint": {"machines": 4, "cores": 1, "quota": 0.5, "memory": "2 GiB"},
            },
            "benchmark": {
                "application": "image_classification",
                "workers": "edge",
                "duration": "60 s",
                **benchmark,
            },
        }
    )
    surroundings = Surroundings("sample", "0badcafe", "image", 2)
    application = ImageClassification(ImageClassificationSettings())
    return configure(asked, infrastructure(asked, surroundings, {}), application)


def test_an_endpoint_runs_beside_the_first_worker_with_no_more_than_that_machine_has() -> None:
    plan = plan_of()
    assert plan.baseline is not None
    endpoint, load = plan.baseline.endpoint, plan.baseline.load
    worker, process = plan.workers[0]
    assert (endpoint.worker, endpoint.machine, endpoint.address) == (
        worker,
        worker.machine,
        worker.address,
    )
    assert (endpoint.cpu, endpoint.memory) == (0.25, 2**30)
    # As many as the worker's two endpoints make, for 3 s.
    assert (load.frequency, load.requests[1]) == (10.0, 30)
    # The worker knows where to send its answers; the other worker need not.
    (config,) = process.files.values()
    assert json.loads(config)["answer_topics"]["5"] == "continuum/baseline/answers"
    (other,) = plan.workers[1][1].files.values()
    assert set(json.loads(other)["answer_topics"]) == {"2", "4"}
    assert plan.baseline.process.name not in {
        each.process.name for repetition in plan.repetitions for each in repetition
    }


@pytest.mark.parametrize(
    ("benchmark", "requests"),
    [
        ({"duration": "19 s"}, None),
        ({"duration": "20 s"}, 10),
        ({"duration": "20 s", "repetitions": 3}, 30),
        ({"duration": "1 h", "frequency": "50 Hz"}, 60),
        ({"workers": "endpoint"}, None),
    ],
)
def test_it_takes_a_small_share_of_the_run_and_a_short_one_has_none(
    benchmark: dict[str, Any], requests: int | None
) -> None:
    plan = plan_of(**benchmark)
    found = plan.baseline.load.requests[1] if plan.baseline else None
    assert found == requests


def sample(forward_ms: float, back_ms: float, **changes: Any) -> dict[str, Any]:
    finished = 10**18 + 10**9
    return {
        "status": "ok",
        "warmup": False,
        "sent_ns": 10**18,
        "received_ns": 10**18 + round(forward_ms * 1e6),
        "finished_ns": finished,
        "answered_ns": finished + round(back_ms * 1e6),
        **changes,
    }


def test_mean_and_deviation_of_what_was_answered_after_the_warm_up() -> None:
    samples = [sample(0.4, 1.0), sample(0.6, 1.0)] * 10
    samples += [sample(99, 99, warmup=True), sample(99, 99, status="timeout")]
    forward, back = baseline.summary(samples)
    assert forward == Baseline(quantity="forward_ms", n=20, mean=0.5, deviation=0.1026)
    assert (back.quantity, back.mean, back.deviation) == ("return_ms", 1.0, 0.0)
    assert baseline.summary(samples[:9]) == []
    assert baseline.summary([{**each, "received_ns": None} for each in samples])[0] == back
