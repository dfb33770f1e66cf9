"""From a file to an experiment: bad files, overrides, origins, names."""

from __future__ import annotations

import errno
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from continuum import plugins
from continuum.benchmark.applications.command import CommandApplication
from continuum.benchmark.contract import Misfit
from continuum.errors import InvalidExperiment
from continuum.experiment.load import load, load_text, name_from
from continuum.experiment.model import Experiment

TEXT = """\
[tiers.edge]
machines = 2

[tiers.far-edge]

[network]
preset = "4g"

[[network.links]]
between = ["edge", "far-edge"]
delay = "5 ms"

[benchmark]
application = "image_classification"
workers = "far-edge"
endpoints = "far-edge"
"""
HERE = Path("here.toml")


def messages(error: InvalidExperiment) -> list[str]:
    return [str(problem) for problem in error.problems]


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty (`continuum init` writes one to start from)"),
        (b" \n\t\n", "is empty (`continuum init` writes one to start from)"),
        (b"a = 1\nb = '\xff'\n", "is not text in UTF-8"),
        (b"\xff\xfe" + "a = 1".encode("utf-16-le"), "is not text in UTF-8"),
        (b"a = 1\n\nb = '\0'\n", "holds a NUL byte: this is not a text file"),
    ],
)
@pytest.mark.parametrize("suffix", [".toml", ".cfg"])
def test_refuses_what_is_no_text(content: bytes, message: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(InvalidExperiment) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert str(problem).endswith(message)
    assert problem.line == {b"a = 1\nb": 2, b"a = 1\n\n": 3}.get(content[:7], problem.line)


def test_refuses_a_large_file_without_reading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.toml"
    with path.open("wb") as stream:
        stream.truncate(50_000_000)
    monkeypatch.delattr(Path, "open")
    with pytest.raises(InvalidExperiment, match=r"is 50\.0 MB long; .* at most 1 MB"):
        load(path)


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    for name, message in {
        "none.toml": "no such file",
        "folder.toml": "is a folder, not an experiment file",
        "": "is a folder, not an experiment file",
        "pipe.toml": "is not a regular file",
        "x.yaml": "the name of an experiment file ends in .toml or .cfg",
        "x": "the name of an experiment file ends in .toml or .cfg",
        "a\0b.toml": "embedded null",
        f"{'x' * 300}.toml": "cannot be read: File name too long",
    }.items():
        with pytest.raises(InvalidExperiment) as caught:
            load(tmp_path / name)
        assert message in str(caught.value)


def test_refuses_a_file_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(TEXT)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InvalidExperiment, match="cannot be read: Permission denied"):
        load(path)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert load(path).experiment.machine_count == 3


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("edge.toml", "edge"),
        ("My_Experiment 2.TOML", "my-experiment-2"),
        ("05_kubernetes-img.cfg", "kubernetes-img"),
        ("42.toml", "experiment"),
        ("übung.toml", "bung"),
        (f"{'x' * 29}-{'y' * 9}.toml", f"{'x' * 29}-y"),
        (f"{'x' * 30}-{'y' * 9}.toml", "x" * 30),
    ],
)
def test_a_file_gives_its_name(file: str, name: str) -> None:
    assert name_from(Path(file)) == name


# -- overrides -----------------------------------------------------------------------------------


