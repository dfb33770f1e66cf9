"""Metrics on real machines: what is collected, and what happens when that fails in mid-run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from run_reasons import defects, sentences

EXPERIMENT = """\
name = "e2e-observed"

[tiers.cloud]
machines = 1
memory = "512 MiB"

[tiers.edge]
machines = 1
memory = "1 GiB"

[tiers.endpoint]
machines = 1
memory = "512 MiB"

[software]
observability = true

[benchmark]
application = "image_classification"
frequency = "5 Hz"
warmup = "2 s"
duration = "14 s"
"""

DATA = "/var/lib/prometheus/metrics2"
UNHEALTHY = """\
import json, sys, time, urllib.request
with open("/etc/prometheus/continuum.json") as file:
    jobs = json.load(file)["scrape_configs"]
(address,) = [
    static["targets"][0]
    for job in jobs
    for static in job.get("static_configs", ())
    if static["labels"]["job"] == "prometheus"
]
until = time.monotonic() + 20
while True:
    with urllib.request.urlopen(f"http://{address}/api/v1/targets", timeout=5) as answer:
        targets = json.load(answer)["data"]["activeTargets"]
    bad = [(each["labels"], each["lastError"]) for each in targets if each["health"] != "up"]
    # Those of a run's own pages go when it is over.
    if (not bad and len(targets) == 8) or time.monotonic() > until:
        break
    time.sleep(1)
print(json.dumps({"targets": len(targets), "bad": bad}))
"""

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def observed(shared: Any) -> Any:
    """A command line whose folder holds the experiment, which is up."""
    (shared.folder / "experiment.toml").write_text(EXPERIMENT)
    shared("up", "experiment.toml")
    return shared


def on(line: Any, *arguments: str, code: int | None = 0) -> str:
    said: str = line("exec", "e2e-observed", "cloud-1", "--", *arguments, code=code).out
    return said


def outcome(line: Any, name: str) -> tuple[dict[str, Any], Path]:
    folder = line.folder / name
    run: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return run, folder


def all_answered(run: dict[str, Any], seconds: int) -> bool:
    everything = run["table"][0]
    return bool(everything["samples"] == everything["ok"] == 5 * seconds)


def test_a_run_leaves_what_was_seen_of_every_machine(observed: Any) -> None:
    observed("run", "experiment.toml", "--results", "whole")
    run, folder = outcome(observed, "whole")
    assert defects(run) == []
    table = pq.read_table(folder / "series.parquet").to_pylist()
    machines = {"cloud-1", "edge-1", "endpoint-1"}
    for name in (
        "continuum_machine_cpu_seconds_total",
        "continuum_machine_memory_bytes",
        "node_network_receive_bytes_total",
    ):
        assert {row["machine"] for row in table if row["series"] == name} == machines, name
    seen = {row["series"]: row for row in table}
    for name in (
        "continuum_answers_total",
        "continuum_processing_seconds_count",
        "continuum_queue_requests",
        "continuum_requests_total",
        "continuum_requests_waiting",
        "continuum_run_phase",
        "mosquitto_messages_received_total",
        "mosquitto_up",
    ):
        assert name in seen, sorted(seen)
    answers = [row["value"] for row in table if row["series"] == "continuum_answers_total"]
    assert max(answers) > 40
    assert 'id="machines-over-time' in (folder / "report.html").read_text()
    told = json.loads(on(observed, "python3", "-c", UNHEALTHY))
    assert told == {"targets": 8, "bad": []}


def during(line: Any, name: str, seconds: int, *arguments: str) -> dict[str, Any]:
    """A run, and a command on the observing machine once requests are made."""
    longer = ("--set", f"benchmark.duration={seconds}s")
    process = line.start("run", "experiment.toml", "--results", name, *longer)
    phase = "until grep -qs load /var/lib/continuum/observability/run.prom; do sleep 0.3; done"
    on(line, "timeout", "60", "sh", "-c", phase)
    on(line, *arguments)
    ended = line.end(process)
    assert ended.code == 1, ended.err
    run, _ = outcome(line, name)
    assert run["status"] == "degraded"
    assert all_answered(run, seconds), run["table"][0]
    return run


def test_prometheus_that_is_gone_costs_series_and_no_sample(observed: Any) -> None:
    run = during(observed, "gone", 8, "systemctl", "stop", "prometheus.service")
    on(observed, "systemctl", "start", "prometheus.service")
    (reason,) = sentences(run, "observability")
    assert "no series" in reason
    assert "Prometheus on cloud-1 does not answer" in reason


def test_prometheus_that_was_away_leaves_a_gap_that_is_told(observed: Any) -> None:
    away = "systemctl stop prometheus.service; sleep 17; systemctl start prometheus.service"
    run = during(observed, "away", 24, "sh", "-c", away)
    # How much of the run it sees at all depends on when it is back: that is told either way.
    assert all(reason.startswith("no series ") for reason in sentences(run, "observability")), run[
        "reasons"
    ]


def test_a_full_disk_on_the_control_machine_costs_series_and_no_sample(observed: Any) -> None:
    # A disk of its own, so that the host's is not filled.
    small = "mount -t tmpfs -o size=8m,mode=0777 none"
    on(
        observed,
        *("sh", "-c"),
        f"systemctl stop prometheus.service && {small} {DATA}"
        " && systemctl start prometheus.service",
    )
    fill = f"dd if=/dev/zero of={DATA}/full bs=64k 2>&1; df {DATA}"
    try:
        run = during(observed, "full", 24, "sh", "-c", fill)
    finally:
        on(
            observed,
            *("sh", "-c"),
            f"systemctl stop prometheus.service; umount {DATA}; systemctl start prometheus.service",
        )
    assert any("no series" in reason for reason in sentences(run)), run["reasons"]
