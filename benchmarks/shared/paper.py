"""The command line on machines of paper, in a folder of its own: what kills and mixes have in common."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

LIMIT = 60.0
"""Seconds within which every command must end."""
EXPERIMENT = """\
name = "paper"

[infrastructure]
provider = "fake"

[tiers.edge]
machines = 1

[tiers.endpoint]
machines = 2

[network]
preset = "5g"

[benchmark]
application = "image_classification"
frequency = "20 Hz"
warmup = "0.1 s"
duration = "0.3 s"
"""

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["continuum.cli.main", "continuum.recorder", "continuum.workflow"])


@dataclass(frozen=True)
class Ending:
    """Ending of a command: its exit code, negative for a signal, None when it did not; its output."""

    code: int | None
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:  # noqa: ANN401  what JSON can hold
        """Standard output as one JSON document, None when it is none."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            return None

    @property
    def traceback(self) -> bool:
        """Tell whether a person would see the inside of the program."""
        both = self.stdout + self.stderr
        return any(each in both for each in ("Traceback", "Exception ignored", "a defect of"))


class Call:
    """A command under way."""

    def __init__(self, folder: Path, process: ForkServerProcess | subprocess.Popen[bytes]) -> None:
        self._folder = folder
        self._process = process

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it has not ended."""
        if isinstance(self._process, subprocess.Popen):
            self._process.send_signal(number)
        elif self._process.is_alive() and self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def await_begin(self) -> None:
        """Wait until a forked command has begun: what is before is none of its time."""
        until = time.monotonic() + LIMIT
        while not (self._folder / "begun").exists() and time.monotonic() < until:
            time.sleep(0.001)

    def end(self) -> Ending:
        """Wait for its end; one that does not come is brought about."""
        code: int | None
        if isinstance(self._process, subprocess.Popen):
            try:
                code = self._process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                code = None
        else:
            self._process.join(LIMIT)
            code = self._process.exitcode
            if code is None:
                self._process.kill()
                self._process.join()
            self._process.close()
        out, err = ((self._folder / name).read_text(errors="replace") for name in ("out", "err"))
        return Ending(code, out, err)


class Paper:
    """A folder with an experiment on paper, and a state folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "paper.toml"
        self.file.write_text(EXPERIMENT)
        self._calls = 0

    @property
    def deployments(self) -> Path:
        """The folder in which all deployments lie."""
        return self.folder / "state" / "continuum" / "deployments"

    def start(self, *arguments: object) -> Call:
        """Start a command as a person does, in a Python of its own."""
        folder = self._call_folder()
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "continuum", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self.folder,
                env={**os.environ, **self._environment()},
            )
        return Call(folder, process)

    def fork(self, *arguments: object) -> Call:
        """Start a command in a process that has imported everything: it begins at once."""
        folder = self._call_folder()
        process = _FORKED.Process(
            target=_main,
            args=(list(map(str, arguments)), str(self.folder), str(folder), self._environment()),
        )
        process.start()
        return Call(folder, process)

    def call(self, *arguments: object) -> Ending:
        """Carry out a command to its end."""
        return self.fork(*arguments).end()

    def is_right(self) -> bool:
        """Tell whether the deployment is up, with all that belongs to it, and nothing else is there."""
        found = self.call("status", "--json").json
        if not isinstance(found, list) or len(found) != 1:
            return False
        (only,) = found
        states = {each["state"] for each in only["machines"]}
        return states == {"running"} and only["links_in_force"] == only["links_asked"] > 0

    def is_empty(self) -> bool:
        """Tell whether nothing of any deployment is left, in the state folder or as a process."""
        left = list(self.deployments.iterdir()) if self.deployments.is_dir() else []
        return not left and not self._processes()

    def _processes(self) -> list[int]:
        mark = f"XDG_STATE_HOME={self.folder / 'state'}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    def _call_folder(self) -> Path:
        self._calls += 1
        folder = self.folder / f"call-{self._calls}"
        folder.mkdir()
        return folder

    def _environment(self) -> dict[str, str]:
        sources = Path(__file__).resolve().parents[2] / "src"
        cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
        return {
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CACHE_HOME": cache,
            "PYTHONPATH": str(sources),
            "PYTHONSAFEPATH": "1",
        }


def _main(arguments: list[str], folder: str, output: str, environment: dict[str, str]) -> None:
    """The command line in a forked process, with the output and the folder of one of its own."""
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(f"{output}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.environ.update(environment)
    os.chdir(folder)
    sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", buffering=1)
    from continuum.cli import main  # noqa: PLC0415  imported before, by the server of forks

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # As `python -m continuum` does.
    Path(output, "begun").touch()
    code = main.run(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
