"""The applications that ship with Continuum keep the contract that others inherit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from brokers import broker
from continuum import folders
from continuum.benchmark.applications.command import CommandApplication
from continuum.benchmark.applications.container import ContainerApplication
from continuum.benchmark.applications.image_classification import ImageClassification
from continuum.benchmark.contract import Application
from continuum.experiment.model import Benchmark, Experiment, Software, Tier
from continuum.testing.application import ApplicationContract
from doc_files import write_files_of

# Taken before tests get a cache of their own: packages are downloaded once, not for each test.
CACHE = folders.cache_folder()
EXAMPLE = Path(__file__).parents[2] / "examples" / "own-application"


class TestImageClassification(ApplicationContract):
    application_type = ImageClassification

    @pytest.fixture(autouse=True)
    def _packages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(folders, "cache_folder", lambda: CACHE)

    def unfit(self) -> tuple[Experiment, ...]:
        # One endpoint for two workers.
        return (
            Experiment(
                name="contract",
                tiers={"edge": Tier(machines=2), "endpoint": Tier(machines=1)},
                benchmark=Benchmark(application="image_classification"),
            ),
        )

    @contextmanager
    def surroundings(self, application: Application, folder: Path) -> Iterator[None]:
        assert isinstance(application, ImageClassification)
        with broker(folder) as running:
            application.port = running.port
            yield

    def check_samples(self, samples: list[dict[str, Any]]) -> None:
        judged = [sample for sample in samples if sample["expected"] is not None]
        assert len(judged) >= 5
        assert all(sample["agrees"] for sample in judged), judged
        assert all(sample["request_bytes"] > 20_000 for sample in samples)


class TestOwnProgramsOfTheExample(ApplicationContract):
    application_type = CommandApplication
    settings: ClassVar[dict[str, Any]] = {
        "files": EXAMPLE,
        "worker": "python3 worker.py",
        "worker_ready": "port",
        "endpoint": ["python3", "endpoint.py"],
        "columns": {"expected": "text", "agrees": "boolean"},
    }
    answers_itself = False

    def check_samples(self, samples: list[dict[str, Any]]) -> None:
        assert all(sample["agrees"] for sample in samples)
        assert len({sample["expected"] for sample in samples}) == len(samples)


_ALONE = """
import json, os, time
start = int(os.environ["CONTINUUM_START_NS"])
for sequence, offset in enumerate(open(os.environ["CONTINUUM_ARRIVALS_FILE"])):
    due = start + int(offset)
    time.sleep(max(0, due - time.time_ns()) / 1e9)
    print(json.dumps({"sequence": sequence, "intended_ns": due, "answered_ns": time.time_ns()}))
"""


class TestOwnProgramWithoutAWorker(ApplicationContract):
    application_type = CommandApplication
    settings: ClassVar[dict[str, Any]] = {"endpoint": ["python3", "-c", _ALONE]}
    needs_worker = False

    def unfit(self) -> tuple[Experiment, ...]:
        return (self.experiment(itself=False),)


class TestOwnContainer(ApplicationContract):
    """The page's programs; the worker's runs outside of its image here."""

    application_type = ContainerApplication
    answers_itself = False
    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _example(self, tmp_path: Path) -> None:
        folder = tmp_path / "page"
        write_files_of("application-container.md", folder)
        settings = {
            "image": "checksum:1",
            "worker": ["python3", str(folder / "worker.py")],
            "files": folder / "endpoint.py",
            "endpoint": "python3 endpoint.py",
            "columns": {"agrees": "boolean"},
        }
        type(self).settings = settings

    def experiment(self, *, itself: bool = False, endpoints: int = 2) -> Experiment:
        fitting = super().experiment(itself=itself, endpoints=endpoints)
        return fitting.model_copy(update={"software": Software(execution_model="container")})

    def unfit(self) -> tuple[Experiment, ...]:
        return (super().experiment(), self.experiment(itself=True))

    def test_ends_in_time_without_a_worker(self, tmp_path: Path) -> None:
        """Told not to wait for the worker's port."""
        self.settings["worker_ready"] = "started"
        super().test_ends_in_time_without_a_worker(tmp_path)

    def check_samples(self, samples: list[dict[str, Any]]) -> None:
        assert all(sample["agrees"] for sample in samples)
