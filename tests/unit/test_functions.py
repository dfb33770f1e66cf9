"""The execution model `function`, against a gateway on this host."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from continuum.benchmark import configure as benchmark_configure
from continuum.benchmark.applications.image_classification.application import (
    ImageClassification,
    ImageClassificationSettings,
)
from continuum.benchmark.execute import _is_ready
from continuum.errors import InvalidExperiment, StepFailed
from continuum.experiment.load import load_text
from continuum.experiment.model import Experiment
from continuum.infrastructure.configure import Surroundings
from continuum.infrastructure.configure import configure as configure_infrastructure
from continuum.infrastructure.plan import InfrastructurePlan
from continuum.machine import Command, Machine, Result, run_on_host
from continuum.software.contract import ProcessSpec
from continuum.software.execution_models.function import Function, deployed, function_state
from continuum.software.execution_models.process import Process
from continuum.software.serverless import openfaas
from continuum.testing.openfaas import FakeGateway
from continuum_runtime.openfaas import Gateway

IMAGE = "continuum.local/image-classification-function:0"
WORKER = ProcessSpec(
    "worker-1",
    "cloud-2",
    (),
    environment={"CONTINUUM_THREADS": "1"},
    cpu=1.0,
    memory=3 * 2**30,
    image=IMAGE,
)
TEXT = """
name = "functions"
[tiers.cloud]
machines = 2
cores = 4
memory = "16 GiB"
[tiers.endpoint]
machines = 2
[network]
preset = "4g"
[software]
manager = "kubernetes"
execution_model = "function"
[software.serverless]
distribution = "builtin"
starts = 1
replicas = 2
[benchmark]
application = "image_classification"
worker_cpu = 1.0
worker_memory = "3 GiB"
"""


class Control(Machine):
    """The control plane's machine: our programs run on this host, `kubectl` is made up."""

    def __init__(self, password: str | None = None) -> None:
        self.name, self.tier, self.address = "cloud-1", "cloud", "127.0.0.1"
        self.password = password or "secret"
        self.pods: list[dict[str, Any]] = []

    def run(self, command: Command) -> Result:
        if command.arguments[0] == "python3":
            source = str(Path(openfaas.__file__).parents[3])
            return run_on_host(
                dataclasses.replace(
                    command,
                    arguments=(sys.executable, *command.arguments[1:]),
                    environment={"PYTHONPATH": source},
                )
            )
        return Result(command, 0, json.dumps(self._kubectl(command)).encode(), b"", 0.0)

    def _kubectl(self, command: Command) -> object:
        if "secret" in command.arguments:
            known = {"basic-auth-user": "admin", "basic-auth-password": self.password}
            return {
                "data": {
                    name: base64.b64encode(value.encode()).decode() for name, value in known.items()
                }
            }
        return {"items": self.pods if "pods" in command.arguments else []}

    def stream(self, command: Command) -> Iterator[str]:
        raise NotImplementedError

    def get(self, path: str) -> bytes:
        raise NotImplementedError


def experiment(text: str = TEXT) -> Experiment:
    return load_text(text, Path("functions.toml")).experiment


def plan_of(asked: Experiment) -> InfrastructurePlan:
    return configure_infrastructure(asked, Surroundings("functions", "0badcafe", "image", 2), {})


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    with FakeGateway({IMAGE: lambda _: (200, b"yes")}, start_seconds=0.15) as made:
        monkeypatch.setattr(openfaas, "PORT", made.port)
        yield made


@pytest.fixture
def control() -> Control:
    return Control()


@pytest.fixture
def model(gateway: FakeGateway, control: Control) -> Function:
    del gateway
    return Function(experiment(), {"cloud-1": control})


