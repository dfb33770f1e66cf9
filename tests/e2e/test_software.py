"""Software on real machines: the broker, Ansible over SSH, and processes as systemd units."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from continuum import workflow
from continuum.errors import StepFailed
from continuum.events import Events, StepFinished
from continuum.experiment.load import load_text
from continuum.machine import Command, Machine
from continuum.software import ansible, execute
from continuum.software.configure import WORK_FOLDER, SoftwarePlan
from continuum.software.contract import ExecutionModel
from continuum.software.execution_models.process import Process
from continuum.software.services import mqtt
from continuum.testing.software import ExecutionModelContract
from doc_files import write_files_of
from waiting import within

pytestmark = pytest.mark.e2e

EXPERIMENT = """\
name = "e2e-software"

[tiers.edge]
machines = 2
memory = "512 MiB"

[tiers.endpoint]
machines = 1

[software]
services = ["mqtt"]
"""

BROKER = Command(("systemctl", "show", "--property=MainPID", "--value", mqtt.UNIT))


class Up:
    """The deployment of all tests here; every test leaves it as the plan says."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.events = Events([self.told.append])
        self.up = workflow.up(load_text(EXPERIMENT, Path("e2e.toml")), self.events)
        assert self.up.plan.software is not None
        self.software: SoftwarePlan = self.up.plan.software
        self.machines = {machine.name: machine for machine in self.up.machines}
        self.deployment = self.up.deployment

    @property
    def edge(self) -> Machine:
        return self.machines["edge-1"]

    def execute(self, plan: SoftwarePlan | None = None) -> bool:
        return execute.execute(
            self.deployment,
            self.up.plan.experiment,
            plan or self.software,
            self.up.machines,
            self.events,
        )


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        deployed = Up()
        yield deployed
        workflow.down(["e2e-software"], Events())


def listeners(machine: Machine) -> set[str]:
    shown = machine.run(Command(("ss", "-H", "-ltn"))).check().text
    addresses = {line.split()[3] for line in shown.splitlines()}
    return {address for address in addresses if address.endswith(f":{mqtt.PORT}")}


def test_brokers_listen_on_worker_machines_and_there_on_two_addresses(up: Up) -> None:
    edge = up.edge
    assert mqtt.Mqtt().ready(edge)
    assert listeners(edge) == {f"{edge.address}:1883", "127.0.0.1:1883"}
    assert listeners(up.machines["endpoint-1"]) == set()
    assert not mqtt.Mqtt().ready(up.machines["endpoint-1"])


def test_a_second_time_changes_nothing_and_runs_no_playbook(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("Ansible ran")

    monkeypatch.setattr(ansible, "run_playbook", never)
    up.told.clear()
    assert up.execute() is False
    assert [event.changed for event in up.told if isinstance(event, StepFinished)] == [False]


def test_a_second_playbook_changes_nothing(up: Up) -> None:
    before = up.edge.run(BROKER).check().text
    result = ansible.run_playbook(up.deployment, lambda _: None)
    assert {name: host.changed for name, host in result.hosts.items()} == {
        "edge-1": 0,
        "edge-2": 0,
    }
    assert up.edge.run(BROKER).check().text == before


def test_ansible_leaves_neither_connections_nor_files(up: Up) -> None:
    ansible.run_playbook(up.deployment, lambda _: None)
    assert list((up.deployment.folder / WORK_FOLDER).iterdir()) == []
    folder = str(up.deployment.folder).encode()
    running = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            content = path.read_bytes()
            where = str((path.parent / "cwd").readlink()).encode() if content else b""
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if content.startswith(b"ssh") and (folder in content or folder in where):
            running.append(content)
    assert running == []


def test_what_was_changed_on_a_machine_is_put_right(up: Up) -> None:
    up.edge.put(b"listener 1884 127.0.0.1\n", mqtt.CONFIGURATION)
    up.edge.run(Command(("systemctl", "restart", mqtt.UNIT))).check()
    assert not mqtt.Mqtt().ready(up.edge)
    assert up.execute() is True
    assert mqtt.Mqtt().ready(up.edge)
    assert up.execute() is False


def test_a_broker_that_was_killed_comes_back(up: Up) -> None:
    first = up.edge.run(BROKER).check().text
    up.edge.run(Command(("kill", "-KILL", first))).check()
    assert within(20, lambda: mqtt.Mqtt().ready(up.edge))
    assert up.edge.run(BROKER).check().text != first


def test_a_role_that_fails_names_task_machine_and_log(up: Up) -> None:
    files = {name: text.replace("1883", '"no port"') for name, text in up.software.files.items()}
    broken = dataclasses.replace(up.software, files=files)
    try:
        with pytest.raises(
            StepFailed, match=r'"mqtt: Give the broker .*" failed on edge'
        ) as caught:
            up.execute(broken)
        assert caught.value.where.startswith("edge-")
        assert "Main process exited" in caught.value.output
        assert ansible.LOG in caught.value.hint
    finally:
        assert up.execute() is True


class OnEdge(ExecutionModelContract):
    """On one of the machines."""

    @pytest.fixture(autouse=True)
    def _on(self, up: Up) -> None:
        self.up = up

    def machine(self) -> Machine:
        return self.up.edge


class TestModelOfTheDocumentation(OnEdge):
    """`docs/write-your-own-execution-model.md`."""

    @pytest.fixture(autouse=True)
    def _written(self, tmp_path: Path) -> None:
        write_files_of("write-your-own-execution-model.md", tmp_path)
        path = tmp_path / "my_plugin" / "background.py"
        spec = importlib.util.spec_from_file_location("background", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.model: type[ExecutionModel] = module.Background

    def subject(self) -> ExecutionModel:
        return self.model()


class TestProcess(OnEdge):
    """The execution model `process`."""

    def subject(self) -> ExecutionModel:
        return Process()

    def test_a_killed_worker_has_failed(self) -> None:
        process = self.process("import time; time.sleep(600)")
        Process().start(self.machine(), process)
        assert self.await_state(process, "ready") == "ready"
        unit = "continuum-contract.service"
        self.machine().run(Command(("systemctl", "kill", "--signal=KILL", unit))).check()
        assert self.await_state(process, "failed") == "failed"

    def test_a_program_that_is_not_there_is_an_error(self) -> None:
        process = dataclasses.replace(self.process(""), arguments=("/opt/nothing",))
        with pytest.raises(StepFailed, match="cannot start") as caught:
            Process().start(self.machine(), process)
        assert "/opt/nothing" in caught.value.output
