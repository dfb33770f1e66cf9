"""A cluster on machines of this host: nodes, pods, services, links, changes, a run, and faults."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from clusters import REPLY, Cluster, server, service
from clusters import pod as made_pod
from continuum import existing
from continuum.events import Events
from continuum.experiment.load import load_text
from continuum.machine import Machine
from continuum.software.contract import ProcessSpec
from continuum.software.execution_models.container import Container
from continuum.software.execution_models.pod import OURS
from continuum.software.serverless.names import FUNCTIONS
from continuum.testing.software import ExecutionModelContract
from run_reasons import defects, sentences
from waiting import await_load

pytestmark = [pytest.mark.e2e, pytest.mark.cluster]

NAME = "kube"
NODES = ("cloud-1", "cloud-2", "edge-1")
DELAY_MS = 20.0
EXPERIMENT = f"""
name = "{NAME}"

[tiers.cloud]
machines = 2
cores = 4                  # more than small hosts have
memory = "2 GiB"

[tiers.edge]
cores = 1
quota = 0.5
memory = "1 GiB"

[tiers.endpoint]
machines = 2
memory = "512 MiB"

[network]
[[network.links]]
between = ["cloud", "endpoint"]
delay = "{DELAY_MS:g} ms"

[software]
manager = "kubernetes"
execution_model = "container"

[benchmark]
application = "image_classification"
workers = "cloud"
workers_per_machine = 2
warmup = "1 s"
duration = "6 s"
answer_timeout = "2 s"
"""
LONGER = 10
BROKEN = 2 * 5 * LONGER
"""Requests of both endpoints, without those of the warm-up, in a run that something is broken in."""


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Cluster:
    """A pod on each node, called as its machine, and a service that edge-1's answers."""
    image = cluster.image()
    cluster.apply(*(server(each, each, image) for each in NODES), service("hello", "edge-1"))
    return cluster


# -- what a cluster is ---------------------------------------------------------------------------


def test_all_nodes_are_ready_and_nothing_was_started_twice(cluster: Cluster) -> None:
    assert cluster.nodes() == dict.fromkeys(NODES, True)
    system = cluster.get("pods", "--namespace=kube-system")
    assert len(system) == 5
    for pod in system:
        assert pod["status"]["phase"] == "Running"
        assert [each["restartCount"] for each in pod["status"]["containerStatuses"]] == [0]


def test_a_node_offers_its_machines_size(cluster: Cluster) -> None:
    offered = {
        node["metadata"]["name"]: node["status"]["allocatable"] for node in cluster.get("nodes")
    }
    assert offered["edge-1"]["cpu"] == "500m"
    assert offered["edge-1"]["memory"] == f"{1024 - 50}Mi"
    assert offered["cloud-2"]["cpu"] == str(min(4, os.cpu_count() or 1))
    assert offered["cloud-2"]["memory"] == f"{2048 - 50}Mi"


def test_a_pods_address_is_in_its_machines_block(pods: Cluster) -> None:
    machines = pods.addresses()
    for pod in pods.get("pods"):
        block = ipaddress.ip_network(f"{machines[pod['spec']['nodeName']]}/24", strict=False)
        assert ipaddress.ip_address(pod["status"]["podIP"]) in block


def test_a_service_answers_by_its_name_from_every_node(pods: Cluster) -> None:
    for node in NODES:
        for name in ("hello", "hello.default.svc.cluster.local"):
            assert pods.ask(node, f"http://{name}/") == REPLY


def test_pods_know_the_machines_by_their_names(pods: Cluster) -> None:
    machines = pods.addresses()
    told = pods.in_pod(
        "edge-1",
        "import json, socket, sys\n"
        "print(json.dumps({name: socket.gethostbyname(name) for name in sys.argv[1:]}))",
        *machines,
    )
    assert json.loads(told) == machines


def test_links_hold_for_pods_as_for_machines(pods: Cluster) -> None:
    machines = pods.addresses()
    addresses = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods.get("pods")}
    there_and_back = 2 * DELAY_MS
    ssh = (machines["endpoint-1"], 22)
    for measured in (
        pods.round_trip_of_machine("cloud-2", *ssh),
        pods.round_trip("cloud-2", *ssh),
        pods.round_trip_of_machine("endpoint-1", addresses["cloud-2"], 8000),
    ):
        assert there_and_back <= measured < 1.5 * there_and_back
    # No link between these, so no delay.
    assert pods.round_trip("edge-1", *ssh) < there_and_back / 2
    assert pods.round_trip("edge-1", addresses["cloud-2"], 8000) < there_and_back / 2


