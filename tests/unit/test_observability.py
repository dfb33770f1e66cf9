"""The service `observability`: what is configured where, and what a run tells and takes home."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from continuum.benchmark import observation
from continuum.benchmark.applications.image_classification import ImageClassification
from continuum.benchmark.applications.image_classification.application import (
    ImageClassificationSettings,
)
from continuum.benchmark.configure import METRICS_PORT
from continuum.benchmark.configure import configure as benchmark_configure
from continuum.benchmark.samples import read_series, write_series
from continuum.experiment.model import Benchmark, Experiment, Software, Tier
from continuum.images.recipe import Recipe
from continuum.software.configure import ROLES, SoftwarePlan, configure
from continuum.software.services import observability, scraping
from continuum.testing.software import small_plan
from continuum_runtime import configured_units, exporter, metrics
from continuum_runtime.metrics_pages import server
from continuum_runtime.resources import Usage


def experiment(**software: Any) -> Experiment:
    return Experiment(
        name="test",
        tiers={"endpoint": Tier(machines=2), "cloud": Tier(), "edge": Tier()},
        software=Software(**{"observability": True, **software}),
        benchmark=Benchmark(application="image_classification", workers_per_machine=2),
    )


def planned(what: Experiment) -> SoftwarePlan:
    return configure(what, small_plan(what), {"mqtt": ("edge-1",)})


def units(machine: str) -> dict[str, dict[str, Any]]:
    (play,) = [each for each in planned(experiment()).plays if each.role == "observability"]
    return {each["unit"]: each for each in play.per_machine[machine]["observability_units"]}


def prometheus() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(
        units("cloud-1")[observability.PROMETHEUS]["files"][observability.CONFIGURATION]
    )
    return told


def test_the_clouds_first_machine_observes_else_the_first_of_all() -> None:
    assert experiment().observing_machine == "cloud-1"
    assert experiment(observability=False).observing_machine is None
    assert experiment(observability=False, services=("observability",)).observed
    no_cloud = Experiment(name="t", tiers={"edge": Tier()}, software=Software(observability=True))
    assert no_cloud.observing_machine == "edge-1"


def test_only_the_observing_machine_runs_prometheus() -> None:
    assert None in units("edge-1")[observability.PROMETHEUS]["files"].values()
    assert None not in units("cloud-1")[observability.PROMETHEUS]["files"].values()


def test_what_is_written_goes_from_machines_that_stay() -> None:
    """By its name, else because the trees tell of it."""
    trees = Recipe.collect(observability.Observability().install()).trees
    traces = {trace for tree in trees for trace in tree.traces}
    files = {path for each in units("cloud-1").values() for path in each["files"]}
    assert {path for path in files if not Path(path).name.startswith("continuum.")} < traces
    assert f"{observability._DATA}/*" in traces


def test_every_machine_is_asked_and_known_by_its_name() -> None:
    found = {
        (static["labels"]["job"], static["labels"]["machine"], *static["targets"])
        for job in prometheus()["scrape_configs"]
        for static in job.get("static_configs", ())
    }
    addresses = {spec.name: spec.address for spec in small_plan(experiment()).machines}
    wanted = {
        ("machines", name, f"{address}:{port}")
        for name, address in addresses.items()
        for port in (9100, 9101)
    }
    wanted |= {
        ("broker", "edge-1", f"{addresses['edge-1']}:9101"),
        ("prometheus", "cloud-1", f"{addresses['cloud-1']}:9090"),
    }
    assert found == wanted


def test_jobs_have_names_of_their_own_and_look_often_enough() -> None:
    told = prometheus()
    names = [job["job_name"] for job in told["scrape_configs"]]
    assert len(names) == len(set(names))
    assert scraping.INTERVAL <= 5
    assert told["global"]["scrape_interval"] == f"{scraping.INTERVAL}s"


def test_the_broker_tells_of_itself_only_where_somebody_listens() -> None:
    for what, interval in ((experiment(), 5), (experiment(observability=False), 0)):
        (play,) = [each for each in planned(what).plays if each.role == "mqtt"]
        assert play.variables["mqtt_status_interval"] == interval
    template = (ROLES / "mqtt/templates/mosquitto.conf.j2").read_text()
    assert "sys_interval {{ mqtt_status_interval }}" in template


def test_each_process_has_a_port_of_its_own_on_its_machine() -> None:
    what = experiment()
    application = ImageClassification(ImageClassificationSettings())
    plan = benchmark_configure(what, small_plan(what), application)
    workers = {process.name: process.metrics_port for _, process in plan.workers}
    endpoints = [each.process.metrics_port for each in plan.repetitions[0]]
    assert workers == {"worker-1": METRICS_PORT, "worker-2": METRICS_PORT + 1}
    assert endpoints == [METRICS_PORT, METRICS_PORT]
    without = benchmark_configure(experiment(observability=False), small_plan(what), application)
    assert {process.metrics_port for _, process in without.workers} == {None}
    assert all(b"metrics_port" not in text for _, p in without.workers for text in p.files.values())


def test_units_are_started_again_only_where_a_file_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "a" / "file")
    assert configured_units.put({path: "one"}, [str(tmp_path / "folder")])
    assert not configured_units.put({path: "one"}, [])
    assert (tmp_path / "folder").is_dir()
    assert configured_units.put({path: None}, [])
    assert not configured_units.put({path: None}, [])
    assert configured_units.verb("x", changed=True, wanted=True) == "restart"
    assert configured_units.verb("x", changed=True, wanted=False) == "stop"
    assert configured_units.verb("x", changed=False, wanted=False) == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "systemctl").chmod(0o755)
    assert configured_units.verb("x", changed=False, wanted=True) == "start"


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_a_worker_counts_what_it_answered() -> None:
    told = metrics.WorkerMetrics()
    told.answered(ok=True, processing_ns=30_000_000)
    told.answered(ok=False, processing_ns=0)
    assert value(told.registry, "continuum_answers_total", status="ok") == 1
    assert value(told.registry, "continuum_answers_total", status="error") == 1
    assert value(told.registry, "continuum_processing_seconds_sum") == pytest.approx(0.03)
    assert value(told.registry, "continuum_processing_seconds_bucket", le="0.02") == 1


def test_an_endpoint_counts_what_ended() -> None:
    told = metrics.EndpointMetrics()
    told.ended("ok", 100_000_000)
    told.ended("lost", None)
    assert value(told.registry, "continuum_requests_total", status="lost") == 1
    assert value(told.registry, "continuum_request_latency_seconds_count") == 1


def test_pages_answer_by_path(capsys: pytest.CaptureFixture[str]) -> None:
    config = exporter.Config("127.0.0.1", 0, 1.5, 2**30, None)
    collector = exporter.MachineCollector(config, lambda: Usage(2_500_000_000, 7))
    listening = server("127.0.0.1", 0, {"/metrics": exporter.registry(collector)})
    port = listening.server_port
    import threading

    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/other", timeout=5)
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
    samples = {each.name: each.value for family in families for each in family.samples}
    assert samples["continuum_machine_cpu_seconds_total"] == 2.5
    assert samples["continuum_machine_memory_bytes"] == 7
    assert capsys.readouterr().err == ""


def test_a_port_that_is_taken_costs_figures_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listening = server("", 0, {})
    try:
        metrics.serve(CollectorRegistry(), listening.server_port)
    finally:
        listening.server_close()
    assert "no figures on port" in capsys.readouterr().err


def up(machine: str, *seen: float, job: str = "machines", good: float = 1) -> list[dict[str, Any]]:
    labels = json.dumps({"job": job, "instance": f"{machine}:9100"})
    about = {"series": "up", "machine": machine, "tier": "edge", "labels": labels}
    return [{**about, "time_ns": round(at * 1e9), "value": good} for at in seen]


def test_what_was_seen_all_along_lacks_nothing() -> None:
    rows = up("a", *range(3, 60, 5)) + up("b", *range(1, 60, 5))
    assert observation.gaps(rows, 0.0, 60.0) == []


def test_a_gap_is_told_once_for_all_that_it_concerns() -> None:
    seen = [3, 8, 13, 48, 53, 58]
    (told,) = observation.gaps(up("a", *seen) + up("b", *seen), 0.0, 60.0)
    assert "machines of a" in told
    assert "machines of b" in told
    assert "15 s to 45 s" in told


def test_a_machine_that_was_not_looked_at_once_is_named() -> None:
    (told,) = observation.gaps(up("a", 1.0, 14.0), 0.0, 28.0, ("a", "b"))
    assert told.endswith("after the start: machines of b")


def test_who_did_not_answer_was_not_seen_and_processes_may_end() -> None:
    rows = up("a", *range(1, 60, 5)) + up("b", *range(1, 60, 5), good=0)
    rows += up("a", 20, 25, job="application")
    (told,) = observation.gaps(rows, 0.0, 60.0)
    assert "machines of b" in told
    assert "machines of a" not in told
    assert observation.gaps([], 0.0, 9.0) == [
        "no series of any machine: Prometheus saw none in this run"
    ]


def test_the_phase_is_text_that_prometheus_reads() -> None:
    (family,) = text_string_to_metric_families(observation.phase_text("run-1", 2, "load"))
    (sample,) = family.samples
    assert sample.name == "continuum_run_phase"
    assert sample.labels == {"run": "run-1", "repetition": "2", "phase": "load"}
    assert observation.phase_text("run-1", 0, "") == ""


def test_an_answer_becomes_rows_that_parquet_keeps(tmp_path: Path) -> None:
    metric = {"__name__": "up", "machine": "a", "tier": "edge", "job": "machines"}
    result = [{"metric": metric, "values": [[1700000000.25, "1"], [1700000005.25, "NaN"]]}]
    answer = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    rows = list(observation.parse(json.dumps(answer).encode()))
    write_series(tmp_path / "series.parquet", rows)
    table = read_series(tmp_path / "series.parquet")
    assert table["time_ns"].to_pylist() == [1700000000250000000, 1700000005250000000]
    assert json.loads(table["labels"][0].as_py()) == {"job": "machines"}
    answer["data"] = {"resultType": "vector", "result": []}
    with pytest.raises(ValueError, match="no window"):
        list(observation.parse(json.dumps(answer).encode()))


def test_generated_text_has_the_agreed_names() -> None:
    text = generate_latest(metrics.EndpointMetrics().registry).decode()
    text += generate_latest(metrics.WorkerMetrics().registry).decode()
    for name in (
        "continuum_requests_total",
        "continuum_request_latency_seconds_bucket",
        "continuum_requests_waiting",
        "continuum_answers_total",
        "continuum_processing_seconds_bucket",
        "continuum_queue_requests",
    ):
        assert f"\n{name}" in text


def test_targets_are_known_by_machine_tier_and_process() -> None:
    spec = replace(small_plan(experiment()).machines[0], name="edge-9", tier="edge")
    (told,) = scraping.files_of_targets([("worker-1", spec, 9110)])
    assert told["targets"] == [f"{spec.address}:9110"]
    assert told["labels"] == {
        "job": "application",
        "machine": "edge-9",
        "tier": "edge",
        "process": "worker-1",
    }


def test_a_clusters_figures_are_asked_for_with_a_token() -> None:
    what = experiment(manager="kubernetes", execution_model="container")
    plan = configure(what, small_plan(what), {"mqtt": ("edge-1",)})
    roles = [play.role for play in plan.plays]
    assert roles.index("kubernetes_control") < roles.index("kubernetes_metrics")
    assert roles.index("kubernetes_metrics") < roles.index("observability")
    play = plan.plays[roles.index("observability")]
    (told,) = [
        each["files"][observability.CONFIGURATION]
        for each in play.per_machine["cloud-1"]["observability_units"]
        if each["unit"] == observability.PROMETHEUS
    ]
    jobs = json.loads(told)["scrape_configs"]
    # Prometheus refuses a name that is there twice.
    assert len({job["job_name"] for job in jobs}) == len(jobs)
    known = {
        (static["labels"]["job"], static["labels"]["machine"])
        for job in jobs
        for static in job.get("static_configs", ())
    }
    assert {("kubelet", "cloud-1"), ("cadvisor", "edge-1"), ("kubernetes", "cloud-1")} <= known
    for job in jobs:
        files = job.get("authorization", {}).get("credentials_file")
        assert (files == observability.TOKEN) == (job.get("scheme") == "https")


def test_a_pod_gives_its_figures_on_its_machine() -> None:
    from continuum.software.contract import ProcessSpec
    from continuum.software.execution_models.pod import deployment

    made = deployment(ProcessSpec("worker-1", "edge-1", ("true",), metrics_port=9110))
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"containerPort": 9110, "hostPort": 9110}]
