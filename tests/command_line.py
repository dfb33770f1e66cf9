"""How tests call the command line, and the experiments on paper that they give it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAPER = """\
name = "{name}"

[infrastructure]
provider = "fake"
{infrastructure}

[tiers.edge]
machines = {edge}

[tiers.endpoint]
machines = 2

[network]
preset = "5g"
{rest}
"""

BENCHMARK = """
[benchmark]
application = "image_classification"
frequency = "20 Hz"
warmup = "0.1 s"
duration = "0.5 s"
"""


@dataclass(frozen=True)
class Ending:
    """How a call ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output, which is one JSON document and nothing else."""
        return json.loads(self.stdout)


Cli = Callable[..., Ending]
Write = Callable[..., Path]


def write_paper(
    folder: Path,
    name: str = "paper",
    *,
    infrastructure: str = "",
    edge: int = 1,
    rest: str = "",
    fake: str = "",
) -> Path:
    """Write an experiment of some edge machines and two endpoints for the provider `fake`."""
    path = folder / f"{name}.toml"
    tail = f"{rest}\n[infrastructure.fake]\n{fake}\n" if fake else rest
    path.write_text(PAPER.format(name=name, infrastructure=infrastructure, edge=edge, rest=tail))
    return path


@dataclass
class Process:
    """The command line in a process of its own, with its standard error in a file."""

    process: subprocess.Popen[bytes]
    folder: Path

    def ends(self, timeout: float = 60) -> Ending:
        """Wait for its end."""
        code = self.process.wait(timeout=timeout)
        out = (self.folder / "stdout").read_text()
        err = (self.folder / "stderr").read_text()
        assert "Traceback" not in out + err, err
        return Ending(code, out, err)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)


@contextmanager
def started(folder: Path, *arguments: object) -> Iterator[Process]:
    """Start the command line in a process; whatever is left of it is killed at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "continuum", *(str(argument) for argument in arguments)]
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=dict(os.environ)
        )
    try:
        yield Process(process, folder)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