def test_logs_of_pods_and_functions_by_their_names(pods: Cluster) -> None:
    image = pods.image()
    function = server("classify-1", "edge-1", image)
    function["metadata"] |= {"namespace": FUNCTIONS, "labels": {"faas_function": "classify"}}
    in_functions = f"--namespace={FUNCTIONS}"
    pods.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": FUNCTIONS}})
    try:
        path = pods.line.folder / "function.json"
        path.write_text(json.dumps(function))
        pods.kubectl("apply", f"--filename={path}")
        ready = ("--for=condition=Ready", "--timeout=60s", "pod/classify-1")
        pods.kubectl("wait", in_functions, *ready)
        assert pods.ask("edge-1", "http://hello/") == REPLY
        listed = json.loads(pods.line("logs", NAME, "--list", "--json").out)
        found = {(log["name"], log["kind"], log["machine"]) for log in listed["logs"]}
        assert {
            ("kubelet", "unit", "cloud-2"),
            ("edge-1", "machine", "edge-1"),
            ("classify", "function", "edge-1"),
        } < found
        # Its own name is its machine's here, which comes first.
        (name_server,) = (name for name, kind, _ in found if kind == "pod" and "coredns" in name)
        assert "CoreDNS" in pods.line("logs", NAME, name_server, "--lines", "0").out
        assert pods.line("logs", NAME, "classify").code == 0
        assert "kubelet" in pods.line("logs", NAME, "cloud-1/kubelet", "-n", "5").out
    finally:
        pods.kubectl("delete", "namespace", FUNCTIONS)


def test_kubectl_passes_everything_through(cluster: Cluster) -> None:
    assert json.loads(cluster.kubectl("version", "--output=json"))["serverVersion"]
    assert cluster.line("kubectl", "get", "nodes", "--output=name").out.split() == [
        f"node/{name}" for name in NODES
    ]
    refused = cluster.line("kubectl", NAME, "get", "pod", "nobody", code=1)
    assert 'pods "nobody" not found' in refused.err


# -- changes -------------------------------------------------------------------------------------


def test_a_second_up_changes_nothing(pods: Cluster, file: Path) -> None:
    before = {pod["metadata"]["uid"] for pod in pods.get("pods", "--all-namespaces")}
    again = pods.line("up", file)
    assert "nothing was changed" in again.err + again.out
    assert {pod["metadata"]["uid"] for pod in pods.get("pods", "--all-namespaces")} == before


def test_a_machine_comes_and_goes_live(pods: Cluster, file: Path) -> None:
    before = {pod["metadata"]["uid"] for pod in pods.get("pods")}
    pods.line("up", file, "--set", "tiers.edge.machines=2")
    pods.await_nodes(*NODES, "edge-2")
    pods.apply(server("edge-2", "edge-2", pods.image()))
    assert pods.ask("edge-2", "http://hello/") == REPLY
    # Also where the name server was up before that machine.
    find = "import socket\nprint(socket.gethostbyname('edge-2'))"
    assert pods.in_pod("edge-1", find) == pods.addresses()["edge-2"]
    again = pods.line("up", file, "--set", "tiers.edge.machines=2")
    assert "nothing was changed" in again.err
    pods.line("up", file, "--yes")
    pods.await_nodes(*NODES)
    assert {pod["metadata"]["uid"] for pod in pods.get("pods")} >= before


def test_the_control_plane_carries_pods_live_while_it_is_alone(shared: Any) -> None:
    path = shared.folder / "alone.toml"
    path.write_text(
        'name = "alone"\n[tiers.cloud]\nmemory = "2 GiB"\n[software]\nmanager = "kubernetes"\n'
    )
    cluster = Cluster(shared, "alone")
    for machines, carrier in ((2, "cloud-2"), (1, "cloud-1"), (2, "cloud-2")):
        asked = (path, "--yes", "--set", f"tiers.cloud.machines={machines}")
        shared("up", *asked)
        cluster.await_nodes(*NODES[:machines])
        anywhere = made_pod("anywhere", "", cluster.image("pause"))
        anywhere["spec"] |= {"nodeSelector": {}, "tolerations": []}
        cluster.apply(anywhere)
        (there,) = cluster.get("pods")
        assert there["spec"]["nodeName"] == carrier
        cluster.kubectl("delete", "pod", "anywhere")
        assert "nothing was changed" in shared("up", *asked).err
    shared("down", "alone")


def test_what_would_replace_machines_has_to_be_asked_for(cluster: Cluster, file: Path) -> None:
    before = {node["metadata"]["uid"] for node in cluster.get("nodes")}
    refused = cluster.line("up", file, "--set", "tiers.edge.memory=2 GiB", code=2)
    assert "replace edge-1" in refused.err
    assert "--recreate" in refused.err
    assert {node["metadata"]["uid"] for node in cluster.get("nodes")} == before
    assert cluster.nodes() == dict.fromkeys(NODES, True)


# -- a run ---------------------------------------------------------------------------------------


def test_a_worker_without_a_place_is_said_with_the_schedulers_reason(
    cluster: Cluster, file: Path
) -> None:
    cluster.kubectl("cordon", "cloud-2")
    try:
        ended = cluster.line("run", file, "--results", "no-place", "--accept-links", code=1)
    finally:
        cluster.kubectl("uncordon", "cloud-2")
    assert "Unschedulable" in ended.err
    assert "1 node(s) were unschedulable" in ended.err
    assert cluster.results("no-place")["status"] == "failed"