def test_values_from_beside_the_file_and_their_origins() -> None:
    loaded = load_text(
        TEXT,
        HERE,
        settings=[
            "benchmark.duration=30s",
            "tiers.edge.machines = 3",
            "tiers.cloud.cores=2",
            "network.links.0.rate=7.21 Mbit/s",
            'network.links.1={ from = "edge", to = "cloud", loss = "1%" }',
            "software.kubernetes.version=1.34",
            "software.services=['mqtt']",
            "benchmark.image_classification.threads=2",
            "infrastructure.delete=true",
            'name="quoted"',
        ],
        provider="fake",
        environment={
            "CONTINUUM_SET__BENCHMARK__DURATION": "20s",
            "CONTINUUM_SET__TIERS__FAR_EDGE__QUOTA": "0.5",
            "CONTINUUM_SET__BENCHMARK__WORKERS_PER_MACHINE": "2",
            "CONTINUUM_OTHER": "x",
            "HOME": "/",
        },
    )
    experiment = loaded.experiment
    assert experiment.name == "quoted"
    assert experiment.infrastructure.provider == "fake"
    assert experiment.infrastructure.delete
    assert {name: tier.machines for name, tier in experiment.tiers.items()} == {
        "edge": 3,
        "far-edge": 1,
        "cloud": 1,
    }
    assert experiment.tiers["far-edge"].quota == 0.5
    assert experiment.network is not None
    assert experiment.network.links[0].rate == 7.21
    assert experiment.network.links[1].loss == 1.0
    assert experiment.software is not None
    assert experiment.software.kubernetes.version == "1.34"
    assert experiment.software.services == ("mqtt",)
    assert experiment.benchmark is not None
    assert experiment.benchmark.duration == 30.0
    assert experiment.benchmark.workers_per_machine == 2
    assert experiment.benchmark.settings == {"threads": 2}
    picked = {
        "name": "--set",
        "infrastructure.provider": "--provider",
        "infrastructure.internet": "default",
        "tiers.edge.machines": "--set",
        "tiers.far-edge.quota": "environment CONTINUUM_SET__TIERS__FAR_EDGE__QUOTA",
        "tiers.far-edge.cores": "default",
        "network.preset": "here.toml:7",
        "network.links.0.delay": "here.toml:11",
        "network.links.0.jitter": "preset 4g",
        "network.links.0.rate": "--set",
        "network.links.0.to": "default",
        "network.links.1.loss": "--set",
        "benchmark.duration": "--set",
        "benchmark.workers_per_machine": "environment CONTINUUM_SET__BENCHMARK__WORKERS_PER_MACHINE",
        "benchmark.image_classification.threads": "--set",
        "benchmark.application": "here.toml:14",
    }
    assert {key: loaded.origins[key] for key in picked} == picked


def test_the_name_and_origins_of_a_file_without_one() -> None:
    loaded = load_text("[tiers.edge]\n", HERE)
    assert loaded.experiment.name == "here"
    assert loaded.origins["name"] == "name of the file"
    assert loaded.origins["network"] == "default"


def test_another_provider_leaves_the_files_settings_behind() -> None:
    text = '[tiers.edge]\n[infrastructure]\nprovider = "terraform"\n[infrastructure.terraform]\nx = 1\n'
    assert load_text(text, HERE).not_runnable
    loaded = load_text(text, HERE, provider="fake")
    assert loaded.experiment.infrastructure.settings == {}
    assert loaded.notes == ('[infrastructure.terraform] is not used: the provider is "fake"',)
    assert loaded.not_runnable == ()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "benchmark.duration=30x",
            ('--set: benchmark.duration: "30x": unknown unit; '
            "known units: us, µs, ms, s, min, h"),
        ),
        ("benchmark.duration", '--set: "benchmark.duration" has no "=": write KEY=VALUE'),
        ("=3", '--set: "" is not a key, as in benchmark.duration'),
        ("a..b=3", '--set: "a..b" is not a key, as in benchmark.duration'),
        (".".join("a" * 40) + "=3", f'--set: "{"a." * 20}…" is not a key, as in benchmark.duration'),
        ("benchmark.duratoin=3", '--set: benchmark.duratoin: unknown key (did you mean "duration"?)'),
        ("tiers.edge.machines.x=3", '--set: "tiers.edge.machines.x": tiers.edge.machines has nothing called "x"'),
        ("network.links.9.delay=1ms", '--set: "network.links.9.delay": network.links has nothing called "9"'),
        ("network.links.x.delay=1ms", '--set: "network.links.x.delay": network.links has nothing called "x"'),
        ("tiers.fog.machines=-1", "--set: tiers.fog.machines: must be at least 0, not -1"),
        ("name=a\nb", '--set: "name": the key or the value holds characters that are no text'),
        ("name=\udcff", '--set: "name": the key or the value holds characters that are no text'),
    ],
)  # fmt: skip
def test_a_wrong_override_is_blamed_on_itself(setting: str, expected: str) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        load_text(TEXT, HERE, settings=[setting])
    assert messages(caught.value) == [expected]


