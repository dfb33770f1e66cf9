"""Files of our own that are damaged are named, never waited for, never followed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from continuum import folders, state_file
from continuum.state_file import Damaged


@dataclass(frozen=True)
class _Kept:
    name: str
    cores: int


_SCHEMA = TypeAdapter(_Kept)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def test_a_value_is_cast_and_what_it_does_not_know_left_out(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('{"name": "edge", "cores": "2", "later": [1]}')
    assert state_file.read_json(path, _SCHEMA) == _Kept("edge", 2)


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert state_file.read_json(tmp_path / "file", _SCHEMA) is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "EOF"),
        (b"[" * 100_000, "recursion limit"),
        (b'{"name": "\xff", "cores": 1}', "invalid unicode"),
        (b"[]", "object"),
        (b'{"name": null, "cores": 1}', "name: "),
        (b'{"name": "a"}', "cores: Field required"),
    ],
)
def test_content_of_another_kind_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    found = state_file.read_json(path, _SCHEMA)
    assert isinstance(found, Damaged)
    assert why in found.reason
    assert str(found).startswith(f"{path} is damaged: ")
    assert state_file.kept(path, _SCHEMA) is None


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Path.mkdir, "it is a folder"),
        (os.mkfifo, "it is a FIFO"),
        (_socket, "it is a socket"),
        (lambda path: path.symlink_to("/etc/passwd"), "it is a symbolic link"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a symbolic link"),
    ],
)
def test_another_kind_of_file_is_named(
    tmp_path: Path, make: Callable[[Path], object], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # A socket's whole path may be too long.
    make(Path("file"))
    found = state_file.read_bytes(Path("file"))
    assert isinstance(found, Damaged)
    assert why in found.reason


def test_a_file_below_a_file_and_one_without_end_are_damaged(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    found = state_file.read_bytes(tmp_path / "file" / "inner")
    assert isinstance(found, Damaged)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    assert isinstance(state_file.read_bytes(tmp_path / "sparse"), Damaged)


def test_nothing_is_written_through_a_link_in_a_deployment(tmp_path: Path) -> None:
    state, outside = folders.state_folder(), tmp_path / "outside"
    outside.mkdir()
    (state / "paper").mkdir(parents=True)
    (state / "paper" / "plan").symlink_to(outside)
    (state / "linked").symlink_to(outside)
    for path in ("paper/plan/file", "paper/plan/inner/file", "linked/file", "linked/inner/file"):
        with pytest.raises(OSError, match="symbolic links") as caught:
            folders.write_file(state / path, "text")
        told = state_file.failure(caught.value)
        assert told is not None
        assert "it is a symbolic link" in told.message
        assert f"continuum down {path.partition('/')[0]}" in told.hint
    assert list(outside.iterdir()) == []


def test_state_that_lies_on_another_disk_by_a_link_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    folders.write_file(folders.state_folder() / "paper" / "plan" / "file", "text")
    assert (tmp_path / "disk/continuum/deployments/paper/plan/file").read_text() == "text"
