from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from continuum.benchmark.applications import command
from continuum.benchmark.applications.command import CommandApplication, CommandSettings
from continuum.benchmark.contract import RUN_FOLDER, Endpoint, Load, Transport, Worker
from continuum.errors import UsageError
from continuum.experiment.model import Benchmark, Experiment, Tier
from continuum.images.recipe import DebianPackages, PythonPackages
from continuum.secret import Secret

WORKER = Worker("worker-2", 2, "edge-1", "10.0.1.2", 0.75, 2**29)
ENDPOINT = Endpoint("endpoint-1", 1, "endpoint-1", "10.0.2.1", 0.5, 2**30, WORKER)
LOAD = Load(3, 99, 2.5, 2.0, 10.0, 5.0, f"{RUN_FOLDER}/endpoint-1-3")


def application(**settings: Any) -> CommandApplication:
    given = {"endpoint": "./send", "worker": "./serve", **settings}
    return CommandApplication(CommandSettings.model_validate(given))


def config(files: Any) -> dict[str, Any]:
    (path,) = [path for path in files if path.endswith("/config.json")]
    found: dict[str, Any] = json.loads(files[path])
    return found


def experiment(edge: int = 1, workers: str = "", per_machine: int = 1) -> Experiment:
    return Experiment(
        name="own",
        tiers={"edge": Tier(machines=edge), "endpoint": Tier(machines=2)},
        benchmark=Benchmark(
            application="command", workers=workers, workers_per_machine=per_machine
        ),
    )


def test_one_text_is_split_as_a_shell_would_but_nothing_is_run_by_one() -> None:
    app = application(worker="python3 serve.py --text 'two words' $HOME", endpoint=["a", "b c"])
    worker = config(app.worker(WORKER, (ENDPOINT,)).files)
    assert worker["arguments"] == ["python3", "serve.py", "--text", "two words", "$HOME"]
    assert config(app.endpoint(ENDPOINT, LOAD).files)["arguments"] == ["a", "b c"]


def test_an_endpoint_learns_its_load() -> None:
    spec = application(environment={"COLOUR": "red"}).endpoint(ENDPOINT, LOAD)
    assert spec.secrets == {"COLOUR": Secret("red")}
    assert {name: value for name, value in spec.environment.items() if "PYTHON" not in name} == {
        "CONTINUUM_ROLE": "endpoint",
        "CONTINUUM_NAME": "endpoint-1",
        "CONTINUUM_NUMBER": "1",
        "CONTINUUM_REPETITION": "3",
        "CONTINUUM_SEED": "99",
        "CONTINUUM_FREQUENCY": "2.5",
        "CONTINUUM_ARRIVALS": "periodic",
        "CONTINUUM_ARRIVALS_FILE": f"{LOAD.folder}/arrivals.txt",
        "CONTINUUM_WARMUP": "2.0",
        "CONTINUUM_DURATION": "10.0",
        "CONTINUUM_WARMUP_REQUESTS": "5",
        "CONTINUUM_REQUESTS": "25",
        "CONTINUUM_ANSWER_TIMEOUT": "5.0",
        "CONTINUUM_FOLDER": LOAD.folder,
        "CONTINUUM_READY_FILE": f"{LOAD.folder}/ready",
        "CONTINUUM_WORKER": "worker-2",
        "CONTINUUM_WORKER_ADDRESS": "10.0.1.2",
        "CONTINUUM_WORKER_PORT": "20001",
    }


def test_an_endpoint_is_given_arrivals_that_are_not_periodic() -> None:
    load = replace(LOAD, arrivals="poisson")
    spec = application().endpoint(ENDPOINT, load)
    assert spec.environment["CONTINUUM_ARRIVALS"] == "poisson"
    path = spec.environment["CONTINUUM_ARRIVALS_FILE"]
    told = config(spec.files)["load"]
    assert told["arrivals"] == path
    assert tuple(map(int, spec.files[path].split())) == load.offsets_ns
    assert (told["warmup"], told["requests"]) == load.requests


def test_a_worker_learns_where_to_listen_and_whom_to_answer() -> None:
    spec = application(worker_ready="port").worker(WORKER, (ENDPOINT,))
    assert spec.environment["CONTINUUM_WORKER_ADDRESS"] == "10.0.1.2"
    assert spec.environment["CONTINUUM_WORKER_PORT"] == "20001"
    assert spec.environment["CONTINUUM_ENDPOINTS"] == "endpoint-1"
    told = config(spec.files)
    assert (told["ready"], told["address"], told["port"]) == ("port", "10.0.1.2", 20001)
    assert spec.ready_file == f"{RUN_FOLDER}/worker-2/ready"


def test_a_port_of_the_users_own() -> None:
    spec = application(port=8080).endpoint(ENDPOINT, LOAD)
    assert spec.environment["CONTINUUM_WORKER_PORT"] == "8080"


