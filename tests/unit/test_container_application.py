from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from continuum.benchmark.applications.container import ContainerApplication, ContainerSettings
from continuum.benchmark.contract import RUN_FOLDER, Endpoint, Load, Worker
from continuum.experiment.model import Benchmark, Experiment, Software, Tier
from continuum.secret import Secret
from foreign_archives import LOW, docker

WORKER = Worker("worker-2", 2, "edge-1", "10.0.1.2", 0.75, 2**29)
ENDPOINT = Endpoint("endpoint-1", 1, "endpoint-1", "10.0.2.1", 0.5, 2**30, WORKER)
LOAD = Load(1, 99, 2.5, 2.0, 10.0, 5.0, f"{RUN_FOLDER}/endpoint-1-1")


def application(**settings: Any) -> ContainerApplication:
    given = {"endpoint": "./send", "image": "me/own:1", **settings}
    return ContainerApplication(ContainerSettings.model_validate(given))


def experiment(model: str = "container", workers: str = "edge", per_machine: int = 1) -> Experiment:
    return Experiment(
        name="own",
        tiers={"edge": Tier(machines=1), "endpoint": Tier(machines=2)},
        software=Software(execution_model=model),
        benchmark=Benchmark(
            application="container", workers=workers, workers_per_machine=per_machine
        ),
    )


def test_the_worker_is_what_the_image_says_and_told_where_to_listen() -> None:
    spec = application(environment={"COLOUR": "red"}).worker(WORKER, (ENDPOINT,))
    assert spec.arguments == ()
    assert (spec.working_directory, spec.ready_file, spec.files) == ("", "", {})
    assert (spec.cpu, spec.memory, spec.port) == (0.75, 2**29, 20001)
    assert spec.secrets == {"COLOUR": Secret("red")}
    assert spec.environment == {
        "CONTINUUM_ROLE": "worker",
        "CONTINUUM_NAME": "worker-2",
        "CONTINUUM_NUMBER": "2",
        "CONTINUUM_ENDPOINTS": "endpoint-1",
        "CONTINUUM_WORKER": "worker-2",
        "CONTINUUM_WORKER_ADDRESS": "10.0.1.2",
        "CONTINUUM_WORKER_PORT": "20001",
    }


def test_another_program_of_the_image_may_be_named() -> None:
    spec = application(worker="serve --fast", port=80).worker(WORKER, ())
    assert (spec.arguments, spec.port) == (("serve", "--fast"), 80)


@pytest.mark.parametrize(
    ("ready", "told"),
    [
        ("port", {"ready": "port", "address": "10.0.1.2", "port": 20001}),
        ("started", {}),
    ],
)
def test_endpoints_wait_for_the_port(ready: str, told: dict[str, Any]) -> None:
    app = application(worker_ready=ready)
    spec = app.endpoint(ENDPOINT, LOAD)
    config = json.loads(spec.files[f"{LOAD.folder}/config.json"])
    assert {name: config[name] for name in ("ready", "address", "port") if name in config} == told
    alone = app.endpoint(dataclasses.replace(ENDPOINT, worker=None), LOAD)
    assert "ready" not in json.loads(alone.files[f"{LOAD.folder}/config.json"])


def test_an_experiment_that_fits() -> None:
    assert application().skip(experiment()) is None
    assert application().skip(experiment(per_machine=3)) is None


@pytest.mark.parametrize(
    ("settings", "change", "said"),
    [
        ({}, {"model": "process"}, 'execution_model = "container"'),
        ({}, {"workers": "endpoint"}, "a tier of their own"),
        ({"port": 80}, {"per_machine": 2}, "cannot share a port"),
        ({"image": ""}, {}, "either `archive` or `image`"),
        ({"archive": "/nowhere.tar"}, {}, "either `archive` or `image`"),
        ({"archive": "/nowhere.tar", "image": ""}, {}, "archive: there is no file"),
    ],
)
def test_what_does_not_fit(settings: Any, change: Any, said: str) -> None:
    reason = application(**settings).skip(experiment(**change))
    assert reason is not None
    assert said in reason


@pytest.mark.parametrize(
    "settings", [{"image": "own"}, {"image": "own:latest"}, {"worker_ready": "file"}]
)
def test_settings_that_cannot_be(settings: Any) -> None:
    with pytest.raises(ValidationError):
        application(**settings)


def test_its_image_is_known_before_anything_is_fetched(tmp_path: Path) -> None:
    assert application().container_image().reference.startswith("continuum.local/own:")
    archive = docker(tmp_path / "serve.tar", LOW)
    app = application(archive=archive, image="")
    assert app.skip(experiment()) is None
    assert app.container_image().reference.startswith("continuum.local/serve:")
