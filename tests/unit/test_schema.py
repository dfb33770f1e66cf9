"""What is generated from the model: the JSON Schema, the reference, TOML from an experiment."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from continuum.errors import InvalidExperiment
from continuum.experiment import reference, schema
from continuum.experiment.load import load, load_text
from continuum.experiment.write import to_toml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXAMPLES = sorted((ROOT / "examples").glob("*/*.toml"))
UPDATE = bool(os.environ.get("CONTINUUM_UPDATE_FILES"))
ADVICE = "stale: run CONTINUUM_UPDATE_FILES=1 python -m pytest tests/unit/test_schema.py"


def same(path: Path, text: str) -> bool:
    """Whether a generated file is as it should be; asked to, it is written first."""
    if UPDATE:
        path.write_text(text)
    return path.read_text() == text


def snippets(page: Path) -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema.schema())


def test_the_schema_is_one_and_is_up_to_date() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.schema())
    assert same(DOCS / "experiment.schema.json", schema.text()), ADVICE


def test_every_key_of_the_schema_has_a_description() -> None:
    def bare(node: Any, path: str) -> list[str]:
        found = []
        for name, inner in node.get("properties", {}).items():
            if "description" not in inner:
                found.append(f"{path}.{name}")
            found += bare(inner, f"{path}.{name}")
        return found

    whole = schema.schema()
    nodes = {"": whole, **whole["$defs"]}
    assert [key for name, node in nodes.items() for key in bare(node, name)] == []


def test_the_reference_is_up_to_date() -> None:
    page = DOCS / "experiment.md"
    assert same(page, reference.update(page.read_text())), ADVICE


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_examples_are_valid_to_the_schema_and_to_the_reader(
    path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    validator.validate(tomllib.loads(path.read_text()))
    assert load(path).not_runnable == ()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("page", ["experiment.md", "legacy-cfg.md"])
def test_snippets_in_the_pages_are_valid(
    page: str, validator: jsonschema.Draft202012Validator
) -> None:
    found = snippets(DOCS / page)
    assert found
    for text in found:
        whole = text if "[tiers" in text else f"{text}\n[tiers.edge]\n[tiers.endpoint]\n"
        validator.validate(tomllib.loads(whole))
        load_text(whole, Path("snippet.toml"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[tiers]",
        "[tiers.Edge]",
        "tiers.edge.machines = -1",
        "tiers.edge.memory = 5",
        'tiers.edge.memory = "5 Gib"',
        'tiers.edge.memory = "-5 GiB"',
        "tiers.edge.machine = 1",
        "tiers.edge = {}\nnetwork.links = [{}]",
        'tiers.edge = {}\nnetwork.links = [{ from = "edge" }]',
        'tiers.edge = {}\nnetwork.links = [{ between = ["edge"] }]',
        'tiers.edge = {}\nnetwork.preset = "6g"',
        "tiers.edge = {}\n[benchmark]",
        'tiers.edge = {}\n[benchmark]\napplication = "image_classification"\nthreds = 1',
        'tiers.edge = {}\n[benchmark]\napplication = "x"\nimage_classification.threds = 1',
        "tiers.edge = {}\ninfrastructure.lxc = 3",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(
    text: str, validator: jsonschema.Draft202012Validator
) -> None:
    assert not validator.is_valid(tomllib.loads(text))
    with pytest.raises(InvalidExperiment):
        load_text(text, Path("x.toml"))


def test_the_example_of_an_old_file_is_read_as_the_page_says() -> None:
    page = (DOCS / "legacy-cfg.md").read_text()
    (old,) = re.findall(r"^```\n(\[infra.*?)^```", page, re.MULTILINE | re.DOTALL)
    (new,) = snippets(DOCS / "legacy-cfg.md")
    assert to_toml(load_text(old, Path("old.cfg")).experiment) == new


def test_the_schema_holds_defaults_as_they_are_written() -> None:
    definitions = json.loads(schema.text())["$defs"]
    assert definitions["Tier"]["properties"]["memory"]["default"] == "1 GiB"
    assert definitions["Benchmark"]["properties"]["warmup"]["default"] == "5 s"
    assert "settings" not in definitions["Benchmark"]["properties"]


def test_an_experiment_is_written_as_toml() -> None:
    text = """\
name = "x"

[infrastructure]
provider = "lxc"
delete = true

[tiers.edge]
machines = 2
cores = 1
memory = "1.5 GiB"

[network]
all_pairs = true

[[network.links]]
from = "edge"
to = "edge-1"
delay = "7.5 ms"

[software]
manager = "none"
execution_model = "process"

[benchmark]
application = "command"
endpoints = "edge"
frequency = "5 Hz"
duration = "60 s"

[benchmark.command]
endpoint = ["a", "b \\" \\\\ ü \\u007f"]
columns = { "my column" = "text", size = "integer" }
"""
    loaded = load_text(text.replace("my column", "my_column"), Path("x.toml"))
    written = to_toml(loaded.experiment)
    assert written == text.replace('"my column"', "my_column")
