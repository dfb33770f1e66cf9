"""Repetitions of `empty` on a cluster that exists only in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from continuum.benchmark import execute as phase
from continuum.benchmark.applications.empty import Empty, driver
from continuum.benchmark.applications.empty.pods import Wish
from continuum.benchmark.configure import BenchmarkPlan
from continuum.benchmark.samples import table
from continuum.benchmark.statistics import aggregate
from continuum.deployment import Deployment
from continuum.errors import MachineUnreachable, NotFound
from continuum.events import Events
from continuum.images.recipe import InstallStep
from continuum.machine import Command, Machine, Result
from continuum.software.contract import ExecutionModel, ProcessSpec
from continuum.software.managers.kubernetes.audit import NAMESPACE

START = 1_800_000_000
"""Unix time of the first call, s."""


def moment(seconds: float) -> str:
    """A time as the cluster's logs write it, after the first call."""
    import datetime as dt

    return dt.datetime.fromtimestamp(START + seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass
class Cluster:
    """A cluster that brings pods up at once, or does not.

    Attributes:
        refused: pods that find no node.
        failing: calls, by number, that the API server refuses.
        gone: machines that do not answer; `gone_after_call` are gone once pods were asked for.
        audited: whether there is an audit log.
    """

    refused: set[str] = field(default_factory=set)
    failing: set[int] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    gone_after_call: set[str] = field(default_factory=set)
    audited: bool = True
    audit: bytes = b""
    nodes: dict[str, list[str]] = field(default_factory=dict)
    deleted: int = 0

    def note(self, name: str, what: str, at: float, request: dict[str, Any]) -> None:
        event = {
            "stage": "ResponseComplete",
            "verb": "patch" if what == "status" else "create",
            "objectRef": {
                "resource": "pods",
                "namespace": NAMESPACE,
                "name": name,
                **({"subresource": what} if what else {}),
            },
            "responseStatus": {"code": 200},
            "requestObject": request,
            "stageTimestamp": moment(at),
        }
        self.audit += json.dumps(event).encode() + b"\n"

    def bring_up(self, name: str, number: int) -> None:
        node = f"cloud-{2 + number % 2}"
        self.note(name, "", 0.1, {})
        if name in self.refused:
            why = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
            self.note(name, "status", 0.2, {"status": {"conditions": [why]}})
            return
        self.note(name, "binding", 0.2, {"target": {"name": node}})
        said = (
            f"RunPodSandbox for &PodSandboxMetadata{{Name:{name},Uid:u,Namespace:{NAMESPACE},A:0,}}"
        )
        identity = f"{number:08x}"
        made = f'CreateContainer within sandbox \\"aa{identity}\\"'
        container = "&ContainerMetadata{Name:empty,A:0,}"
        lines = (
            (0.3, f'{said} returns sandbox id \\"aa{identity}\\"'),
            (
                0.35,
                f'{made} for {container} returns container id \\"bb{identity}\\"',
            ),
            (0.4, f'StartContainer for \\"bb{identity}\\" returns successfully'),
        )
        self.nodes.setdefault(node, []).extend(
            f'time="{moment(at)}" level=info msg="{text}"' for at, text in lines
        )
        ready = [{"type": "Ready", "status": "True"}]
        self.note(name, "status", 0.5, {"status": {"conditions": ready}})


class Node(Machine):
    """One machine of the cluster."""

    def __init__(self, name: str, cluster: Cluster) -> None:
        self.name, self.tier, self.address = name, "cloud", "10.0.0.1"
        self.cluster = cluster
        self.files: dict[str, bytes] = {}

    def run(self, command: Command) -> Result:
        if self.name in self.cluster.gone:
            raise MachineUnreachable(f"machine {self.name} does not run")
        status, output = self._answer(command.arguments)
        return Result(command, status, output, b"", 0.0, self.name)

    def _answer(self, words: tuple[str, ...]) -> tuple[int, bytes]:
        cluster = self.cluster
        match words[0].rpartition("/")[2]:
            case "stat":
                return (0, str(len(cluster.audit)).encode()) if cluster.audited else (1, b"none")
            case "tail":
                return 0, cluster.audit[int(words[1].partition("+")[2]) - 1 :]
            case "journalctl":
                return 0, "\n".join(cluster.nodes.get(self.name, [])).encode()
            case "python3":
                return 0, self._calls(words[-1])
            case "kubectl":
                return 0, self._kubectl(words)
            case _:
                return 0, b""

    def _kubectl(self, words: tuple[str, ...]) -> bytes:
        if "delete" in words:
            self.cluster.deleted += 1
        if "serviceaccounts" in words:
            return json.dumps({"items": [{"metadata": {"name": "default"}}]}).encode()
        return json.dumps({"items": []}).encode() if "get" in words else b""

    def _calls(self, path: str) -> bytes:
        config = json.loads(self.files[path])
        lines = []
        for number, arguments in enumerate(config["calls"]):
            failed = number in self.cluster.failing
            said = "the server is currently unable" if failed else "created"
            at = (START + number) * 10**9
            lines.append({"asked_ns": at, "ended_ns": at + 1, "status": int(failed), "said": said})
            for place, name in enumerate(sorted(self.files)):
                if not failed and name.startswith(arguments[-1]) and name.endswith(".json"):
                    pod = json.loads(self.files[name])
                    if pod["kind"] == "Pod":
                        self.cluster.bring_up(pod["metadata"]["name"], place)
                    else:
                        for pod_number in range(pod["spec"]["completions"]):
                            self.cluster.bring_up(f"empty-{pod_number}", pod_number)
        self.cluster.gone |= self.cluster.gone_after_call
        return b"\n".join(json.dumps(line).encode() for line in lines)

    def stream(self, command: Command) -> Iterator[str]:
        raise NotImplementedError(str(command))

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        del mode
        self.files[path] = content

    def get(self, path: str) -> bytes:
        if self.name in self.cluster.gone:
            raise MachineUnreachable(f"machine {self.name} does not run")
        if path.endswith("resources.csv"):
            at = START * 10**9
            return f"{at},machine,1,2\n{at + 1},machine,3,4\n{at + 2},mach".encode()
        raise NotFound("no such file")


class Still(ExecutionModel):
    """Processes that only are there."""

    name = "still"

    def __init__(self) -> None:
        super().__init__()
        self.running: set[tuple[str, str]] = set()

    def install(self) -> tuple[InstallStep, ...]:
        return ()

    def start(self, machine: Machine, process: ProcessSpec) -> None:
        self.running.add((machine.name, process.name))

    def state(self, machine: Machine, process: ProcessSpec) -> str:
        return "ready" if (machine.name, process.name) in self.running else "absent"

    def stop(self, machine: Machine, process: ProcessSpec) -> None:
        machine.run(Command(("true",)))
        self.running.discard((machine.name, process.name))

    def log(self, machine: Machine, process: ProcessSpec, lines: int = 0) -> str:
        del machine, process, lines
        return ""


MakeRun = Callable[..., phase.Run]


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    monkeypatch.setattr(driver, "BEFORE", 0.0)
    monkeypatch.setattr(driver, "LOOK_INTERVAL", 0.01)

    def make(cluster: Cluster, deployment: Any = "pod", repetitions: int = 1) -> phase.Run:
        wish = Wish(deployment, ("cloud-2", "cloud-3"), 4, 1, "image", 30.0)
        whole = driver.PodDriver(control="cloud-1", wish=wish, limit=0.1)
        folder = Deployment("sample", tmp_path)
        folder.write("made", "")
        model = Still()
        return phase.Run(
            deployment=folder,
            plan=BenchmarkPlan((), ((),) * repetitions, whole),
            application=Empty(Empty.settings_type()),
            machines={name: Node(name, cluster) for name in ("cloud-1", "cloud-2", "cloud-3")},
            worker_model=model,
            endpoint_model=model,
            events=Events(),
            name="run-1",
        )

    return make


def steps(row: dict[str, Any]) -> list[float]:
    names = ("intended_ns", "created_ns", "scheduled_ns", "sandbox_ns", "started_ns", "ready_ns")
    return [round((row[name] - START * 10**9) / 1e9, 3) for name in names]


@pytest.mark.parametrize("deployment", ["pod", "file"])
def test_every_pod_is_followed_through_the_cluster(make_run: MakeRun, deployment: str) -> None:
    run = make_run(Cluster(), deployment)
    collected = phase.execute(run)
    assert not collected.reasons
    assert len(collected.rows) == 4
    for row in collected.rows:
        assert row["status"] == "ok"
        assert steps(row) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
        assert (row["run"], row["repetition"], row["endpoint"]) == ("run-1", 1, "cloud-1")
    assert {row["node"] for row in collected.rows} == {"cloud-2", "cloud-3"}
    assert {row["machine"] for row in collected.resources} == {"cloud-1", "cloud-2", "cloud-3"}
    assert len(collected.resources) == 6


def test_rows_are_samples_and_their_steps_are_figures(make_run: MakeRun) -> None:
    run = make_run(Cluster())
    rows = phase.execute(run).rows
    whole = table(rows, run.application.columns())
    group, *_ = aggregate(whole, quantities=run.application.quantities())
    means = {each.label: each.mean.value for each in group.statistics}
    assert means == {
        "asked to ready": 500,
        "asked to created": 100,
        "created to scheduled": 100,
        "scheduled to sandbox": 100,
        "sandbox to started": 100,
        "started to ready": 100,
    }


def test_each_pod_counts_from_its_own_call(make_run: MakeRun) -> None:
    rows = phase.execute(make_run(Cluster(), "call")).rows
    assert [row["intended_ns"] for row in rows] == [(START + each) * 10**9 for each in range(4)]
    assert [row["pod"] for row in rows] == [f"empty-1-{number}" for number in range(1, 5)]


def test_repetitions_begin_anew_and_leave_nothing(make_run: MakeRun) -> None:
    cluster = Cluster()
    run = make_run(cluster, "file", repetitions=3)
    collected = phase.execute(run)
    assert [row["repetition"] for row in collected.rows] == [1] * 4 + [2] * 4 + [3] * 4
    assert not collected.reasons
    assert cluster.deleted >= 4
    assert isinstance(run.endpoint_model, Still)
    assert run.endpoint_model.running == set()


def test_a_pod_without_a_node_is_a_sample_with_the_schedulers_reason(make_run: MakeRun) -> None:
    collected = phase.execute(make_run(Cluster(refused={"empty-1-2", "empty-1-4"}), "file"))
    assert [row["status"] for row in collected.rows] == ["ok", "lost", "ok", "lost"]
    assert [str(each) for each in collected.reasons] == [
        "2 of 4 pods found no node: 0/3 nodes are available"
    ]


def test_calls_that_fail_are_samples_and_are_not_waited_for(make_run: MakeRun) -> None:
    collected = phase.execute(make_run(Cluster(failing={1}), "call"))
    assert [row["status"] for row in collected.rows] == ["ok", "error", "ok", "ok"]
    assert [str(each) for each in collected.reasons] == [
        "1 of 4 pods were not created: the server is currently unable"
    ]


def test_a_control_plane_that_is_gone_ends_the_run_with_what_is_known(make_run: MakeRun) -> None:
    run = make_run(Cluster(gone_after_call={"cloud-1"}), "call", repetitions=2)
    collected = phase.execute(run)
    assert [row["status"] for row in collected.rows] == ["lost"] * 4
    assert "cloud-1 is gone: machine cloud-1 does not run" in [
        str(each) for each in collected.reasons
    ]
    unknown = "4 of 4 pods were not ready when the audit log could no longer be read"
    assert unknown in [str(each) for each in collected.reasons]
    assert any(
        reason.startswith("repetition 2 of 2 could not")
        for reason in [str(each) for each in collected.reasons]
    )


def test_a_node_that_is_gone_takes_only_what_it_knew(make_run: MakeRun) -> None:
    collected = phase.execute(make_run(Cluster(gone_after_call={"cloud-3"}), "file"))
    assert [row["sandbox_ns"] is None for row in collected.rows].count(True) == 2
    assert {row["status"] for row in collected.rows} == {"ok"}
    assert any(
        reason.startswith("cloud-3 is gone") for reason in [str(each) for each in collected.reasons]
    )


def test_a_cluster_without_an_audit_log_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(Exception, match="keeps no audit log") as caught:
        phase.execute(make_run(Cluster(audited=False)))
    assert "--recreate" in getattr(caught.value, "hint", "")