def test_what_the_api_is_given() -> None:
    assert deployed(WORKER, (0.5, 1.0), replicas=2) == {
        "service": "worker-1",
        "image": IMAGE,
        "namespace": "openfaas-fn",
        "envVars": {"CONTINUUM_THREADS": "1"},
        "constraints": ["kubernetes.io/hostname=cloud-2"],
        "labels": {
            "continuum.machine": "cloud-2",
            "com.openfaas.scale.min": "1",
            "com.openfaas.scale.max": "2",
        },
        "limits": {"cpu": "1000m", "memory": str(3 * 2**30)},
        "requests": {"cpu": "166m", "memory": str(2**30)},
    }


def test_deployed_ready_seen_and_removed(model: Function, gateway: FakeGateway) -> None:
    machine = Control()
    machine.name = "cloud-2"
    assert model.state(machine, WORKER) == "absent"
    model.start(machine, WORKER)
    assert model.state(machine, WORKER) in {"starting", "ready"}
    gateway.functions["worker-1"].scale(1, 0.0)
    gateway.functions["worker-1"].there = [0.0]
    assert model.state(machine, WORKER) == "ready"
    assert "takes requests" in model.log(machine, WORKER)
    model.start(machine, WORKER)  # The same again is an update.
    gateway.functions["worker-1"].scale(0, 0.0)
    assert model.state(machine, WORKER) == "starting"
    model.stop(machine, WORKER)
    assert not gateway.functions
    model.stop(machine, WORKER)


def test_one_without_a_ready_file_is_waited_for_all_the_same(model: Function) -> None:
    assert model.tells_ready
    assert not _is_ready(model, WORKER, "starting")
    assert not _is_ready(model, WORKER, "ended")
    assert _is_ready(model, WORKER, "ready")
    assert _is_ready(Process(), WORKER, "starting")


def test_only_ours_on_the_machine_are_removed(model: Function, gateway: FakeGateway) -> None:
    gateway.deploy("figlet", "another")
    elsewhere = dataclasses.replace(WORKER, name="worker-2", machine="cloud-3")
    machine = Control()
    machine.name = "cloud-2"
    for each in (WORKER, elsewhere):
        model.start(machine, each)
    model.stop_all(machine, (WORKER,))
    assert set(gateway.functions) == {"figlet", "worker-2"}


def test_a_wrong_password_is_told_as_one(gateway: FakeGateway) -> None:
    del gateway
    model = Function(experiment(), {"cloud-1": Control("wrong")})
    with pytest.raises(StepFailed, match="basic-auth is not the one") as found:
        model.start(Control(), WORKER)
    assert "wrong" not in f"{found.value.where}{found.value.output}"


def test_a_call_that_is_refused_for_a_moment_is_made_again() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))  # Not listening yet: whoever connects is refused.

        def answer() -> None:
            time.sleep(0.1)
            listening.listen()
            accepted, _ = listening.accept()
            with accepted:
                accepted.recv(1024)
                accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")

        listening.settimeout(5)
        answering = threading.Thread(target=answer)
        answering.start()
        gateway = Gateway("127.0.0.1", listening.getsockname()[1], "admin", "")
        assert gateway.call("GET", "/system/functions", seconds=5) == (200, b"[]")
        answering.join()