def test_more_than_a_machine_has_is_refused_before_anything_is_made(
    shared: Any, file: Path
) -> None:
    for asked in ("benchmark.worker_memory=1.5 GiB", "benchmark.worker_cpu=3"):
        refused = shared("plan", file, "--set", asked, "--set", 'name="too-much"', code=3)
        assert "2 workers of" in refused.err
        assert 'each machine of tier "cloud", which has' in refused.err
    assert not (shared.state / "continuum" / "deployments" / "too-much").exists()


class TestPod(ExecutionModelContract):
    """A pod is an execution model as any other."""

    limit = 60.0
    cluster: ClassVar[Cluster]
    model: ClassVar[Container]
    edge: ClassVar[Machine]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _made(cls, cluster: Cluster) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", str(cluster.line.state))
            machines = {each.name: each for each in existing.machines(NAME, (), Events())}
        loaded = load_text(EXPERIMENT, Path("experiment.toml"))
        cls.cluster = cluster
        cls.model = Container(loaded.experiment, machines)
        cls.edge = machines["edge-1"]

    def subject(self) -> Container:
        return self.model

    def machine(self) -> Machine:
        return self.edge

    def process(self, program: str, *arguments: str) -> ProcessSpec:
        process = super().process(program, *arguments)
        return dataclasses.replace(process, image=self.cluster.image())

    def test_an_image_that_is_not_there_is_said(self) -> None:
        process = dataclasses.replace(self.process(""), image="continuum.local/not:there")
        self.subject().start(self.machine(), process)
        assert self.await_state(process, "failed") == "failed"
        assert "continuum.local/not:there" in self.subject().log(self.machine(), process)


# -- faults --------------------------------------------------------------------------------------


def _break_in_mid_run(
    cluster: Cluster, file: Path, folder: str, breaking: Callable[[], object]
) -> dict[str, Any]:
    # Whether links hold at that moment is not the question.
    options = ("--accept-links", "--set", f"benchmark.duration={LONGER}s")
    process = cluster.line.start("run", file, "--results", folder, *options)
    cluster.line.until_step(process, NAME, "repetition 1")
    await_load(cluster.line.state, NAME)
    breaking()
    ended = cluster.line.end(process, limit=120)
    assert "Traceback" not in ended.err
    run = cluster.results(folder)
    assert ended.code == (1 if defects(run) else 0)
    assert run["table"][0]["samples"] == BROKEN
    return run


def test_two_workers_of_one_node_answer_all_though_its_agents_are_killed(
    cluster: Cluster, file: Path
) -> None:
    run = _break_in_mid_run(
        cluster,
        file,
        "agents",
        lambda: cluster.line(
            *("exec", NAME, "cloud-2", "--", "systemctl", "kill", "--signal=KILL"),
            *("--kill-whom=main", "kubelet.service", "containerd.service"),
        ),
    )
    assert defects(run) == []
    assert run["table"][0]["ok"] == BROKEN
    assert {endpoint["worker"] for endpoint in run["endpoints"]} == {"worker-1", "worker-2"}
    assert cluster.get("deployments,pods", f"--selector={OURS}") == []


def test_a_killed_worker_is_started_again_and_degrades_the_run(
    cluster: Cluster, file: Path
) -> None:
    run = _break_in_mid_run(
        cluster,
        file,
        "worker",
        lambda: cluster.line(
            *("exec", NAME, "cloud-2", "--", "pkill", "--signal=KILL", "--full"),
            "continuum_runtime.*worker-1",
        ),
    )
    assert run["status"] == "degraded"
    assert any("worker-1" in reason for reason in sentences(run)), run["reasons"]
    assert 0 < run["table"][0]["lost"] < BROKEN / 2


def test_without_its_control_plane_workers_go_on_and_up_heals_it(
    cluster: Cluster, file: Path
) -> None:
    run = _break_in_mid_run(cluster, file, "no-control", lambda: _halt(cluster, "cloud-1"))
    assert run["status"] == "degraded"
    assert sorted(sentences(run, "worker")) == [
        f"how worker-{number} on cloud-2 is cannot be told: machine cloud-1 does not run"
        for number in (1, 2)
    ]
    assert run["table"][0]["ok"] == BROKEN
    healed = cluster.line("up", file)
    assert "cloud-1" in healed.err
    cluster.await_nodes(*NODES)


def test_a_killed_worker_machine_degrades_the_run_and_up_heals_it(
    cluster: Cluster, file: Path
) -> None:
    run = _break_in_mid_run(cluster, file, "no-machine", lambda: _halt(cluster, "cloud-2"))
    assert run["status"] == "degraded"
    assert any("cloud-2" in reason for reason in sentences(run)), run["reasons"]
    # Where the machine is gone so is its broker: nothing can be sent to it.
    assert 0 < run["table"][0]["ok"] < BROKEN
    cluster.line("up", file)
    cluster.await_nodes(*NODES)
    healed = ("--results", "healed", "--accept-links", "--set", "benchmark.duration=2s")
    cluster.line("run", file, *healed)
    assert defects(cluster.results("healed")) == []


def _halt(cluster: Cluster, machine: str) -> None:
    words = ("systemctl", "halt", "--force", "--force")
    cluster.line("exec", NAME, machine, "--", *words, code=None)
