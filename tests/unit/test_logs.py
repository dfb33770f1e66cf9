"""Logs by one name: of machines, units, pods and functions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from continuum.errors import MachineUnreachable
from continuum.machine import Command, Machine, Result
from continuum.software import logs
from continuum.software.logs import MOST_BYTES, Found, bounded, of_machine, pods_of, units_of


def pod(name: str, namespace: str = "default", node: str = "edge-1", **labels: str) -> Any:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": node},
    }


PODS = [
    pod("worker-1-6b7-x2", **{"app.kubernetes.io/name": "worker-1"}),
    pod("classify-77c-aa", "openfaas-fn", faas_function="classify"),
    pod("classify-77c-bb", "openfaas-fn", "edge-2", faas_function="classify"),
    pod("coredns-1", "kube-system", "cloud-1"),
]


class Talking(Machine):
    """Answers by the first word that it knows; notes what it was asked."""

    tier = "edge"

    def __init__(self, name: str, answers: dict[str, bytes], address: str = "10.0.0.1") -> None:
        self.name, self.address, self.answers = name, address, answers
        self.asked: list[tuple[str, ...]] = []

    def run(self, command: Command) -> Result:
        self.asked.append(command.arguments)
        for word, said in self.answers.items():
            if any(word in argument for argument in command.arguments):
                return Result(command, 0, said, b"", 0.0, self.name)
        raise MachineUnreachable(f"machine {self.name} does not run")

    def stream(self, command: Command) -> Iterator[str]:
        yield from self.run(command).stdout.decode().splitlines()


def units(machine: str, *names: str) -> list[logs.Log]:
    return units_of(machine, "\n".join(names))


def found(*more: logs.Log) -> Found:
    return Found((of_machine("edge-1"), of_machine("cloud-1"), *more), {})


def test_services_are_called_as_a_person_calls_them() -> None:
    listed = units("edge-1", "mosquitto.service", "continuum-worker-1.service", "session-1.scope")
    assert [log.name for log in listed] == ["worker-1", "mosquitto"]


@pytest.mark.parametrize(
    "word",
    ["worker-1", "continuum-worker-1", "continuum-worker-1.service", "edge-1/worker-1"],
)
def test_a_unit_is_found_by_each_of_its_names(word: str) -> None:
    (meant,) = found(*units("edge-1", "continuum-worker-1.service")).meant(word)
    assert meant.part == "continuum-worker-1.service"
    assert meant.label == "edge-1/worker-1"


def test_units_of_one_name_on_several_machines_are_all_meant() -> None:
    there = found(*units("edge-1", "mosquitto.service"), *units("cloud-1", "mosquitto.service"))
    assert [log.where for log in there.meant("mosquitto")] == ["edge-1", "cloud-1"]
    assert [log.where for log in there.meant("cloud-1/mosquitto")] == ["cloud-1"]
    assert there.meant("edge-2/mosquitto") == []
    assert there.meant("nonesuch") == []


def test_a_machine_comes_before_a_unit_of_its_name() -> None:
    (meant,) = found(*units("edge-1", "edge-1.service")).meant("edge-1")
    assert meant.kind == "machine"


def test_pods_are_found_by_their_worker_and_functions_by_theirs() -> None:
    there = found(*pods_of("cloud-1", PODS))
    (worker,) = there.meant("worker-1")
    assert worker.part == "default/worker-1-6b7-x2"
    assert there.meant("worker-1-6b7-x2") == [worker]
    replicas = there.meant("classify")
    assert {log.kind for log in replicas} == {"function"}
    assert [log.where for log in replicas] == ["edge-1", "edge-2"]
    assert len(there.meant("classify-77c-bb")) == 1
    (name_server,) = there.meant("coredns-1")
    assert (name_server.kind, name_server.where) == ("pod", "cloud-1")


def test_a_pod_that_has_no_node_yet_is_there() -> None:
    (waiting,) = pods_of("cloud-1", [{"metadata": {"name": "a", "namespace": "default"}}])
    assert waiting.label == "?/a"


def test_what_is_run_to_show_a_log() -> None:
    machine = of_machine("edge-1").command(20, since=1000.4).arguments
    assert machine[0] == "journalctl"
    assert {"--lines=20", "--since=@1000"} < set(machine)
    unit = of_machine("edge-1", "mosquitto").command(follow=True)
    assert {"--unit=mosquitto.service", "--follow"} < set(unit.arguments)
    assert not any(word.startswith("--lines") for word in unit.arguments)
    (worker,) = found(*pods_of("cloud-1", PODS)).meant("worker-1")
    shown = worker.command(5, follow=True).arguments
    assert {"logs", "worker-1-6b7-x2", "--namespace=default", "--tail=5", "--follow"} < set(shown)


def test_units_that_every_machine_has_are_told_apart() -> None:
    listed = units("edge-1", "systemd-logind.service", "mosquitto.service")
    assert [logs.is_of_the_system(log) for log in listed] == [False, True]
    assert not logs.is_of_the_system(of_machine("edge-1"))


def test_everything_is_found_but_what_a_silent_machine_has() -> None:
    control = Talking(
        "cloud-1",
        {"--field": b"kubelet.service\n", "pods": json.dumps({"items": PODS}).encode()},
    )
    there = logs.find([control, Talking("edge-1", {})], "cloud-1")
    assert {log.kind for log in there.logs} == {"machine", "unit", "pod", "function"}
    assert there.problems == {"edge-1": "machine edge-1 does not run"}
    assert there.meant("kubelet")


def test_all_logs_are_taken_whatever_becomes_of_some() -> None:
    control = Talking(
        "cloud-1",
        {
            "get": json.dumps({"items": PODS}).encode(),
            "logs": b"from a pod\n",
            "journalctl": b"from a machine\n",
        },
    )
    quiet = Talking("edge-1", {"journalctl": b""})
    kept = logs.take_all([control, quiet, Talking("edge-2", {})], "cloud-1", 1000.0)
    assert kept["machines/cloud-1"] == "from a machine\n"
    assert kept["machines/edge-2"] == "no log: machine edge-2 does not run\n"
    assert "machines/edge-1" not in kept
    assert kept["pods/openfaas-fn_classify-77c-aa"] == "from a pod\n"
    assert any("--since=@1000" in words for words in control.asked)
    silent = logs.take_all([Talking("cloud-1", {})], "cloud-1", 0.0)
    assert silent["pods"].startswith("no logs of pods")


def test_a_long_log_is_cut_at_a_line_and_says_so() -> None:
    said = b"line\n" * 1_000_000
    kept = bounded(said)
    first, rest = kept.split("\n", 1)
    assert len(rest) <= MOST_BYTES
    assert first == f"({len(said) - len(rest)} bytes before this are left out)"
    assert rest.startswith("line\n")
    assert bounded(b"short") == "short"
    assert bounded(b"x" * (2 * MOST_BYTES)).count("x") == MOST_BYTES


def test_the_control_machine_is_that_of_the_kubeconfig(tmp_path: Path) -> None:
    machines = [Talking("cloud-1", {}, "10.0.0.2"), Talking("edge-1", {}, "10.0.0.20")]
    path = tmp_path / "kubeconfig"
    assert logs.control_machine(path, machines) is None
    path.write_text("    server: https://10.0.0.20:6443\n")
    assert logs.control_machine(path, machines) == "edge-1"
