"""The software phase's execute step, on machines that exist only in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from continuum.deployment import Deployment
from continuum.errors import MachineUnreachable, NotFound, StepFailed, TimedOut
from continuum.events import Events, StepFinished
from continuum.experiment.model import Software
from continuum.machine import Command, Machine, Result
from continuum.software import ansible, execute
from continuum.software.ansible import HostResult, PlaybookResult
from continuum.software.configure import PLAN_FOLDER, SoftwarePlan, configure
from continuum.software.services.mqtt import Mqtt
from continuum.testing.software import small_experiment, small_plan


class Memory(Machine):
    """Keeps files; `broker` says whether something answers on its port."""

    def __init__(self, name: str) -> None:
        self.name, self.tier, self.address = name, "edge", "10.0.0.1"
        self.files: dict[str, bytes] = {}
        self.broker = False
        self.gone = False

    def run(self, command: Command) -> Result:
        if command.arguments[0] == "journalctl":
            return Result(command, 0, b"Address already in use", b"", 0.0, self.name)
        return Result(command, 0 if self.broker else 1, b"", b"", 0.0, self.name)

    def stream(self, command: Command) -> Iterator[str]:
        del command
        yield from ()

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        del mode
        self.files[path] = content

    def get(self, path: str) -> bytes:
        if self.gone:
            raise MachineUnreachable(f"{self.name} does not run")
        if path not in self.files:
            raise NotFound(path)
        return self.files[path]


class Bench:
    """A deployment of two machines with a broker on each, and what happened to it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        experiment = small_experiment(Software(services=("mqtt",)))
        self.plan = configure(experiment, small_plan(experiment))
        self.machines = [Memory("cloud-1"), Memory("edge-1"), Memory("edge-2")]
        self.deployment = Deployment("test", root)
        self.deployment.folder.mkdir()
        self.playbooks = 0
        self.changes = 1
        self.brokers_start = True
        self.limit = 0.0
        self.told: list[object] = []
        monkeypatch.setattr(ansible, "run_playbook", self.run_playbook)

    def run_playbook(self, *_: object, timeout: float, **__: object) -> PlaybookResult:
        self.playbooks += 1
        self.limit = timeout
        for machine in self.machines:
            machine.broker = self.brokers_start
        return PlaybookResult({"edge-1": HostResult(2, self.changes)}, 0.1)

    def execute(self, *, ssh: bool = True) -> bool:
        events = Events([self.told.append])
        return execute.execute(
            self.deployment, small_experiment(), self.plan, self.machines, events, ssh=ssh
        )

    @property
    def finished(self) -> list[tuple[str, bool]]:
        return [
            (event.step, event.changed) for event in self.told if isinstance(event, StepFinished)
        ]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(execute, "PATIENCE", 0.0)
    return Bench(tmp_path, monkeypatch)


def test_the_second_time_changes_nothing(bench: Bench) -> None:
    assert bench.execute() is True
    assert bench.finished == [("configure machines", True), ("start services", True)]
    assert bench.execute() is False
    assert bench.playbooks == 1
    assert bench.finished[2:] == [("configure machines", False)]
    journal = bench.deployment.journal
    assert journal.finished("software", "configure machines") == bench.plan.fingerprint


@pytest.mark.parametrize("slow", [False, True])
def test_slow_machines_are_given_more_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, slow: bool
) -> None:
    monkeypatch.setattr(execute, "may_be_slow", lambda _: slow)
    bench.execute()
    assert bench.limit == ansible.TIMEOUT * (execute.SLOW if slow else 1)


def test_machines_without_software_are_left_alone(bench: Bench) -> None:
    bench.execute()
    assert bench.machines[0].files == {}


def test_the_plans_files_lie_in_the_deployment(bench: Bench) -> None:
    bench.execute()
    folder = bench.deployment.folder / PLAN_FOLDER
    found = {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found == dict(bench.plan.files)


def test_another_plan_a_new_machine_or_a_silent_service_runs_ansible_again(bench: Bench) -> None:
    bench.execute()
    bench.machines[2] = Memory("edge-2")
    bench.machines[2].broker = True
    assert bench.execute() is True
    assert bench.playbooks == 2

    bench.machines[1].broker = False
    bench.changes = 0
    assert bench.execute() is False
    assert bench.playbooks == 3

    files = {**bench.plan.files, "playbook.yml": "other"}
    bench.plan = SoftwarePlan(bench.plan.plays, bench.plan.services, files)
    bench.execute()
    assert bench.playbooks == 4


def test_a_service_that_answers_a_moment_later_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.execute()
    answers = iter([False, False, True, True])
    monkeypatch.setattr(execute, "PATIENCE", 30.0)
    monkeypatch.setattr(Mqtt, "ready", lambda *_: next(answers))
    assert bench.execute() is False
    assert bench.playbooks == 1


def test_a_playbook_that_failed_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> PlaybookResult:
        raise StepFailed("no")

    with monkeypatch.context() as patch:
        patch.setattr(ansible, "run_playbook", fail)
        with pytest.raises(StepFailed, match="no"):
            bench.execute()
    assert bench.deployment.journal.finished("software", "configure machines") is None
    assert bench.execute() is True
    assert bench.playbooks == 1


def test_what_a_failed_playbook_left_is_not_taken_for_what_was_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.execute()
    former = bench.plan

    def fails(*_: object, **__: object) -> PlaybookResult:
        raise StepFailed("a task failed")

    with monkeypatch.context() as patch:
        patch.setattr(ansible, "run_playbook", fails)
        files = {**former.files, "playbook.yml": "other"}
        bench.plan = SoftwarePlan(former.plays, former.services, files)
        with pytest.raises(StepFailed):
            bench.execute()
    bench.plan = former
    bench.execute()
    assert bench.playbooks == 2


def test_without_ssh_roles_count_as_applied(bench: Bench) -> None:
    for machine in bench.machines:
        machine.broker = True
    assert bench.execute(ssh=False) is True
    assert bench.execute(ssh=False) is False
    assert bench.playbooks == 0


def test_a_service_that_never_answers_is_named_with_its_log(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "READY_TIMEOUT", 0.3)
    bench.brokers_start = False
    with pytest.raises(TimedOut, match="mqtt on edge-1, mqtt on edge-2") as caught:
        bench.execute()
    assert caught.value.where == "edge-1: mosquitto.service"
    assert "Address already in use" in caught.value.output
    assert bench.deployment.journal.finished("software", "start services") is None


def test_a_machine_that_does_not_run_is_unreachable(bench: Bench) -> None:
    bench.machines[1].gone = True
    with pytest.raises(MachineUnreachable):
        bench.execute()


def test_an_empty_plan_leaves_no_trace(bench: Bench) -> None:
    bench.plan = SoftwarePlan()
    assert bench.execute() is False
    assert list(bench.deployment.folder.iterdir()) == []