def test_a_gateway_that_is_not_there_is_told(
    gateway: FakeGateway, model: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    del gateway
    monkeypatch.setattr(openfaas, "PORT", 1)
    with pytest.raises(StepFailed, match="does not answer"):
        model.start(Control(), WORKER)


def test_starts_are_measured(model: Function, gateway: FakeGateway) -> None:
    model.start(Control(), WORKER)
    told: list[str] = []
    found = list(model.starts(Control(), WORKER, told.append))
    assert [each.kind for each in found] == ["cold", "zero", "out"]
    for each in found:
        # 150 ms are what a replica takes there; a look each 20 ms, on a host that is busy.
        assert 0.15 <= each.seconds < 1.5
    assert found[2].replicas == 2
    assert found[2].moments == (found[2].seconds,)
    assert gateway.functions["worker-1"].replicas == 1
    assert told[0] == "cold start of worker-1, 1 of 1"


def test_a_function_that_never_answers_ends_the_measuring_with_its_words(
    model: Function, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("continuum.software.execution_models.function.START_LIMIT", 2.0)
    times = iter((0.0, 0.0))

    def broken_and_then_late(_: bytes) -> tuple[int, bytes]:
        # The last attempt is cut off by the limit, and has nothing to tell.
        time.sleep(next(times, 3.0))
        return 500, b"it broke"

    gateway.behaviours[IMAGE] = broken_and_then_late
    model.start(Control(), WORKER)
    with pytest.raises(StepFailed, match="status 500: it broke"):
        list(model.starts(Control(), WORKER, lambda _: None))


@pytest.mark.parametrize(
    ("function", "container", "state"),
    [
        (None, {}, "absent"),
        ({"availableReplicas": 1}, {"state": {"running": {}}}, "ready"),
        ({"availableReplicas": 0}, {"state": {"running": {}}}, "starting"),
        ({}, {"state": {"waiting": {"reason": "ErrImageNeverPull"}}}, "failed"),
        (
            {"availableReplicas": 0},
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1}},
            },
            "failed",
        ),
    ],
)
def test_states(function: Any, container: dict[str, Any], state: str) -> None:
    pod = {"metadata": {}, "status": {"containerStatuses": [container] if container else []}}
    assert function_state(function, [pod]) == state


# -- the experiment ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('manager = "kubernetes"', 'manager = "none"', 'software.manager = "kubernetes" or'),
        ("worker_cpu = 1.0", 'workers = "endpoint"', "a tier of their own"),
    ],
)
def test_where_functions_cannot_be_is_one_problem(old: str, new: str, said: str) -> None:
    with pytest.raises(InvalidExperiment) as found:
        load_text(TEXT.replace(old, new), Path("functions.toml"))
    (problem,) = found.value.problems
    assert said in str(problem)
    assert "software.execution_model" in str(problem)


def test_endpoints_call_their_worker_through_the_gateway() -> None:
    asked = experiment()
    plan = plan_of(asked)
    application = ImageClassification(ImageClassificationSettings())
    found = benchmark_configure.configure(asked, plan, application)
    (worker, process) = found.workers[0]
    control = next(spec.address for spec in plan.machines if spec.name == "cloud-1")
    assert worker.gateway == control
    assert re.fullmatch(r"continuum.local/image-classification-function:[0-9a-f]+", process.image)
    assert process.arguments == ()
    assert process.ready_file == ""
    assert process.trial.endswith(".jpg")
    endpoint = found.repetitions[0][0].process
    config = json.loads(endpoint.files[f"{found.repetitions[0][0].load.folder}/config.json"])
    assert config["broker"] is None
    assert config["gateway"] == {"host": control, "port": 31112, "path": "/function/worker-1"}
    assert application.services(asked) == ()


def test_the_ways_in_name_the_gateway_and_where_the_password_is() -> None:
    asked = experiment()
    found = openfaas.access(asked, plan_of(asked))
    assert found is not None
    assert found.distribution == "builtin"
    assert re.fullmatch(r"http://[\d.]+:31112", found.url)
    assert openfaas.password_command("functions").startswith("continuum kubectl functions get sec")


def test_a_file_of_1_x_with_the_manager_only_brings_the_gateway_up() -> None:
    text = """\
[infrastructure]
provider = qemu
cloud_nodes = 2
cloud_cores = 2
cloud_memory = 2
cloud_quota = 1.0
[benchmark]
resource_manager = kubernetes
resource_manager_only = True
[execution_model]
model = openfaas
"""
    asked = load_text(
        text,
        Path("only.cfg"),
        provider="lxc",
        settings=("software.serverless.distribution=builtin",),
    ).experiment
    assert asked.benchmark is None
    found = openfaas.access(asked, plan_of(asked))
    assert found is not None
    assert found.distribution == "builtin"
