"""Real machines on this host: a command line in a state folder of its own, and a host that must be
left as it was found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clusters import Cluster
from run_reasons import OF_THE_HOST
from side_by_side import nothing_left

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 1000
"""Seconds for one command; with empty caches it may wait for the other lane, which builds."""


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class CommandLine:
    """`continuum` as a person runs it; deployments lie in `state`, images in the shared cache."""

    state: Path
    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "XDG_STATE_HOME": str(self.state),
            "PYTHONPATH": str(REPOSITORY / "src"),
            "NO_COLOR": "1",
        }

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Begin a command; the test ends it.

        Runs take the host as it is: what other lanes do on it is told, and is no test's fault.
        """
        if arguments[0] in {"up", "run"}:
            # A test's machines are its own, to be replaced as it likes.
            arguments = (*arguments, "--yes")
        if arguments[0] == "run":
            arguments = (*arguments, "--accept", ",".join(sorted(OF_THE_HOST - {"links"})))
        process = subprocess.Popen(
            [sys.executable, "-m", "continuum", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment,
        )
        self.started.append(process)
        return process

    def end(self, process: subprocess.Popen[str], limit: float = LIMIT) -> Ended:
        """Wait for a command that was begun, at most `limit` seconds."""
        out, err = process.communicate(timeout=limit)
        return Ended(process.returncode, out, err)

    def __call__(self, *arguments: str | Path, code: int | None = 0) -> Ended:
        """Run a command and check its exit code."""
        ended = self.end(self.start(*arguments))
        assert "Traceback" not in ended.err
        if code is not None:
            assert ended.code == code, f"exit {ended.code}\n{ended.out}\n{ended.err}"
        return ended

    def until_step(
        self, process: subprocess.Popen[str], name: str, step: str, state: str = "started"
    ) -> None:
        """Wait until this process has begun (or ended) a step of a deployment's journal."""
        journal = self.state / "continuum" / "deployments" / name / "journal.jsonl"
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            text = journal.read_text() if journal.exists() else ""
            entries = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
            mine = [e for e in entries if e["process"] == process.pid]
            if any(e["step"].startswith(step) and e["state"] == state for e in mine):
                return
            assert process.poll() is None, self.end(process).err
            time.sleep(0.02)
        raise AssertionError(f"step {step} of {name} never {state}")


@contextmanager
def command_line(folder: Path) -> Iterator[CommandLine]:
    """A command line whose deployments are removed afterwards; nothing may be left on the host."""
    with nothing_left():
        line = CommandLine(folder / "state", folder)
        yield line
        for process in line.started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.communicate()
        line("down", "--all")
    left = line.state / "continuum" / "deployments"
    assert not left.exists() or list(left.iterdir()) == []


@pytest.fixture
def continuum(tmp_path: Path) -> Iterator[CommandLine]:
    """A command line for one test."""
    with command_line(tmp_path) as line:
        yield line


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A command line for all tests of a module, whose deployments they share."""
    with command_line(tmp_path_factory.mktemp("shared")) as line:
        yield line


@pytest.fixture(scope="module")
def file(shared: CommandLine, request: pytest.FixtureRequest) -> Path:
    """The experiment of a module that calls it `EXPERIMENT`."""
    path = shared.folder / "experiment.toml"
    path.write_text(request.module.EXPERIMENT)
    return path


@pytest.fixture(scope="module")
def cluster(shared: CommandLine, file: Path, request: pytest.FixtureRequest) -> Cluster:
    """The cluster of that experiment, whose name the module calls `NAME`."""
    shared("up", file)
    return Cluster(shared, request.module.NAME)


@pytest.fixture
def results(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """What `run.json` in the folder `results` of the test says."""

    def read() -> dict[str, Any]:
        content: dict[str, Any] = json.loads((tmp_path / "out" / "run.json").read_text())
        return content

    return read


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes an experiment file."""

    def put(text: str, name: str = "experiment.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return put
