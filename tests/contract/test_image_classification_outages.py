"""Whatever dies in mid-run, the endpoint ends in time, and every request leaves a sample."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from brokers import Broker, broker
from continuum.benchmark.applications.image_classification import ImageClassification
from continuum.benchmark.applications.image_classification.application import (
    ImageClassificationSettings,
)
from continuum.benchmark.contract import RUN_FOLDER, Endpoint, Load, Worker
from continuum.benchmark.sample_lines import parse_lines
from continuum.software.contract import ProcessSpec
from continuum.testing.local import LocalHost

WORKER = Worker("worker-1", 1, "edge-1", "127.0.0.1", 1.0, 2**30)
ENDPOINT = Endpoint("endpoint-1", 1, "endpoint-1", "127.0.0.1", 0.5, 2**29, WORKER)
LOAD = Load(
    repetition=1,
    seed=1,
    frequency=10,
    warmup=0.0,
    duration=3.0,
    answer_timeout=1.0,
    folder=f"{RUN_FOLDER}/endpoint-1-1",
)


@dataclass
class Bench:
    """A worker and an endpoint that are ready, and their broker."""

    host: LocalHost
    broker: Broker
    worker: ProcessSpec
    endpoint: ProcessSpec

    def run(self, disturb: Callable[[], object], *, after: int = 8) -> list[dict[str, Any]]:
        """Samples of a load that is disturbed after so many answers, by sequence."""
        folder = self.host.path(LOAD.folder)
        (folder / "start.new").write_text(str(time.time_ns()))
        (folder / "start.new").rename(folder / "start")
        began = time.monotonic()
        while after and len(self.samples()) < after:
            assert time.monotonic() - began < 10, self.host.errors(self.endpoint)
            time.sleep(0.01)
        disturb()
        process = self.host.processes[self.endpoint.name]
        assert process.wait(LOAD.duration + LOAD.answer_timeout + 5) == 0
        return self.samples()

    def samples(self) -> list[dict[str, Any]]:
        path = self.host.path(LOAD.folder) / "samples.jsonl"
        found, problems = parse_lines(path.read_bytes())
        assert not problems
        return sorted(found, key=lambda sample: int(sample["sequence"]))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What would be baked into the machine image. Not a test's own cache: packages stay."""
    root = tmp_path_factory.mktemp("image")
    LocalHost(root).install(ImageClassification(ImageClassificationSettings()).install())
    return root


@pytest.fixture
def bench(tmp_path: Path, installed: Path) -> Iterator[Bench]:
    application = ImageClassification(ImageClassificationSettings())
    shutil.copytree(installed, tmp_path, dirs_exist_ok=True)
    with broker(tmp_path) as running, LocalHost(tmp_path) as host:
        application.port = running.port
        worker = application.worker(WORKER, (ENDPOINT,))
        endpoint = application.endpoint(ENDPOINT, LOAD)
        for spec in (worker, endpoint):
            host.start(spec)
        for spec in (worker, endpoint):
            host.await_ready(spec)
        yield Bench(host, running, worker, endpoint)


def statuses(samples: list[dict[str, Any]]) -> list[str]:
    assert [sample["sequence"] for sample in samples] == list(range(30))
    return [sample["status"] for sample in samples]


def test_a_broker_that_dies(bench: Bench) -> None:
    found = statuses(bench.run(bench.broker.kill))
    assert found[:8] == ["ok"] * 8
    assert set(found[10:]) == {"error"}


def test_a_broker_that_comes_back(bench: Bench) -> None:
    def restart() -> None:
        bench.broker.kill()
        bench.broker.start()

    found = statuses(bench.run(restart))
    assert found[:8] == ["ok"] * 8
    assert "error" in found
    assert found[-1] == "ok"


def test_a_worker_that_dies(bench: Bench) -> None:
    samples = bench.run(bench.host.processes[bench.worker.name].kill)
    found = statuses(samples)
    assert found[:8] == ["ok"] * 8
    assert set(found[10:]) == {"lost"}
    assert samples[-1]["sent_ns"] is not None
    assert samples[-1]["answered_ns"] is None


def test_an_endpoint_that_never_gets_an_answer(bench: Bench) -> None:
    worker = bench.host.processes[bench.worker.name]
    worker.kill()
    worker.wait(10)
    samples = bench.run(lambda: None, after=0)
    assert set(statuses(samples)) == {"lost"}
    assert all(sample["sent_ns"] and sample["answered_ns"] is None for sample in samples)


def test_an_endpoint_that_is_stopped_keeps_what_it_knows(bench: Bench) -> None:
    samples = bench.run(bench.host.processes[bench.endpoint.name].terminate)
    assert 8 <= len(samples) < 30
    assert {sample["status"] for sample in samples} <= {"ok", "lost"}
    assert [sample["sequence"] for sample in samples] == list(range(len(samples)))


def test_a_photo_that_cannot_be_decoded_is_answered_with_an_error(bench: Bench) -> None:
    config = json.loads(bench.host.path(f"{LOAD.folder}/config.json").read_bytes())
    photos = Path(config["photos"])

    def spoil() -> None:
        for path in photos.iterdir():
            path.write_bytes(path.read_bytes()[:1000])

    samples = bench.run(spoil)
    found = statuses(samples)
    assert found[:8] == ["ok"] * 8
    assert set(found[10:]) == {"error"}
    assert "not a photo" in samples[-1]["error"]
    assert samples[-1]["result"] is None
    assert samples[-1]["finished_ns"] is not None
