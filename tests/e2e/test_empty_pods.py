"""The control plane's own benchmark on real clusters: every pod and its steps, and what goes wrong."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from clusters import Cluster
from run_reasons import defects, sentences

pytestmark = [pytest.mark.e2e, pytest.mark.cluster]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "empty-pods"
STEPS = ("intended_ns", "created_ns", "scheduled_ns", "sandbox_ns", "started_ns", "ready_ns")
NAME = "kubecontrol"
FIRST = (EXAMPLE / "kubecontrol.cfg", "--provider", "lxc")
"""A file of the first Continuum."""
SMALL = (
    *(*FIRST, "--set", "benchmark.workers_per_machine=3"),
    *("--set", "benchmark.empty.sleep_time=120 s"),
)
"""Six pods of the same."""


@pytest.fixture(scope="module")
def cluster(shared: Any) -> Cluster:
    shared("up", *FIRST)
    return Cluster(shared, NAME)


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "samples.parquet").to_pylist()
    return found


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def check(folder: Path, count: int, nodes: set[str]) -> None:
    run = record(folder)
    assert defects(run) == []
    assert (run["table"][0]["samples"], run["table"][0]["ok"]) == (count, count)
    for row in rows(folder):
        times = [row[name] for name in STEPS]
        assert all(before <= after for before, after in itertools.pairwise(times)), row
        assert any(time % 1_000_000_000 for time in times[1:])
    assert {row["node"] for row in rows(folder)} == nodes
    labels = [each["label"] for each in run["table"][0]["statistics"]]
    assert labels[0] == "asked to ready"
    assert len(labels) == len(STEPS)
    assert all(each["n"] == count for each in run["table"][0]["statistics"])
    noted = pq.read_table(folder / "resources.parquet").to_pylist()
    parts = {(each["machine"], each["part"]) for each in noted}
    assert parts >= {(node, part) for node in nodes for part in ("machine", "kubelet")}
    assert parts >= {("cloud-1", part) for part in ("machine", "kube-apiserver", "etcd")}
    assert (folder / "plots" / "pods-over-time.svg").is_file()


def test_the_example_brings_up_100_pods(continuum: Any, tmp_path: Path) -> None:
    ended = continuum("run", EXAMPLE / "experiment.toml", "--results", "out", "--down")
    check(tmp_path / "out", 100, {"cloud-2", "cloud-3", "cloud-4"})
    assert "100 of 100 pods ready" in ended.out


@pytest.mark.usefixtures("cluster")
def test_a_file_of_the_first_continuum_is_measured(shared: Any) -> None:
    ended = shared("run", *FIRST, "--results", "out-first")
    check(shared.folder / "out-first", 20, {"cloud-2", "cloud-3"})
    assert "unmodified Kubernetes" in ended.out + ended.err


def pods(cluster: Cluster) -> list[str]:
    names = ("get", "pods", "--namespace=continuum-pods", "--output=name")
    return [line for line in cluster.kubectl(*names).splitlines() if line.startswith("pod/")]


@pytest.mark.parametrize("deployment", ["pod", "container", "file", "call"])
def test_each_way_to_ask_for_pods(shared: Any, cluster: Cluster, deployment: str) -> None:
    out = f"out-{deployment}"
    setting = f"benchmark.empty.deployment={deployment}"
    repetitions = 2 if deployment == "pod" else 1
    settings = ("--set", setting, "--set", f"benchmark.repetitions={repetitions}")
    shared("run", *SMALL, "--results", out, *settings)
    check(shared.folder / out, 6 * repetitions, {"cloud-2", "cloud-3"})
    calls = {row["intended_ns"] for row in rows(shared.folder / out)}
    assert len(calls) == (6 if deployment == "call" else repetitions)
    until = time.monotonic() + 60
    while pods(cluster):
        assert time.monotonic() < until, "pods stay after the run"
        time.sleep(0.5)


def test_pods_without_a_node_are_samples_with_the_schedulers_reason(
    shared: Any, cluster: Cluster
) -> None:
    for node in ("cloud-2", "cloud-3"):
        cluster.kubectl("cordon", node)
    try:
        began = time.monotonic()
        settings = ("--set", "benchmark.empty.timeout=5 s")
        shared("run", *SMALL, "--results", "out-full", *settings, code=1)
        assert time.monotonic() - began < 60
    finally:
        for node in ("cloud-2", "cloud-3"):
            cluster.kubectl("uncordon", node)
    run = record(shared.folder / "out-full")
    assert run["status"] == "degraded"
    assert "6 of 6 pods found no node: 0/3 nodes are available" in sentences(run, "pods")[0]
    assert {row["status"] for row in rows(shared.folder / "out-full")} == {"lost"}


def test_an_interrupted_run_keeps_what_is_known_and_takes_its_pods_away(
    shared: Any, cluster: Cluster
) -> None:
    for node in ("cloud-2", "cloud-3"):
        cluster.kubectl("cordon", node)
    try:
        process = shared.start("run", *SMALL, "--results", "out-stopped")
        shared.until_step(process, NAME, "repetition 1")
        until = time.monotonic() + 60
        while len(pods(cluster)) < 6:
            assert time.monotonic() < until
        process.send_signal(signal.SIGINT)
        assert shared.end(process).code == 130
    finally:
        for node in ("cloud-2", "cloud-3"):
            cluster.kubectl("uncordon", node)
    assert record(shared.folder / "out-stopped")["status"] == "interrupted"
    assert len(rows(shared.folder / "out-stopped")) == 6
    until = time.monotonic() + 60
    while pods(cluster):
        assert time.monotonic() < until, "pods stay after the run"
        time.sleep(0.5)


@pytest.mark.parametrize("machine", ["cloud-3", "cloud-1"])
def test_a_machine_that_is_killed_ends_the_run_in_time(
    shared: Any, cluster: Cluster, machine: str
) -> None:
    shared("up", *SMALL)  # what was killed before
    until = time.monotonic() + 120
    while pods(cluster):  # what a run before this one could not take away
        assert time.monotonic() < until
        time.sleep(0.5)
    out = f"out-{machine}"
    settings = ("--set", "benchmark.empty.timeout=10 s", "--set", "benchmark.empty.pods=60")
    process = shared.start("run", *SMALL, "--results", out, *settings)
    shared.until_step(process, NAME, "repetition 1")
    until = time.monotonic() + 60
    while len(pods(cluster)) < 10:
        assert time.monotonic() < until
    kill(shared, machine)
    began = time.monotonic()
    ended = shared.end(process)
    assert ended.code == 1, ended.err
    assert time.monotonic() - began < 90
    run = record(shared.folder / out)
    assert run["status"] == "degraded"
    assert any(machine in reason for reason in sentences(run)), run["reasons"]
    assert len(rows(shared.folder / out)) == 60


def kill(line: Any, machine: str) -> None:
    folder = line.state / "continuum" / "deployments" / NAME / "machines"
    (name,) = [each.name for each in folder.iterdir() if each.name.endswith(f"-{machine}")]
    subprocess.run(["lxc-stop", "-k", "-P", folder, "-n", name], check=True, timeout=60)
