"""A deployment's name belongs to one experiment file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from command_line import Cli, Write, write_paper


def _second(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    folder.mkdir()
    return write_paper(folder, edge=2)


@pytest.mark.parametrize("verb", ["up", "run"])
def test_another_file_of_the_same_name_is_refused_with_both_paths(
    cli: Cli, write: Write, tmp_path: Path, verb: str
) -> None:
    first, second = write(), _second(tmp_path)
    assert cli("up", first).code == 0
    ending = cli(verb, second)
    assert ending.code == 2
    assert f"{second}; the deployment is that of {first}" in ending.stderr
    assert "--take-over" in ending.stderr
    assert len(cli("status", "--json").json[0]["machines"]) == 3
    told = cli("plan", second)
    assert (told.code, f"the deployment is that of {first}" in told.stdout) == (0, True)
    assert cli("plan", second, "--json").json["belongs_to"] == str(first)
    assert cli("plan", first, "--json").json["belongs_to"] is None
    assert cli(verb, second, "--take-over").code == 0
    assert cli(verb, first).code == 2


def test_a_name_made_from_the_files_is_no_other_case(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    first, second = write(), _second(tmp_path)
    for each in (first, second):
        each.write_text(each.read_text().replace('name = "paper"\n', ""))
    assert cli("up", first).code == 0
    assert cli("up", second).code == 2


def test_a_file_of_continuum_1_belongs_to_its_name_too(cli: Cli, tmp_path: Path) -> None:
    text = """\
[infrastructure]
provider = qemu
infra_only = True
cloud_nodes = 1
edge_nodes = 0
endpoint_nodes = 0
cloud_cores = 1
cloud_memory = 1
cloud_quota = 1.0
[benchmark]
resource_manager = none
"""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "old.cfg").write_text(text)
    ending = cli("up", tmp_path / "a/old.cfg", "--provider", "fake")
    assert ending.code == 0, ending.stderr
    assert cli("up", tmp_path / "b/old.cfg", "--provider", "fake").code == 2
    assert cli("up", tmp_path / "a/old.cfg", "--provider", "fake").code == 0


def test_links_to_the_file_are_the_file(cli: Cli, write: Write, tmp_path: Path) -> None:
    assert cli("up", write()).code == 0
    (tmp_path / "link.toml").symlink_to(tmp_path / "paper.toml")
    (tmp_path / "hard.toml").hardlink_to(tmp_path / "paper.toml")
    for path in ("link.toml", "hard.toml", "./paper.toml", tmp_path / "paper.toml"):
        assert cli("up", path).code == 0
    (tmp_path / "folder").symlink_to(tmp_path)
    assert cli("up", "folder/paper.toml").code == 0


def test_a_file_that_was_moved_keeps_its_deployment(cli: Cli, write: Write, tmp_path: Path) -> None:
    first = write()
    assert cli("up", first).code == 0
    moved = tmp_path / "moved.toml"
    first.rename(moved)
    ending = cli("up", moved)
    assert ending.code == 0
    assert f"was brought up from {first}, which is gone" in ending.stderr
    assert "which is gone" not in cli("up", moved).stderr
    shutil.copy(moved, first)
    assert cli("up", first).code == 2


def test_a_refused_file_and_one_without_a_record_change_nothing(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    first, second = write(), _second(tmp_path)
    assert cli("up", first).code == 0
    record = tmp_path / ".state/continuum/deployments/paper/origin.json"
    for damaged in (b"", b"[]", b'{"file": 1}', b"\xff", b"[" * 100_000):
        record.write_bytes(damaged)
        assert cli("up", second).code == 0
        assert cli("up", first, "--yes").code == 2
        assert cli("up", first, "--yes", "--take-over").code == 0
    assert cli("down", "paper").code == 0
    assert cli("up", second).code == 0
