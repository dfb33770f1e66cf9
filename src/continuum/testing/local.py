"""Runs an application's processes on this host, without machines, for tests.

What would lie in a machine's `/opt/continuum` and `/var/lib/continuum` lies under a folder of the
test's; every mention of the two in arguments, environment and files is changed accordingly.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from continuum.benchmark.sample_lines import parse_lines
from continuum.images.recipe import Tree
from continuum.secret import opened

if TYPE_CHECKING:
    from collections.abc import Iterable

    from continuum.benchmark.contract import Application, Endpoint, Load
    from continuum.images.recipe import InstallStep
    from continuum.software.contract import ProcessSpec

_PREFIXES = ("/opt/continuum", "/var/lib/continuum")
_POLL_SECONDS = 0.01
_START_DELAY_SECONDS = 0.3
_GRACE_SECONDS = 10.0
"""That an endpoint may take to end, beyond its load and its last answer's time."""


@dataclass
class LocalHost:
    """Processes by the names of their specifications; use it as a context, which ends them all."""

    root: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def install(self, steps: Iterable[InstallStep]) -> None:
        """Write the steps' trees; packages are taken to be installed already."""
        for step in steps:
            if isinstance(step, Tree):
                step.write(self.root, lambda _: None)

    def path(self, path: str) -> Path:
        """Where a machine's file lies here."""
        return Path(self._here(path))

    def start(self, spec: ProcessSpec) -> subprocess.Popen[bytes]:
        """Put the files and start the program; its output goes to files in the root folder."""
        for path, content in spec.files.items():
            target = self.path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            # Latin-1 keeps every byte as it is.
            target.write_bytes(self._here(content.decode("latin-1")).encode("latin-1"))
        folder = self.path(spec.working_directory)
        folder.mkdir(parents=True, exist_ok=True)
        if spec.ready_file:
            self.path(spec.ready_file).parent.mkdir(parents=True, exist_ok=True)
        arguments = [self._here(argument) for argument in spec.arguments]
        if arguments[0] == "python3":
            arguments[0] = sys.executable
        told = {**spec.environment, **opened(spec.secrets)}
        environment = {name: self._here(value) for name, value in told.items()}
        output = self.path(spec.output) if spec.output else self.root / f"{spec.name}.out"
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("wb") as out, (self.root / f"{spec.name}.err").open("wb") as error:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=error,
                env={**os.environ, **environment},
                cwd=folder,
            )
        self.processes[spec.name] = process
        return process

    def await_ready(self, spec: ProcessSpec, timeout: float = 60.0) -> None:
        """Wait for the process's ready file.

        Raises:
            AssertionError: it did not come in time, or the process ended before.
        """
        end = time.monotonic() + timeout
        while spec.ready_file and not self.path(spec.ready_file).exists():
            status = self.processes[spec.name].poll()
            if status is not None or time.monotonic() > end:
                raise AssertionError(
                    f"{spec.name} is not ready (status {status}):\n{self.errors(spec)}"
                )
            time.sleep(_POLL_SECONDS)

    def errors(self, spec: ProcessSpec) -> str:
        """What the process wrote to its standard error."""
        return (self.root / f"{spec.name}.err").read_text(errors="replace")

    def _here(self, text: str) -> str:
        for prefix in _PREFIXES:
            text = text.replace(prefix, f"{self.root}{prefix}")
        return text


def run_repetition(
    host: LocalHost,
    application: Application,
    endpoints: dict[Endpoint, Load],
    *,
    with_workers: bool = True,
    may_fail: bool = False,
) -> dict[str, list[dict[str, Any]]]:
    """Run endpoints, with their workers, through one repetition.

    Returns the samples of each endpoint, with the application's own columns, by its name. When an
    endpoint `may_fail`, any status is taken; it must end in time all the same.

    Raises:
        AssertionError: a process did not become ready, or an endpoint did not end in time or
            wrote lines that are no samples.
    """
    workers = dict.fromkeys(each.worker for each in endpoints if each.worker is not None)
    for worker in workers if with_workers else ():
        spec = application.worker(
            worker, tuple(each for each in endpoints if each.worker == worker)
        )
        host.start(spec)
        host.await_ready(spec)
    specs = {each: application.endpoint(each, load) for each, load in endpoints.items()}
    for spec in specs.values():
        host.start(spec)
    for spec in specs.values():
        host.await_ready(spec)
    begin = time.time_ns() + int(_START_DELAY_SECONDS * 1e9)
    for load in endpoints.values():
        start = begin + load.phase_ns
        path = host.path(f"{load.folder}/start")
        path.with_name("start.new").write_text(f"{start}\n")
        path.with_name("start.new").replace(path)
    samples: dict[str, list[dict[str, Any]]] = {}
    for each, load in endpoints.items():
        spec = specs[each]
        limit = (
            max(load.warmup + load.duration, load.last_due) + load.answer_timeout + _GRACE_SECONDS
        )
        try:
            status = host.processes[spec.name].wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{spec.name} did not end within {limit:g} s") from None
        if status != 0 and not may_fail:
            raise AssertionError(f"{spec.name} ended with {status}:\n{host.errors(spec)}")
        content = host.path(spec.output or f"{load.folder}/samples.jsonl").read_bytes()
        found, problems = parse_lines(content, load.requests[0])
        if problems and not may_fail:
            raise AssertionError(f"{spec.name} wrote lines that are no samples: {problems}")
        samples[each.name] = [
            {**sample, **application.complete({**sample, "endpoint": each.name})}
            for sample in found
        ]
    return samples
