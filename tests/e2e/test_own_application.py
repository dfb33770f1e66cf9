"""Programs of one's own on real machines: several workers on one machine, endpoints that cannot be
dealt out evenly, less than one request a second, no warm-up, two repetitions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from canaries import holding, watched
from run_reasons import defects

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_own_programs_with_two_workers_on_a_machine_and_two_repetitions(
    continuum: Any, results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = "CANARY-own-1"
    monkeypatch.setenv("CONTINUUM_SET__BENCHMARK__COMMAND__ENVIRONMENT__API_TOKEN", canary)
    settings = {
        "benchmark.workers_per_machine": "2",
        "benchmark.repetitions": "2",
        "benchmark.frequency": "0.5 Hz",
        "benchmark.warmup": "0s",
        "benchmark.duration": "4s",
        "tiers.endpoint.machines": "3",
        "tiers.endpoint.memory": "256 MiB",
    }
    with watched(canary.encode()) as seen:
        continuum(
            "run",
            EXAMPLES / "own-application" / "experiment.toml",
            *("--results", "out", "--accept-links"),
            *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")),
        )
    assert seen == set()
    folders = (tmp_path / "out", continuum.state)
    assert [str(file) for each in folders for file in holding(each, canary.encode())] == []
    run = results()
    assert defects(run) == []
    samples = pq.read_table(tmp_path / "out" / "samples.parquet").to_pydict()
    assert set(samples["status"]) == {"ok"}
    assert set(samples["agrees"]) == {True}
    assert not any(samples["warmup"])
    rows = list(zip(samples["repetition"], samples["endpoint"], samples["worker"], strict=True))
    assert Counter(rows) == {
        (repetition, f"endpoint-{number}", worker): 2
        for repetition in (1, 2)
        for number, worker in ((1, "worker-1"), (2, "worker-2"), (3, "worker-1"))
    }
    said = continuum("logs", "own-application", "edge-1", "--unit", "continuum-worker-2")
    assert "Started" in said.out
    shown = continuum("report", "out")
    assert "report.html" in shown.out + shown.err


def test_two_workers_on_a_machine_classify_only_their_own_photos(
    continuum: Any, results: Any
) -> None:
    continuum(
        "run",
        EXAMPLES / "edge-offload" / "experiment.toml",
        *("--results", "out", "--down", "--accept-links"),
        *("--set", "benchmark.workers_per_machine=2"),
        *("--set", "benchmark.warmup=0s", "--set", "benchmark.duration=4s"),
        *("--set", "benchmark.frequency=2Hz", "--set", "benchmark.repetitions=1"),
        *("--set", "tiers.endpoint.machines=3", "--set", "tiers.endpoint.memory=512 MiB"),
    )
    run = results()
    assert defects(run) == []
    counted = {each["name"]: each["samples"] for each in run["table"] if each["kind"] == "worker"}
    assert counted == {"worker-1": 16, "worker-2": 8}
    # Each has 0.75 of the machine's 1.5 cores.
    assert [(each["servers"], each["arrivals"]) for each in run["loads"]] == [
        (2, 6),
        (1, 4),
        (1, 2),
    ]
    assert run["table"][0]["agreed"] == run["table"][0]["judged"]
