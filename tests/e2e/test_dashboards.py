"""Every question of every dashboard has an answer, from the Prometheus of a deployment after a run;
and the ways to it by `continuum open`."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from continuum.software.services import grafana
from dashboard_queries import answer, without_answer
from run_reasons import defects

pytestmark = pytest.mark.e2e

EXAMPLE = (
    Path(__file__).resolve().parents[2] / "examples" / "observed-kubernetes" / "experiment.toml"
)

EXPERIMENT = """
name = "{name}"

[infrastructure]
provider = "lxc"

[tiers.cloud]
machines = 1
cores = 1
memory = "2 GiB"

[tiers.edge]
machines = 1
cores = 1
memory = "1 GiB"

[tiers.endpoint]
machines = 1
cores = 1
memory = "512 MiB"

[software]
observability = true

[benchmark]
application = "image_classification"
workers = "edge"
frequency = "5 Hz"
warmup = "5 s"
duration = "25 s"
"""
WINDOW = 180.0
"""Seconds that lead back to before the run."""


@contextmanager
def opened(continuum: Any, *arguments: str) -> Iterator[str]:
    """The address that `continuum open` tells; it must end with Ctrl-C, and well."""
    process = continuum.start("open", *arguments, "--json", "--wait", "30")
    text = ""
    while True:
        line = process.stdout.readline()
        text += line
        if not line or line.startswith("}"):
            break
    try:
        if not text:
            raise AssertionError(continuum.end(process).err)
        yield json.loads(text)["url"]
    finally:
        process.send_signal(signal.SIGINT)
        ended = continuum.end(process)
    assert ended.code == 0, ended.err


def write(folder: Path, name: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(EXPERIMENT.format(name=name))
    return path


@pytest.fixture(scope="module")
def observed(shared: Any) -> Any:
    """A deployment `seen` on plain machines, after a run."""
    shared("run", write(shared.folder, "seen"), "--results", "seen-out", "--accept-links")
    return shared


def test_every_query_is_answered_on_plain_machines(observed: Any) -> None:
    with opened(observed, "prometheus", "seen") as server:
        assert without_answer(server, "none", WINDOW) == []


def test_all_targets_of_the_machines_are_up(observed: Any) -> None:
    with opened(observed, "prometheus", "seen") as server:
        series = answer(server, 'up{job="machines"}', 30)
    assert {each["metric"]["machine"] for each in series} == {"cloud-1", "edge-1", "endpoint-1"}
    assert all(each["values"][-1][1] == "1" for each in series)


def test_a_port_that_is_taken_is_gone_around(observed: Any) -> None:
    prometheus = ("prometheus", "seen")
    with opened(observed, *prometheus) as first, opened(observed, *prometheus) as second:
        assert first != second
        assert answer(second, "up", 30)


@pytest.mark.skipif(grafana.is_here(), reason="Grafana can be had here")
def test_grafana_that_cannot_be_had_is_one_line_and_no_more(observed: Any) -> None:
    ended = observed("up", write(observed.folder, "seen"))
    assert "Grafana" not in ended.err.replace("nothing was changed", "")
    assert "continuum open prometheus seen" in ended.err
    planned = observed("plan", write(observed.folder, "seen"))
    assert (planned.out + planned.err).count("Grafana is left out") == 1
    refused = observed("open", "grafana", "seen", code=3)
    assert "Grafana is not on cloud-1" in refused.err


def test_prometheus_that_is_down_is_told_with_its_state(observed: Any) -> None:
    stop = ("exec", "seen", "cloud-1", "--", "systemctl", "stop", "prometheus")
    observed(*stop)
    try:
        refused = observed("open", "prometheus", "seen", "--wait", "1", code=1)
    finally:
        observed("exec", "seen", "cloud-1", "--", "systemctl", "start", "prometheus")
    assert "Prometheus on cloud-1 does not answer" in refused.err
    assert "inactive (dead)" in refused.err


def test_a_machine_that_goes_ends_the_tunnel(observed: Any) -> None:
    """The last test of this deployment: its machine is stopped under it."""
    process = observed.start("open", "prometheus", "seen")
    assert process.stdout.readline().startswith("http://localhost:")
    # SSH takes its leave of everybody when a machine goes down.
    observed("exec", "seen", "cloud-1", "--", "systemctl", "--no-block", "poweroff")
    ended = observed.end(process)
    assert ended.code == 4
    assert "cloud-1" in ended.err
    deadline = time.monotonic() + 60
    while observed("open", "prometheus", "seen", "--wait", "1", code=None).code != 4:
        assert time.monotonic() < deadline


@pytest.mark.cluster
@pytest.mark.slow
def test_every_query_is_answered_on_kubernetes(
    continuum: Any, results: Any, tmp_path: Path
) -> None:
    continuum(
        "run", EXAMPLE, "--results", "out", "--accept-links", "--set", "benchmark.duration=25s"
    )
    run = results()
    assert defects(run) == []
    assert run["table"][0]["ok"] == run["table"][0]["samples"] == 250
    series = pq.read_table(tmp_path / "out" / "series.parquet")["series"].unique().to_pylist()
    assert {"container_cpu_usage_seconds_total", "continuum_answers_total"} <= set(series)
    with opened(continuum, "prometheus", "observed-kubernetes") as server:
        assert without_answer(server, "kubernetes", WINDOW) == []
