from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Cli, Write
from continuum.experiment.load import load

MIST = """\
[infrastructure]
provider = qemu
edge_nodes = 1
edge_cores = 2
edge_memory = 2
edge_quota = 0.5
endpoint_nodes = 2
endpoint_cores = 1
endpoint_memory = 1
endpoint_quota = 0.5
network_emulation = True
wireless_network_preset = 5g
edge_endpoint_throughput = 12.5

[benchmark]
resource_manager = mist
application = image_classification
frequency = 5
duration = 30
"""


def test_what_it_writes_is_valid_and_runs_nothing(cli: Cli, tmp_path: Path) -> None:
    ending = cli("init")
    assert ending.code == 0
    assert not ending.stdout
    assert "continuum run experiment.toml" in ending.stderr
    assert cli("validate", "experiment.toml").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["experiment.toml"]


def test_the_experiment_is_called_after_its_file(cli: Cli, tmp_path: Path) -> None:
    assert cli("init", "My Try.toml", "--json").json == {"file": "My Try.toml"}
    assert load(tmp_path / "My Try.toml").experiment.name == "my-try"


def test_every_line_that_is_commented_out_is_right(cli: Cli, tmp_path: Path) -> None:
    cli("init")
    text = (tmp_path / "experiment.toml").read_text()
    _, _, body = text.partition('name = "')
    shown = "\n".join(
        line.removeprefix("# ") if line.startswith("# ") and ("=" in line or "[[" in line) else line
        for line in body.splitlines()
    )
    (tmp_path / "whole.toml").write_text(f'name = "{shown}\n')
    ending = cli("validate", "whole.toml")
    assert ending.code == 0, ending.stdout
    experiment = load(tmp_path / "whole.toml").experiment
    assert experiment.infrastructure.internet
    assert experiment.network is not None
    assert experiment.network.links[0].delay == 7.5


def test_a_file_that_is_there_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    ending = cli("init", path)
    assert ending.code == 2
    assert "is there already" in ending.stderr
    assert path.read_text() == "mine"
    assert cli("init", path, "--force").code == 0
    assert path.read_text() != "mine"


@pytest.mark.parametrize("name", ["folder.toml", "experiment.cfg", "experiment", "."])
def test_what_cannot_be_the_file_is_usage(cli: Cli, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.toml").mkdir()
    assert cli("init", name, "--force").code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["folder.toml"]


def test_a_legacy_file_is_converted_with_the_same_meaning(cli: Cli, tmp_path: Path) -> None:
    source = tmp_path / "mist.cfg"
    source.write_text(MIST)
    ending = cli("init", "--from", source, "--provider", "lxc")
    assert ending.code == 0, ending.stderr
    assert load(tmp_path / "mist.toml").experiment == load(source, provider="lxc").experiment
    assert (tmp_path / "mist.toml").read_text().startswith("# Converted from mist.cfg.\n")
    assert cli("validate", "mist.toml").code == 0


def test_a_toml_file_is_converted_too(cli: Cli, write: Write, tmp_path: Path) -> None:
    path = write(fake='delay = "0.5 s"\nfail_at = ["links"]')
    assert cli("init", "copy.toml", "--from", path).code == 0
    assert load(tmp_path / "copy.toml").experiment == load(path).experiment


def test_an_invalid_file_is_not_converted(cli: Cli, tmp_path: Path) -> None:
    source = tmp_path / "bad.cfg"
    source.write_text("[infrastructure]\nprovider = qemo\n")
    ending = cli("init", "--from", source)
    assert ending.code == 2
    assert "bad.cfg:2" in ending.stderr
    assert not (tmp_path / "bad.toml").exists()


def test_a_provider_goes_with_a_conversion_only(cli: Cli) -> None:
    assert cli("init", "--provider", "lxc").code == 2