@pytest.mark.parametrize("value", ["3", '"x"', '""', "[1]", "true", "1979-05-27"])
@pytest.mark.parametrize(
    "given",
    [
        {"provider": "fake"},
        {"settings": ["infrastructure.provider=fake"]},
        {"environment": {"CONTINUUM_SET__INFRASTRUCTURE__PROVIDER": "fake"}},
    ],
)
def test_a_file_that_has_something_else_in_the_place_of_a_table_is_blamed_for_it(
    value: str, given: dict[str, Any]
) -> None:
    text = f"tiers.edge.machines = 1\n\ninfrastructure = {value}\n"
    with pytest.raises(InvalidExperiment) as caught:
        load_text(text, HERE, **given)
    (found,) = caught.value.problems
    assert (found.file, found.line) == (str(HERE), 3)
    assert found.message.startswith("infrastructure: must be a table, not ")


@pytest.mark.parametrize("application", ["image_classification", "command", "container", "empty"])
def test_workers_need_a_tier_whatever_the_application(application: str) -> None:
    text = f'[tiers.x]\n[benchmark]\napplication = "{application}"\nendpoints = ""\n'
    text += '[benchmark.command]\nendpoint = ["true"]\n' if application == "command" else ""
    with pytest.raises(InvalidExperiment) as caught:
        load_text(text, HERE)
    assert any(
        each.line == 2 and each.message.startswith("benchmark.workers: no tier carries workers")
        for each in caught.value.problems
    )


class Broken(CommandApplication):
    """An application of another package, which has a defect."""

    name = "broken"

    def misfit(self, experiment: Experiment) -> Misfit | None:
        raise KeyError(experiment.name)


def test_a_defect_of_another_package_is_told_on_the_line_that_chose_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = metadata.EntryPoint("broken", f"{__name__}:Broken", "continuum.applications")
    monkeypatch.setattr(metadata.EntryPoint, "load", lambda _: Broken)
    monkeypatch.setattr(
        plugins, "_external", lambda kind: {"broken": point} if kind == "applications" else {}
    )
    text = TEXT.replace("image_classification", "broken")
    text += '[benchmark.broken]\nendpoint = ["true"]\n'
    with pytest.raises(InvalidExperiment) as caught:
        load_text(text, HERE)
    (found,) = caught.value.problems
    assert found.line == 14
    assert "\"broken\" cannot judge this experiment: KeyError: 'here'" in found.message


def test_problems_of_the_environment_and_the_provider_are_named() -> None:
    with pytest.raises(InvalidExperiment) as caught:
        load_text(
            TEXT,
            HERE,
            provider="lcx",
            environment={"CONTINUUM_SET__TIERS__EDGE__CORES": "many"},
        )
    assert messages(caught.value) == [
        '--provider: infrastructure.provider: unknown provider "lcx" (did you mean "lxc"?)',
        'CONTINUUM_SET__TIERS__EDGE__CORES: tiers.edge.cores: must be a whole number, not "many"',
    ]


def test_a_rule_over_several_fields_is_blamed_on_the_override_that_breaks_it() -> None:
    with pytest.raises(InvalidExperiment) as caught:
        load_text(TEXT, HERE, settings=["benchmark.endpoints=fog"])
    assert messages(caught.value) == [
        '--set: benchmark.endpoints: no tier "fog" for the endpoints; tiers: edge, far-edge'
    ]
