"""A disk without room: which folder, how much was needed, what is kept."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from command_line import BENCHMARK, Cli, Ending, Write
from continuum import folders
from continuum.journal import Journal

BIG = b"x" * 200_000


@contextmanager
def _file_size_limit(number: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Let the disk under a folder be full for files that are larger than some bytes."""

    def fill(folder: Path, most: int = 0, number: int = errno.ENOSPC) -> None:
        write = folders.write_file

        def limited(path: Path, content: bytes | str, mode: int = 0o644) -> None:
            data = content.encode() if isinstance(content, str) else content
            if folder in path.parents and len(data) > most:
                with folders.telling_no_room(path, len(data)):
                    raise OSError(number, os.strerror(number))
            write(path, data, mode)

        monkeypatch.setattr(folders, "write_file", limited)

    return fill


def test_a_file_larger_than_the_limit_is_named_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    folders.write_file(path, b"before")
    with _file_size_limit(4096), pytest.raises(folders.NoRoom) as caught:
        folders.write_file(path, BIG)
    assert caught.value.errno == errno.EFBIG
    assert (caught.value.filename, caught.value.needed) == (str(path), len(BIG))
    assert [each.name for each in path.parent.iterdir()] == ["file"]
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EROFS])
def test_results_without_room_come_to_lie_in_the_state_folder(
    cli: Cli, write: Write, tmp_path: Path, full: Callable[..., None], number: int
) -> None:
    full(tmp_path / "out", 3000, number)
    ending = cli("run", write(rest=BENCHMARK), "--results", tmp_path / "out")
    there = tmp_path / ".state/continuum/results/out"
    assert ending.code == 1
    assert f"{tmp_path / 'out'}" in ending.stderr
    assert f"the results are in {there}" in ending.stderr
    assert json.loads((there / "run.json").read_text())["status"] == "done"
    assert {"run.json", "samples.parquet", "report.html"} <= {each.name for each in there.iterdir()}
    assert not (tmp_path / "out").exists()
    assert cli("report", there).code == 0


def test_without_room_anywhere_both_folders_are_named(
    cli: Cli, write: Write, tmp_path: Path, full: Callable[..., None]
) -> None:
    experiment = write(rest=BENCHMARK)
    cli("up", experiment)
    full(tmp_path / "out")
    full(tmp_path / ".state/continuum/results")
    ending = cli("run", experiment, "--results", tmp_path / "out")
    assert ending.code == 1
    assert f"{tmp_path / 'out'} is full" in ending.stderr
    assert ".state/continuum/deployments is full" in ending.stderr
    assert "KiB for run.json needed" in ending.stderr
    assert cli("down", "paper").code == 0


def test_results_are_written_though_the_journal_has_no_room(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Journal.append

    def limited(self: Journal, phase: str, step: str, state: str, fingerprint: str = "") -> None:
        if phase == "report":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, phase, step, state, fingerprint)

    monkeypatch.setattr(Journal, "append", limited)
    assert cli("run", write(), "--results", tmp_path / "out").code == 0
    assert (tmp_path / "out/run.json").exists()


@pytest.mark.parametrize("verb", ["up", "run"])
def test_a_full_state_folder_is_named_and_down_works_on_it(
    cli: Cli, write: Write, tmp_path: Path, full: Callable[..., None], verb: str
) -> None:
    cli("up", write())
    full(tmp_path / ".state")
    ending = cli(verb, write(edge=3))
    assert ending.code == 1
    assert f"{tmp_path / '.state/continuum/deployments'} is full" in ending.stderr
    assert "free; what was done stays, and the same command goes on from there" in ending.stderr
    assert "XDG_STATE_HOME" in ending.stderr
    assert cli("down", "paper").code == 0


_ON_A_DISK_OF_ITS_OWN = """
import os, subprocess, sys
from pathlib import Path

folder, size = sys.argv[1:3]
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
from continuum.cli import main
code = main.run(sys.argv[3].split(" "))
if sys.argv[4:]:
    Path(folder, "filler").write_bytes(b"")
    with open(Path(folder, "filler"), "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    code = main.run(sys.argv[4].split(" "))
print("left:", sorted(each.name for each in Path(folder).rglob("*") if each.is_file()))
sys.exit(code)
"""


def _on_a_disk(folder: Path, size: str, *commands: str) -> Ending:
    """Run commands with a small file system of their own; between two of them it is filled."""
    folder.mkdir(parents=True, exist_ok=True)
    ended = subprocess.run(
        (
            *("unshare", "--mount", "--propagation=private", sys.executable, "-c"),
            *(_ON_A_DISK_OF_ITS_OWN, str(folder), size, *commands),
        ),
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return Ending(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="file systems are mounted by root")
def test_down_works_on_a_disk_that_is_full(write: Write, tmp_path: Path) -> None:
    state = tmp_path / ".state"
    ending = _on_a_disk(state, "600k", f"up {write()}", "down paper")
    assert ending.code == 0, ending.stderr
    assert "left: ['filler']" in ending.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="file systems are mounted by root")
def test_a_small_disk_for_results_is_named(write: Write, tmp_path: Path) -> None:
    out = tmp_path / "disk"
    ending = _on_a_disk(out, "40k", f"run {write(rest=BENCHMARK)} --results {out}/out")
    assert ending.code == 1, ending.stderr
    assert f"{out}/out is full" in ending.stderr
    assert "the results are in" in ending.stderr
    assert "left: []" in ending.stdout
