"""A way from a port of this host to one that only a machine reaches: `ssh -L`, held open.

SSH's own end on this host is a socket in a folder of ours, which has gone by the time that the
tunnel stands: nobody but this process comes to it. Others come by the `gate`, which asks for a token.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NoReturn

from continuum.cli.gate import LOOPBACK, Gate
from continuum.errors import MachineUnreachable, NotPossibleHere, TimedOut

CONNECT_LIMIT = 30.0
"""Seconds until a connection stands; SSH itself gives up earlier where nobody answers."""

_ATTEMPTS = 5
"""Ports of this host that are tried, where another program is quicker each time."""

_POLL = 0.1
_ANSWER_LIMIT = 2.0
_END_LIMIT = 5.0

# A tunnel through a connection that is shared would outlive this process. SSH says by itself when
# a machine has gone without a word.
_OPTIONS = {
    "BatchMode": "yes",
    "ControlMaster": "no",
    "ControlPath": "none",
    "ExitOnForwardFailure": "yes",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
}

# What it is told it tells back, so that we see when it runs; and it ends with its input, which is
# a pipe of ours: so nothing is left over there, or here, even when this process is killed.
_FAR_PROGRAM = "cat"


@dataclass(frozen=True)
class Far:
    """What is to be reached.

    Attributes:
        machine: the one that SSH goes to, by its name in `config`.
        config: the deployment's configuration of SSH.
        address: where the service listens, as that machine sees it.
        port: TCP port there.
        probe: path that is answered with status 200 once the service can be used.
    """

    machine: str
    config: Path
    address: str
    port: int
    probe: str


class _Connection(http.client.HTTPConnection):
    """Over a socket that is there."""

    def __init__(self, over: socket.socket) -> None:
        super().__init__("localhost")
        self.sock = over


@dataclass(frozen=True)
class Tunnel:
    """A tunnel that stands; `gate` is its end on this host, `near` SSH's."""

    far: Far
    gate: Gate
    near: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    said: IO[bytes] = field(repr=False)

    @property
    def port(self) -> int:
        """The port of this host."""
        return self.gate.port

    @property
    def url(self) -> str:
        """Address of the service for a browser or a program on this host; with the token."""
        return self.gate.url

    def connect(self) -> socket.socket:
        """A connection to the service.

        Raises:
            OSError: SSH is gone.
        """
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.connect(str(self.near))
        except BaseException:
            made.close()
            raise
        return made

    def get(self, path: str) -> bytes | None:
        """What the service answers; None when it does not, or not with status 200."""
        try:
            with self.connect() as over:
                over.settimeout(_ANSWER_LIMIT)
                connection = _Connection(over)
                connection.request("GET", path)
                answer = connection.getresponse()
                content = answer.read()
                return content if answer.status == http.client.OK else None
        except (OSError, http.client.HTTPException):
            return None

    def answers(self) -> bool:
        """Whether the service can be used now."""
        return self.get(self.far.probe) is not None

    def wait_for_answer(self, limit: float) -> None:
        """Return as soon as the service can be used.

        Raises:
            TimedOut: it could not within `limit` seconds.
            MachineUnreachable: the connection has gone.
        """
        if not self.wait_until(self.answers, limit):
            raise TimedOut(
                f"no answer within {limit:g} s",
                where=f"{self.far.machine}: http://{self.far.address}:{self.far.port}"
                f"{self.far.probe}",
            )

    def wait_until(self, condition: Callable[[], bool], limit: float) -> bool:
        """Return as soon as it holds, or, with False, after `limit` seconds.

        Raises:
            MachineUnreachable: the connection has gone.
        """
        deadline = time.monotonic() + limit
        while not condition():
            if time.monotonic() >= deadline:
                return False
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_POLL)
                self._gone()
        return True

    def hold(self) -> NoReturn:
        """Stay until the connection goes, or the person has enough.

        Raises:
            KeyboardInterrupt: the person has enough.
            MachineUnreachable: the connection has gone.
        """
        self.process.wait()
        self._gone()

    def _gone(self) -> NoReturn:
        raise _unreachable(self.far, "has gone: SSH has lost its connection", _told(self.said))


@contextmanager
def opened(far: Far, port: int) -> Iterator[Tunnel]:
    """A tunnel from `port` of this host, or from another one where that is taken.

    It has gone when the block ends, however it ends.

    Raises:
        MachineUnreachable: SSH has no connection.
        NotPossibleHere: this host has no port left.
    """
    with (
        contextlib.closing(_gate(port)) as gate,
        tempfile.TemporaryFile() as said,
        contextlib.ExitStack() as over,
    ):
        # Not where TMPDIR leads: the name of a socket has at most 107 characters.
        folder = tempfile.TemporaryDirectory(prefix="continuum-", dir="/tmp")
        with folder as name:
            process = over.enter_context(_started(far, Path(name, "near"), said))
            _wait_for_connection(far, process, said)
            descriptor = os.open(Path(name, "near"), os.O_PATH | os.O_CLOEXEC)
            over.callback(os.close, descriptor)
        tunnel = Tunnel(far, gate, Path(f"/proc/self/fd/{descriptor}"), process, said)
        with gate.answering(tunnel.connect):
            yield tunnel


def _gate(port: int) -> Gate:
    for attempt in range(_ATTEMPTS):
        try:
            return Gate(port if attempt == 0 else any_port())
        except OSError:
            continue
    raise NotPossibleHere(
        "no port on this host can be had: others take them as soon as they are free",
        where=f"ports of localhost, from {port}",
    )


@contextmanager
def _started(far: Far, near: Path, said: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    options = [word for key, value in _OPTIONS.items() for word in ("-o", f"{key}={value}")]
    way = f"{near}:{far.address}:{far.port}"
    arguments = ["ssh", "-F", str(far.config), *options, "-T", "-L", way, far.machine, _FAR_PROGRAM]
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        # The person's Ctrl-C is for us alone.
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_END_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _wait_for_connection(far: Far, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    """Return when the far program runs: then SSH has its end on this host too."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(b"ready\n")
        process.stdin.flush()
    heard, _, _ = select.select([process.stdout], [], [], CONNECT_LIMIT)
    if heard and process.stdout.read(1):
        return
    if heard:
        process.wait(_END_LIMIT)
    raise _unreachable(far, "cannot be reached by SSH", _told(said))


def _told(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read().decode("utf-8", "replace").strip()


def _unreachable(far: Far, how: str, text: str) -> MachineUnreachable:
    return MachineUnreachable(
        f"machine {far.machine} {how}",
        where=f"ssh -F {far.config} {far.machine}",
        output=text,
        hint="the command above shows why; `continuum up FILE` brings it back",
    )


def is_free(port: int) -> bool:
    """Whether nobody on this host listens there, on either address of `localhost`."""
    for family, address in LOOPBACK:
        with socket.socket(family, socket.SOCK_STREAM) as attempt:
            # What is left of former connections is no obstacle.
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind((address, port))
            except OSError as error:
                if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                    return False
    return True


def any_port() -> int:
    """A port that is free on both addresses of `localhost`."""
    for _ in range(_ATTEMPTS):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as attempt:
            attempt.bind(("127.0.0.1", 0))
            port = int(attempt.getsockname()[1])
        if is_free(port):
            return port
    raise NotPossibleHere("this host has no free port on localhost")
