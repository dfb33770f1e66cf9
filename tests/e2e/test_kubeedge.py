"""KubeEdge on machines of this host: the example's run, pods at the edge, and edges on their own."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clusters import REPLY, Cluster, server
from run_reasons import defects

pytestmark = [pytest.mark.e2e, pytest.mark.cluster]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "kubeedge-edge" / "experiment.toml"
NAME = "edges"
EDGE = ("edge-1", "edge-2")
NODES = ("cloud-1", *EDGE)
RATE = 2 * 5
"""Requests per second of both endpoints."""

CUT = 30
LIMIT = 60

_SHOWN_TOKEN = (
    *("get", "secret", "tokensecret", "--namespace=kubeedge"),
    "--output=jsonpath={.data.tokendata}",
)


@pytest.fixture(scope="module")
def cluster(shared: Any) -> Cluster:
    shared("up", EXAMPLE, "--set", f"name={NAME}")
    return Cluster(shared, NAME)


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Cluster:
    """A pod on each node, called as its machine."""
    cluster.apply(*(pod_on(cluster, each) for each in NODES))
    return cluster


def pod_on(cluster: Cluster, machine: str) -> dict[str, Any]:
    """A pod called as its machine, which needs nothing of the cloud once it is there."""
    pod = server(machine, machine, cluster.image())
    pod["spec"]["automountServiceAccountToken"] = False
    return pod


def on(cluster: Cluster, machine: str, *words: str, code: int | None = 0) -> str:
    """What a command says on a machine."""
    said: str = cluster.line("exec", NAME, machine, "--", *words, code=code).out
    return said.strip()


def until(condition: Callable[[], bool], limit: float = LIMIT) -> bool:
    """Wait until something is so; whether it ever was."""
    end = time.monotonic() + limit
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.3)
    return found


def identities(cluster: Cluster) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in cluster.get("pods")}


def containers(cluster: Cluster, machine: str) -> dict[str, str]:
    """Containers that run on a machine, each with its process."""
    lines = on(cluster, machine, "ctr", "--namespace=k8s.io", "task", "ls").splitlines()[1:]
    words = [line.split() for line in lines]
    return {name: process for name, process, state in words if state == "RUNNING"}


def is_empty(cluster: Cluster, machine: str) -> bool:
    return containers(cluster, machine) == {}


def said_by(cluster: Cluster, pod: str, text: str) -> bool:
    # A request that is under way when CloudCore is killed is never answered.
    return text in cluster.kubectl("logs", pod, "--request-timeout=10s", code=None)


def test_the_edge_is_run_by_edgecore_and_offers_its_size(cluster: Cluster) -> None:
    assert cluster.nodes() == dict.fromkeys(NODES, True)
    for node in cluster.get("nodes", "--selector=node-role.kubernetes.io/edge"):
        assert node["metadata"]["name"] in EDGE
        assert "node-role.kubernetes.io/agent" in node["metadata"]["labels"]
        assert "kubeedge" in node["status"]["nodeInfo"]["kubeletVersion"]
        assert node["status"]["allocatable"]["memory"] == f"{2048 - 50}Mi"
    assert len(cluster.get("nodes", "--selector=node-role.kubernetes.io/edge")) == len(EDGE)
    for unit, state in (
        ("edgecore", "active"),
        ("mosquitto", "active"),
        ("kube-proxy", "inactive"),
    ):
        assert on(cluster, "edge-1", "systemctl", "is-active", unit, code=None) == state


def test_pods_at_the_edge_have_addresses_that_every_node_reaches(pods: Cluster) -> None:
    machines = pods.addresses()
    addresses = {}
    for pod in pods.get("pods"):
        block = ipaddress.ip_network(f"{machines[pod['spec']['nodeName']]}/24", strict=False)
        address = addresses[pod["metadata"]["name"]] = pod["status"]["podIP"]
        assert ipaddress.ip_address(address) in block
    for here, there in (("cloud-1", "edge-1"), ("edge-1", "edge-2"), ("edge-2", "cloud-1")):
        assert pods.ask(here, f"http://{addresses[there]}:8000/") == REPLY


def test_logs_and_programs_of_pods_come_through_the_tunnel(pods: Cluster) -> None:
    for name in EDGE:
        assert pods.in_pod(name, "import socket; print(socket.gethostname())") == "pod"
        assert until(partial(said_by, pods, name, "GET / HTTP"))


def test_a_second_up_changes_nothing_and_no_file_holds_the_token(pods: Cluster) -> None:
    before = identities(pods)
    again = pods.line("up", EXAMPLE, "--set", f"name={NAME}")
    assert "nothing was changed" in again.err + again.out
    assert identities(pods) == before
    token = pods.kubectl(*_SHOWN_TOKEN)
    assert len(token) > 64
    folder = pods.line.state / "continuum" / "deployments" / NAME
    kept = [path for part in ("plan", "logs") for path in (folder / part).rglob("*")]
    kept += [path for path in folder.iterdir() if path.is_file()]
    for path in filter(Path.is_file, kept):
        assert token.encode() not in path.read_bytes(), path


@contextmanager
def cut_off(cluster: Cluster, machine: str) -> Iterator[None]:
    """Let nothing through between a machine and the cloud."""
    cloud = cluster.addresses()["cloud-1"]
    block = str(ipaddress.ip_network(f"{cloud}/24", strict=False))
    rules = (("INPUT", "--source", block), ("OUTPUT", "--destination", block))
    for rule in rules:
        on(cluster, machine, "iptables", "--wait", "--insert", *rule, "--jump", "DROP")
    try:
        yield
    finally:
        for rule in rules:
            on(cluster, machine, "iptables", "--wait", "--delete", *rule, "--jump", "DROP")


def test_killed_programs_of_kubeedge_come_back(pods: Cluster) -> None:
    for machine, unit in (("cloud-1", "cloudcore"), ("edge-2", "edgecore")):
        on(pods, machine, "systemctl", "kill", "--signal=KILL", unit)
    pods.line("up", EXAMPLE, "--set", f"name={NAME}")
    pods.await_nodes(*NODES)
    assert until(partial(said_by, pods, "edge-2", "GET"))
    assert until(lambda: pods.kubectl("exec", "edge-2", "--", "true", code=None) == "")


def test_a_run_does_not_notice_that_an_edge_is_cut_off_and_cloudcore_killed(
    pods: Cluster,
) -> None:
    before = identities(pods)
    duration = CUT + 15
    process = pods.line.start(
        *("run", EXAMPLE, "--set", f"name={NAME}", "--set", f"benchmark.duration={duration}s"),
        *("--set", "benchmark.warmup=1s", "--results", "cut", "--accept-links"),
    )
    pods.line.until_step(process, NAME, "repetition 1")
    on(pods, "cloud-1", "systemctl", "kill", "--signal=KILL", "cloudcore.service")
    assert until(partial(said_by, pods, "edge-1", "GET"))
    with cut_off(pods, "edge-1"):
        time.sleep(CUT)  # A cut has a length.
    ended = pods.line.end(process)
    assert "Traceback" not in ended.err
    run = pods.results("cut")
    assert run["table"][0]["ok"] == run["table"][0]["samples"] == RATE * duration
    assert defects(run) == []
    assert identities(pods) == before


def test_without_the_cloud_edgecore_brings_back_what_it_had(pods: Cluster) -> None:
    """Pods whose containers died while EdgeCore was not there either, from its own store."""
    before = identities(pods)
    address = next(
        pod["status"]["podIP"] for pod in pods.get("pods") if pod["metadata"]["name"] == "edge-1"
    )
    with cut_off(pods, "edge-1"):
        on(pods, "edge-1", "systemctl", "kill", "--signal=KILL", "edgecore.service")
        running = containers(pods, "edge-1")
        (served_by,) = (
            process
            for process in running.values()
            if "http.server" in on(pods, "edge-1", "cat", f"/proc/{process}/cmdline")
        )
        on(pods, "edge-1", "kill", "-KILL", served_by)
        assert until(
            lambda: (
                len(containers(pods, "edge-1").keys() - running.keys()) == 1
                and len(containers(pods, "edge-1")) == len(running)
            )
        )
        assert pods.ask("edge-2", f"http://{address}:8000/") == REPLY
    assert identities(pods) == before


def test_a_control_plane_that_was_left_half_way_is_made_again_and_the_edge_with_it(
    pods: Cluster,
) -> None:
    token = pods.kubectl(*_SHOWN_TOKEN)
    for path in ("/etc/kubernetes/continuum-initialised", "/var/lib/continuum/software"):
        on(pods, "cloud-1", "rm", path)
    pods.line("up", EXAMPLE, "--set", f"name={NAME}")
    pods.await_nodes(*NODES)
    assert pods.kubectl(*_SHOWN_TOKEN) != token
    assert pods.get("pods") == []
    for machine in EDGE:
        assert until(partial(is_empty, pods, machine))
    pods.apply(pod_on(pods, "edge-1"))
    assert pods.in_pod("edge-1", "print(1)") == "1"
