"""Builds and downloads that are cut off, or find no room: what is said, and that the next one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from continuum.artifacts import archive, catalogue, go, toolchain
from continuum.artifacts.catalogue import Wanted
from continuum.artifacts.store import ArtifactStore
from continuum.errors import StepFailed
from continuum.events import Event, Events, StepProgress
from continuum.images.store import DiskFull
from go_programs import quiet
from releases import serving, tool_catalogue, use_catalogue

pytestmark = pytest.mark.e2e

TOOL = """
[tool]
about = "a tool"
version = "v1.2.3"
programs = ["saw"]
sources = ["go"]

[tool.go]
module = "example.com/tool"
package = "./{program}"
"""
PINS = {
    "go.mod": "module continuum/tool\n\ngo 1.21\n",
    "saw/main.go": 'package main\n\nimport "errors"\n\nfunc main() { _ = errors.New("") }\n',
}
LIMIT = 60


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A catalogue with one program, whose packages have not been compiled yet."""
    use_catalogue(monkeypatch, TOOL)
    for module in (catalogue, go):
        monkeypatch.setattr(module, "pinned_files", lambda _: PINS)
    toolchain.find("1.21", quiet)
    monkeypatch.setenv("GOCACHE", str(tmp_path / "compiled"))
    monkeypatch.setenv("GOPROXY", "off")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of a quarter of a megabyte."""
    disk = tmp_path / "small"
    disk.mkdir()
    subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=256k", "continuum-test", str(disk)), check=True
    )
    yield disk
    subprocess.run(("umount", str(disk)), check=True)


def _programs_in(folder: Path) -> list[str]:
    """What runs there, or was started from there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace")
            if str(folder) in words or str(folder) in str((process / "cwd").readlink()):
                found.append(words.replace("\0", " "))
    return found


def _cut_off_by(kind: signal.Signals, folder: Path) -> int:
    """Build in a process of its own, which gets the signal in the middle; its wait status."""
    child = os.fork()
    if child == 0:

        def cut(event: Event) -> None:
            if isinstance(event, StepProgress) and event.detail.startswith("compiling package 20 "):
                os.kill(os.getpid(), kind)

        try:
            ArtifactStore(Events([cut]), folder=folder).fetch("saw")
        except KeyboardInterrupt:
            os._exit(130)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_was_cut_off_goes_on(kind: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    status = _cut_off_by(kind, folder)
    if kind == signal.SIGKILL:
        assert os.WIFSIGNALED(status)
    else:
        assert os.waitstatus_to_exitcode(status) == 130
    end = time.monotonic() + LIMIT
    while left := _programs_in(folder):
        assert time.monotonic() < end, left
        time.sleep(0.05)
    assert not (folder / "files").exists()

    heard: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, StepProgress):
            heard.append(event.detail)

    store = ArtifactStore(Events([hear]), folder=folder)
    artifact = store.fetch("saw")
    subprocess.run([artifact.path], check=True, timeout=LIMIT)
    assert list((folder / "work").iterdir()) == []
    (last,) = [each for each in heard if each.startswith("compiling package 1 ")]
    whole = sum(1 for _ in (tmp_path / "compiled").rglob("*-d"))
    assert int(last.split()[4].rstrip(":")) < whole, "what was compiled counts"


@pytest.mark.usefixtures("tool")
def test_a_build_without_room_says_so(small: Path) -> None:
    store = ArtifactStore(Events(), folder=small)
    with pytest.raises(DiskFull, match="the disk is full") as caught:
        store.fetch("saw")
    assert str(small) in caught.value.message
    assert "no space left on device" in caught.value.output
    assert "XDG_CACHE_HOME" in caught.value.hint
    assert store.all() == []


def test_a_download_without_room_says_so_and_goes_on(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("http_proxy", raising=False)
    content = os.urandom(2**20)
    with serving() as server:
        use_catalogue(monkeypatch, tool_catalogue(server.address))
        server.publish("/v1.2.3/saw", content)
        with pytest.raises(DiskFull, match="the disk is full"):
            ArtifactStore(Events(), folder=small).fetch("saw")
        subprocess.run(("mount", "-o", "remount,size=4m", str(small)), check=True)
        assert ArtifactStore(Events(), folder=small).fetch("saw").path.read_bytes() == content
        assert server.asked[-1][1].startswith("bytes="), "what came before counts"
    full = ArtifactStore(Events(), folder=small)
    subprocess.run(("mount", "-o", "remount,size=1200k", str(small)), check=True)
    with pytest.raises(DiskFull):
        archive.write(full, [Wanted("saw", "v1.2.3")], small / "out.tar", quiet)
    assert not list(small.glob("*out.tar*"))
    archive.write(full, [Wanted("saw", "v1.2.3")], tmp_path / "out.tar", quiet)
    with pytest.raises(StepFailed, match="the disk is full"):
        archive.read(ArtifactStore(Events(), folder=small / "x"), tmp_path / "out.tar", quiet)
    assert not list((small / "x").rglob("*saw*"))