def test_files_go_to_the_machines_and_programs_among_them_can_be_run(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "send").write_text("#!/bin/sh\n")
    (tmp_path / "sub" / "data").write_bytes(b"\0\1\2")
    (tmp_path / "__pycache__" / "x.pyc").write_bytes(b"x")
    spec = application(files=str(tmp_path)).endpoint(ENDPOINT, LOAD)
    copied = {path: content for path, content in spec.files.items() if "config.json" not in path}
    assert copied == {
        "/opt/continuum/command/send": b"#!/bin/sh\n",
        "/opt/continuum/command/sub/data": b"\0\1\2",
    }
    assert config(spec.files)["executable"] == ["/opt/continuum/command/send"]
    assert spec.working_directory == "/opt/continuum/command"


def test_one_file(tmp_path: Path) -> None:
    (tmp_path / "send.py").write_text("print()")
    (tmp_path / "other.py").write_text("print()")
    spec = application(files=tmp_path / "send.py").endpoint(ENDPOINT, LOAD)
    assert set(spec.files) == {"/opt/continuum/command/send.py", f"{LOAD.folder}/config.json"}


def test_too_many_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "FILES_LIMIT", 10)
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(UsageError, match="larger than"):
        application(files=tmp_path).endpoint(ENDPOINT, LOAD)


@pytest.mark.parametrize(
    ("settings", "given", "reason"),
    [
        ({}, experiment(), None),
        ({"worker": ""}, experiment(workers="endpoint"), None),
        ({"worker": []}, experiment(edge=0), None),
        ({"files": "/no/such/folder"}, experiment(), 'no "/no/such/folder"'),
        ({}, experiment(workers="endpoint"), "also that of the endpoints"),
        ({"worker": ""}, experiment(), "no worker is given"),
        ({"port": 80}, experiment(per_machine=2), "cannot share a port"),
    ],
)
def test_which_experiments_fit(
    settings: dict[str, Any], given: Experiment, reason: str | None
) -> None:
    found = application(**settings).skip(given)
    assert (found is None) == (reason is None)
    assert reason is None or (found is not None and reason in found)


@pytest.mark.parametrize(
    "settings",
    [
        {"endpoint": ""},
        {"endpoint": []},
        {"endpoint": [1]},
        {"endpoint": "'unclosed"},
        {"worker": 5},
        {"worker_ready": "soon"},
        {"port": 0},
        {"port": 65536},
        {"environment": {"CONTINUUM_SEED": "1"}},
        {"environment": {"A=B": "1"}},
        {"debian_packages": ["-y"]},
        {"debian_packages": ["a b"]},
        {"python_packages": ["--index-url=x"]},
        {"columns": {"Bad": "text"}},
        {"columns": {"good": "float"}},
        {"columns": {"status": "text"}},
        {"wroker": "x"},
    ],
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CommandSettings.model_validate({"endpoint": "./send", **settings})


def test_what_crosses_the_network_is_known_when_the_settings_say_it() -> None:
    assert application().transport() is None
    assert application(protocol_bytes=7).transport() == Transport(protocol_bytes=7)


def test_results_of_earlier_runs_are_not_copied(tmp_path: Path) -> None:
    results = tmp_path / "results" / "first"
    (results / "plots").mkdir(parents=True)
    for path in ("run.json", "report.html", "plots/a.svg"):
        (results / path).write_text("{}")
    (tmp_path / ".git").mkdir()
    for path in (".git/config", "run.json", "endpoint.py", "results/kept"):
        (tmp_path / path).write_text("")
    files = application(files=str(tmp_path)).endpoint(ENDPOINT, LOAD).files
    copied = {path.removeprefix("/opt/continuum/command/") for path in files if "/opt/" in path}
    assert copied == {"run.json", "endpoint.py", "results/kept"}


def test_packages_are_installed() -> None:
    steps = application(debian_packages=["curl"], python_packages=["flask>=3"]).install()
    assert DebianPackages(("python3", "curl")) in steps
    assert PythonPackages(("flask>=3",)) in steps


def test_own_columns_hold_their_types_or_nothing() -> None:
    app = application(
        columns={"a": "text", "b": "integer", "c": "number", "d": "boolean", "agrees": "boolean"}
    )
    assert app.columns().names == ["a", "b", "c", "d", "agrees", "error"]
    right = app.complete({"a": "x", "b": 1, "c": 2, "d": True, "agrees": False, "error": "no"})
    assert right == {"a": "x", "b": 1, "c": 2.0, "d": True, "agrees": False, "error": "no"}
    wrong = app.complete({"a": [1], "b": 1.5, "c": "2", "d": 1, "error": None})
    assert wrong == {
        "a": "[1]",
        "b": None,
        "c": None,
        "d": None,
        "agrees": None,
        "error": None,
    }
    assert app.complete({"b": True})["b"] is None
    assert app.complete({"b": 2**63})["b"] is None
    assert app.complete({"c": 10**400})["c"] is None
    assert app.complete({"a": "\ud800"})["a"] == "?"
    assert app.agreement(right) is False
    assert app.agreement(wrong) is None
