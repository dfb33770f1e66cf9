"""A command, its result, and a machine that runs it.

Every step works on every provider because this is all that it sees.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from continuum.errors import CommandFailed, TimedOut

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_TIMEOUT = 60.0


@dataclass(frozen=True)
class Command:
    """A program and its arguments; never a line for a shell.

    Attributes:
        arguments: program and arguments.
        input: bytes for standard input.
        environment: variables added to the environment of the target.
        timeout: seconds until the command is killed.
        secrets: texts that are masked wherever the command is shown.
        directory: working directory, only for commands on the host.
    """

    arguments: tuple[str, ...]
    input: bytes | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float = DEFAULT_TIMEOUT
    secrets: frozenset[str] = frozenset()
    directory: Path | None = None

    def __str__(self) -> str:
        return self.masked(shlex.join(self.arguments))

    def masked(self, text: str) -> str:
        """`text` with every secret replaced."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


@dataclass(frozen=True)
class Result:
    """How a command ended. `seconds` is wall time; output is raw bytes."""

    command: Command
    exit_code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    where: str = "this host"

    @property
    def text(self) -> str:
        """Standard output, decoded, without white space around it."""
        return self.stdout.decode("utf-8", "replace").strip()

    @property
    def last_output(self) -> str:
        """The last 20 lines of what the command said, secrets masked."""
        said = (self.stdout + b"\n" + self.stderr).decode("utf-8", "replace")
        lines = [line for line in said.splitlines() if line.strip()]
        return self.command.masked("\n".join(lines[-20:]))

    def check(self, message: str = "", *, hint: str = "") -> Result:
        """Return the result itself; raise `CommandFailed` when the exit code is not 0."""
        if self.exit_code != 0:
            raise CommandFailed(
                message or f"`{self.command}` ended with status {self.exit_code}",
                where=f"{self.where}: {self.command}",
                output=self.last_output,
                hint=hint,
            )
        return self


class Machine(ABC):
    """One emulated computer.

    Synchronous, and safe to use from one thread at a time; steps over many machines run in a
    bounded pool of threads (`continuum.parallel`).
    """

    name: str
    tier: str
    address: str

    @abstractmethod
    def run(self, command: Command) -> Result:
        """Run a command as root.

        Raises:
            TimedOut: the command did not end in time; it has been killed.
            MachineUnreachable: the machine does not run.
        """

    @abstractmethod
    def stream(self, command: Command) -> Iterator[str]:
        """Run a command and yield its output (both streams), line by line, as it comes."""

    @abstractmethod
    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file, with its parent folders; complete or not at all."""

    @abstractmethod
    def get(self, path: str) -> bytes:
        """Read a file.

        Raises:
            NotFound: there is no such file.
        """


def run_on_host(command: Command, *, where: str = "this host") -> Result:
    """Run a command on this host.

    Raises:
        TimedOut: the command did not end in time; its process group has been killed.
        CommandFailed: the program does not exist.
    """
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            command.arguments,
            stdin=subprocess.DEVNULL if command.input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **command.environment},
            cwd=command.directory,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(
            f"cannot start `{command.arguments[0]}`: {error.strerror}",
            where=f"{where}: {command}",
            hint="continuum doctor",
        ) from error
    try:
        stdout, stderr = process.communicate(command.input, timeout=command.timeout)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        partial = Result(command, -1, stdout, stderr, time.monotonic() - began, where)
        raise TimedOut(
            f"`{command}` did not end within {command.timeout:g} s",
            where=f"{where}: {command}",
            output=partial.last_output,
        ) from error
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return Result(command, process.returncode, stdout, stderr, time.monotonic() - began, where)


def stream_on_host(command: Command, *, where: str = "this host") -> Iterator[str]:
    """Run a command on this host and yield its output, both streams, line by line.

    Raises:
        CommandFailed: the program does not exist, or ended with a status other than 0.
    """
    try:
        process = subprocess.Popen(
            command.arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **command.environment},
            cwd=command.directory,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(
            f"cannot start `{command.arguments[0]}`: {error.strerror}", where=where
        ) from error
    last: list[bytes] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            last = [*last[-19:], line]
            yield command.masked(line.decode("utf-8", "replace").rstrip("\n"))
        process.wait(timeout=command.timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    Result(command, process.returncode, b"".join(last), b"", 0.0, where).check()
