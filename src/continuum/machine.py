"""A command, its result, and a machine that runs it.

Every step works on every provider because this is all that it sees.
"""

from __future__ import annotations

import os
import posixpath
import shlex
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING

from continuum import environment, interruption
from continuum.errors import CommandFailed, Interrupted, NotFound, StepFailed, TimedOut
from continuum.secret import without

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_TIMEOUT = 60.0
_LEFT_LIMIT = 5.0


@dataclass(frozen=True)
class Command:
    """A program and its arguments; never a line for a shell.

    Attributes:
        arguments: program and arguments.
        input: bytes for standard input.
        environment: variables added to the environment of the target. They may show in lists of
            processes there: what is secret goes by `input`, or by `Machine.put`.
        timeout: seconds until the command is killed.
        secrets: texts that are masked wherever the command is shown.
        directory: working directory, only for commands on the host.
        only_reads: whether it changes nothing, so that it may be run a second time where the way
            into the machine, not the command, fails.
    """

    arguments: tuple[str, ...]
    input: bytes | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float = DEFAULT_TIMEOUT
    secrets: frozenset[str] = frozenset()
    directory: Path | None = None
    only_reads: bool = False

    def __str__(self) -> str:
        return self.masked(shlex.join(self.arguments))

    def masked(self, text: str) -> str:
        """`text` with every secret replaced."""
        return without(text, self.secrets)


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


Ask = Callable[[bytes], bytes]
"""Gives a program a line, with its end, and returns the program's next line, without it."""


