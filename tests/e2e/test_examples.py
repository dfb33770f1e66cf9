"""The examples on real machines: a report whose figures are as expected, on a host that is quiet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from continuum.benchmark.samples import deciding_links, read_links
from short_examples import EXAMPLES, check_run, run_example

pytestmark = [pytest.mark.e2e, pytest.mark.measures]


@pytest.mark.parametrize(
    "name", ["edge-offload", "cloud-offload", "endpoint-only", "observed-offload"]
)
def test_plain_machines(continuum: Any, tmp_path: Path, name: str) -> None:
    short = ("benchmark.warmup=1s", "benchmark.duration=8s", "benchmark.repetitions=1")
    _, said = run_example(continuum, name, 40, *short)
    assert "report.html" in said
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    if name != "endpoint-only":
        rows = deciding_links(read_links(tmp_path / "out" / "links.parquet"))
        assert all(row["ok"] for row in rows)
        assert {row["quantity"] for row in rows} >= {"delay_ms", "jitter_ms", "rate_mbit"}


@pytest.mark.cluster
def test_a_cluster(continuum: Any) -> None:
    short = ("benchmark.warmup=2s", "benchmark.duration=6s")
    run, _ = run_example(continuum, "kubernetes-cloud", 30, *short)
    assert run["table"][0]["samples"] == 60
    # The cluster is gone by now.
    assert {"logs/machines/cloud-1.log", "logs/machines/endpoint-1.log"} < set(run["logs"])
    assert any(name.startswith("logs/pods/kube-system_coredns") for name in run["logs"])


def test_a_file_of_the_first_continuum_runs_on_containers(continuum: Any, results: Any) -> None:
    continuum(
        "run",
        EXAMPLES / "legacy-mist" / "mist.cfg",
        "--provider",
        "lxc",
        "--results",
        "out",
        "--down",
        "--set",
        "benchmark.duration=5s",
        "--accept-links",
    )
    run = results()
    check_run(run, 50)
    assert {endpoint["worker"] for endpoint in run["endpoints"]} == {"worker-1", "worker-2"}
    # As there, all cores of a worker's machine work.
    cores = {machine["name"]: machine["cores"] for machine in run["machines"]}
    assert all(worker["servers"] == cores[worker["machine"]] for worker in run["workers"])
    assert [each["name"] for each in run["loads"]] == ["all", "worker-1", "worker-2"]
    assert all(each["load"] > 0 for each in run["loads"])
