"""What the pages on applications say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from continuum.benchmark.applications.command import CommandApplication, CommandSettings
from continuum.benchmark.applications.container import ContainerApplication, ContainerSettings
from continuum.benchmark.applications.image_classification.application import (
    ImageClassificationSettings,
)
from continuum.benchmark.applications.image_classification.build import LABELS, MODEL, PHOTOS
from continuum.benchmark.contract import Endpoint, Load, Worker
from continuum.benchmark.sample_lines import RESERVED, STATUSES
from continuum.infrastructure.providers.contract import PluginSettings
from continuum_runtime import message

ROOT = Path(__file__).parents[2]
APPLICATIONS = (ROOT / "docs" / "applications.md").read_text()
FORMAT = (ROOT / "docs" / "sample-format.md").read_text()
CONTAINER = (ROOT / "docs" / "application-container.md").read_text()
OWN = (ROOT / "docs" / "write-your-own-application.md").read_text()


@pytest.mark.parametrize("name", ["worker.py", "endpoint.py", "experiment.toml"])
def test_the_example_is_on_the_page_as_it_is_run(name: str) -> None:
    content = (ROOT / "examples" / "own-application" / name).read_text()
    assert f"\n{content}```\n" in OWN


def test_every_variable_is_described_and_no_other() -> None:
    application = CommandApplication(CommandSettings(endpoint=("a",), worker=("b",)))
    worker = Worker("worker-1", 1, "edge-1", "10.0.0.1", 1, 1)
    endpoint = Endpoint("endpoint-1", 1, "endpoint-1", "10.0.0.2", 1, 1, worker)
    load = Load(1, 1, 1, 1, 1, 1, "/run")
    told = {
        "worker": set(application.worker(worker, (endpoint,)).environment),
        "endpoint": {*application.endpoint(endpoint, load).environment, "CONTINUUM_START_NS"},
    }
    lines = [line.split("|") for line in APPLICATIONS.splitlines() if line.startswith("| `CONT")]
    rows = [(line[1].strip(" `"), line[2], line[3]) for line in lines]
    for index, role in enumerate(("worker", "endpoint"), start=1):
        ours = {name for name in told[role] if name.startswith("CONTINUUM_")}
        assert {row[0] for row in rows if row[index].strip() == "✓"} == ours


@pytest.mark.parametrize("settings", [CommandSettings, ImageClassificationSettings])
def test_every_setting_is_described(settings: type[PluginSettings]) -> None:
    for name in settings.model_fields:
        assert f"`{name}`" in APPLICATIONS


def test_every_package_is_named_with_its_version() -> None:
    for package in (MODEL, LABELS, *PHOTOS):
        assert f"{package.name} {package.version}" in APPLICATIONS


def test_every_field_and_status_is_described() -> None:
    for name in RESERVED[4:]:
        assert f"`{name}`" in FORMAT
    for status in STATUSES:
        assert f"`{status}`" in FORMAT


def test_the_layout_on_the_page_is_that_of_the_code() -> None:
    assert message.__doc__ is not None
    head = re.findall(r"^\| (\d+) \| (\S+) ", message.__doc__, re.MULTILINE)
    page = re.findall(r"^\| (\d+) \| (\S+) ", FORMAT, re.MULTILINE)
    assert page[: len(head)] == head
    assert ("60", "bytes") in page
    assert message.REQUEST_HEADER_BYTES == 60
    assert ("64", "bytes") in page
    assert message.ANSWER_HEADER_BYTES == 64


def test_the_page_of_container_names_its_settings_and_what_the_worker_is_told() -> None:
    for name in ContainerSettings.model_fields:
        assert f"`{name}`" in CONTAINER
    application = ContainerApplication(ContainerSettings(endpoint=("a",), image="b:1"))
    worker = Worker("worker-1", 1, "edge-1", "10.0.0.1", 1, 1)
    for name in application.worker(worker, ()).environment:
        assert f"`{name}`" in CONTAINER