_WRITE = 'install -D --mode="$1" /dev/null "$2" && cat >"$2"'
"""Its input is not opened by a name: the pipe is the host's, and no file of a machine's own root."""


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

    @contextmanager
    def converse(self, command: Command) -> Iterator[Ask]:
        """Talk with a program that answers each line that it reads with one line.

        Where it cannot be kept running, as here, it is started anew for each line.
        """

        def ask(line: bytes) -> bytes:
            return self.run(replace(command, input=line)).check().stdout.partition(b"\n")[0]

        yield ask

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file, with its parent folders; complete or not at all."""
        folder, name = posixpath.split(path)
        # Two workers that start at once on one machine may bring the same file.
        temporary = f"{folder}/.{name}.{os.getpid()}-{threading.get_native_id()}"
        arguments = ("sh", "-c", _WRITE, "write", f"{mode:o}", temporary)
        written = self.run(Command(arguments, input=content))
        if written.exit_code != 0:
            raise StepFailed(
                f"cannot write {path} on {self.name}",
                where=f"{self.name}:{path}",
                output=written.last_output,
            )
        self.run(Command(("mv", "--no-target-directory", temporary, path))).check()

    def get(self, path: str) -> bytes:
        """Read a file.

        Raises:
            NotFound: there is no such file.
        """
        result = self.run(Command(("cat", "--", path), only_reads=True))
        if b"No such file" in result.stderr:
            raise NotFound(f"{self.name} has no file {path}", where=f"{self.name}:{path}")
        return result.check().stdout

    def _told(self, error: StepFailed, carried: Command, command: Command) -> StepFailed:
        """The same error about the command that was asked for, not about how we got it in."""
        return type(error)(
            error.message.replace(str(carried), str(command)),
            where=f"{self.name}: {command}",
            output=error.output,
            hint=error.hint,
        )


class _Commands:
    """The commands that are under way on this host, and whether more may begin."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.stopped = False

    @contextmanager
    def started(
        self, command: Command, where: str, stderr: int
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command in a process group of its own, which does not outlive the block.

        Raises:
            CommandFailed: the program does not exist.
            Interrupted: no command may begin now.
        """
        with self.lock:
            self.refuse(command, where)
            try:
                process = subprocess.Popen(
                    command.arguments,
                    stdin=subprocess.DEVNULL if command.input is None else subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env=environment.for_programs(command.environment),
                    cwd=command.directory,
                    start_new_session=True,
                )
            except OSError as error:
                raise CommandFailed(
                    f"cannot start `{command.arguments[0]}`: {error.strerror}",
                    where=f"{where}: {command}",
                    hint="continuum doctor",
                ) from error
            self.processes.add(process)
        try:
            yield process
        finally:
            if process.poll() is None:
                _kill(process)
                process.wait()
            self.processes.discard(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None and not stream.closed:
                    with suppress(BrokenPipeError):
                        stream.close()

    def refuse(self, command: Command, where: str) -> None:
        """Raise `Interrupted` while commands are stopped."""
        if self.stopped:
            raise Interrupted("interrupted", where=f"{where}: {command}")


_commands = _Commands()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def commands_stopped() -> Iterator[None]:
    """Kill what is under way on this host, and let no command begin until the block ends.

    For whoever is interrupted while threads work for them: these then end soon, by `Interrupted`.
    """
    with _commands.lock:
        _commands.stopped = True
        for process in tuple(_commands.processes):
            if process.poll() is None:
                _kill(process)
    try:
        yield
    finally:
        _commands.stopped = False


def refuse_when_stopped(what: str) -> None:
    """For work of our own that takes long: raise `Interrupted` while commands are stopped."""
    _commands.refuse(Command((what,)), "this host")


def run_on_host(command: Command, *, where: str = "this host") -> Result:
    """Run a command on this host.

    Raises:
        TimedOut: the command did not end in time; its process group has been killed.
        CommandFailed: the program does not exist.
        Interrupted: `commands_stopped` killed it, or did not let it begin.
    """
    began = time.monotonic()
    timeout = interruption.allowance(command.timeout)
    with _commands.started(command, where, subprocess.PIPE) as process:
        try:
            with interruption.waiting():
                stdout, stderr = process.communicate(command.input, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            _kill(process)
            stdout, stderr = _what_is_left(process)
            partial = Result(command, -1, stdout, stderr, time.monotonic() - began, where)
            raise TimedOut(
                f"`{command}` did not end within {timeout:.3g} s",
                where=f"{where}: {command}",
                output=partial.last_output,
            ) from error
    _commands.refuse(command, where)
    return Result(command, process.returncode, stdout, stderr, time.monotonic() - began, where)


@contextmanager
def started_on_host(
    command: Command, *, where: str = "this host"
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command on this host that is spoken with by its pipes; it does not outlive the block.

    Raises:
        CommandFailed: the program does not exist.
        Interrupted: no command may begin now.
    """
    with _commands.started(command, where, subprocess.PIPE) as process:
        yield process


def _next_line(stream: IO[bytes]) -> bytes:
    """A line with its end; what is left at the end of the stream, and then nothing."""
    with interruption.waiting():
        return stream.readline()


def _what_is_left(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Output of a process that was killed.

    A program that it started in a process group of its own may hold the pipes open for ever.
    """
    try:
        return process.communicate(timeout=_LEFT_LIMIT)
    except subprocess.TimeoutExpired as error:
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        return error.stdout or b"", error.stderr or b""


def stream_on_host(command: Command, *, where: str = "this host") -> Iterator[str]:
    """Run a command on this host and yield its output, both streams, line by line.

    Raises:
        CommandFailed: the program does not exist, or ended with a status other than 0.
        TimedOut: the command did not end in time; its process group has been killed.
        Interrupted: `commands_stopped` killed it, or did not let it begin.
    """
    last: list[bytes] = []
    late = threading.Event()
    with _commands.started(command, where, subprocess.STDOUT) as process:

        def stop() -> None:
            late.set()
            _kill(process)

        limit = threading.Timer(interruption.allowance(command.timeout), stop)
        limit.daemon = True
        limit.start()
        assert process.stdout is not None
        try:
            while line := _next_line(process.stdout):
                last = [*last[-19:], line]
                yield command.masked(line.decode("utf-8", "replace").rstrip("\n"))
            process.wait()
        finally:
            limit.cancel()
            process.stdout.close()
    if late.is_set():
        raise TimedOut(
            f"`{command}` did not end within {command.timeout:g} s",
            where=f"{where}: {command}",
            output=command.masked(b"".join(last).decode("utf-8", "replace")),
        )
    _commands.refuse(command, where)
    Result(command, process.returncode, b"".join(last), b"", 0.0, where).check()


@contextmanager
def converse_on_host(command: Command, *, where: str = "this host") -> Iterator[Ask]:
    """Run a program on this host that answers each line with one line; the block's end ends it.

    Raises:
        CommandFailed: the program does not exist, or ended before it had answered.
        TimedOut: it did not answer in time; its process group has been killed.
        Interrupted: `commands_stopped` killed it, or did not let it begin.
    """
    late = threading.Event()
    with _commands.started(replace(command, input=b""), where, subprocess.PIPE) as process:
        stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None

        def stop() -> None:
            late.set()
            _kill(process)

        def ask(line: bytes) -> bytes:
            with suppress(BrokenPipeError):
                stdin.write(line)
                stdin.flush()
            answer = _next_line(stdout)
            if answer.endswith(b"\n"):
                return answer[:-1]
            _kill(process)
            said = command.masked(stderr.read().decode("utf-8", "replace").strip())
            _commands.refuse(command, where)
            kind = TimedOut if late.is_set() else CommandFailed
            raise kind(
                f"`{command}` "
                + (f"did not end within {command.timeout:g} s" if late.is_set() else "broke off"),
                where=f"{where}: {command}",
                output=said,
            )

        limit = threading.Timer(interruption.allowance(command.timeout), stop)
        limit.daemon = True
        limit.start()
        try:
            yield ask
        finally:
            limit.cancel()
