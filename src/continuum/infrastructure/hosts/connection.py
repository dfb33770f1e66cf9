"""One SSH connection to another host, with our agent at its end."""

from __future__ import annotations

import atexit
import base64
import platform
import shlex
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from continuum import folders
from continuum.errors import ContinuumError, MachineUnreachable, NotPossibleHere, StepFailed
from continuum.events import Events
from continuum.infrastructure.hosts import bootstrap_path, bundle, frames
from continuum.infrastructure.plan import HostPlan
from continuum.machine import Command, refuse_when_stopped, started_on_host

AGENT = "continuum.infrastructure.hosts.agent"
OPEN_LIMIT = 120.0
"""Seconds until the agent must be ready; its program may have to be brought first."""

CALL_LIMIT = 3600.0
"""Seconds of one call. A connection that is dead is noticed much sooner, by SSH itself."""

_END_LIMIT = 5.0
_NO_CONNECTION = 255
_NO_PROGRAM = 127
_RUN_TEXT = "import base64,sys;exec(base64.b64decode(sys.argv[1]))"
_OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": "5",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    # Nothing stays behind in the background.
    "ControlMaster": "no",
    "ControlPath": "none",
}

Give = Callable[[str], Iterator[bytes]]
"""The bytes of a thing that the agent asks for."""


def _nothing(key: str) -> Iterator[bytes]:
    raise StepFailed("bytes were asked for that nobody has", where=key)


class Connection:
    """Opened by the first call; calls follow one another. Safe to use from several threads."""

    def __init__(self, host: HostPlan, events: Events) -> None:
        self.host = host
        self.events = events
        self.addresses = ("", "")
        """Of the host, and of this one as the host sees it; known once it is open."""
        self._lock = threading.Lock()
        self._held = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._gone: MachineUnreachable | None = None
        self._said: deque[bytes] = deque(maxlen=20)
        self._listener = threading.Thread()
        atexit.register(self.close)

    @property
    def command(self) -> tuple[str, ...]:
        """The `ssh` that reaches the host, without what it is to run there."""
        target, _, port = self.host.ssh.partition(":")
        options = [word for key, value in _OPTIONS.items() for word in ("-o", f"{key}={value}")]
        configuration = ("-F", self.host.ssh_config) if self.host.ssh_config else ()
        return (
            *("ssh", "-T", *configuration, *options),
            *(("-p", port) if port else ()),
            target,
        )

    def open(self) -> None:
        """Connect, unless it is.

        Raises:
            MachineUnreachable: there is no connection.
            NotPossibleHere: the host cannot run our agent.
        """
        with self._lock:
            self._open()

    def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        progress: Callable[[str], None] = lambda _: None,
        give: Give = _nothing,
    ) -> Any:  # noqa: ANN401  JSON
        """Have the agent do something; its result.

        Raises:
            MachineUnreachable: the connection has ended.
            ContinuumError: what went wrong there, with the host's name.
        """
        with self._lock:
            process = self._open()
            with self._limited(process, CALL_LIMIT):
                # Names change hands where hosts change places; what is made there must be told apart.
                self._send({"call": name, "host": self.host.ssh, **arguments})
                while True:
                    frame = self._read()
                    if "progress" in frame:
                        progress(frame["progress"])
                    elif "note" in frame:
                        text = f"host {self.host.name}: {frame['note']}"
                        self.events.note(text, frame["level"])
                    elif "send" in frame:
                        for part in give(frame["send"]):
                            self._send({frames.BYTES: len(part)}, part)
                        self._send({frames.BYTES: 0})
                    elif "error" in frame:
                        raise frames.to_error(frame["error"], self.host.name)
                    else:
                        return frame["result"]

    def close(self) -> None:
        """End the connection, and the agent with it."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_LIMIT)
        self._held.close()
        if self._listener.is_alive():
            self._listener.join(_END_LIMIT)

    def _open(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        if self._gone is not None:
            raise self._gone  # Who waited for it once in this command need not wait again.
        text = base64.b64encode(bootstrap_path().read_bytes()).decode()
        remote = shlex.join(("python3", "-c", _RUN_TEXT, text))
        command = Command(as_caller((*self.command, remote)), input=b"")
        process = self._held.enter_context(started_on_host(command))
        self._process = process
        self._said.clear()
        self._listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
        self._listener.start()
        try:
            with self._limited(process, OPEN_LIMIT):
                self._begin()
        except BaseException:
            self._close()
            raise
        return process

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with suppress(ValueError):  # It may be closed meanwhile.
            self._said.extend(process.stderr)

    def _begin(self) -> None:
        found = self._read()
        _refuse(self.host.name, found)
        words = str(found["ssh"]).split()
        if len(words) == 4:
            self.addresses = (words[2], words[0])
        self._send({"key": bundle.key(), "folder": self.host.folder, "module": AGENT})
        if self._read()["send"]:
            content = bundle.packed()
            self._send({"size": len(content)}, content)
        self._read()

    @contextmanager
    def _limited(self, process: subprocess.Popen[bytes], limit: float) -> Iterator[None]:
        """End the connection when the block takes longer than `limit` seconds."""
        timer = threading.Timer(limit, process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _send(self, frame: dict[str, Any], content: bytes = b"") -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            frames.write(self._process.stdin, frame, content)
        except (OSError, ValueError):
            raise self._ended() from None

    def _read(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            found = frames.read(self._process.stdout)
        except (OSError, ValueError):
            found = None
        if found is None:
            raise self._ended()
        return found[0]

    def _ended(self) -> ContinuumError:
        """The connection's end as an error, which says why."""
        process = self._process
        assert process is not None
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_LIMIT)
        if self._listener.is_alive():
            self._listener.join(_END_LIMIT)
        code = process.returncode
        said = b"".join(self._said).decode("utf-8", "replace").strip()
        self._close()
        refuse_when_stopped(f"ssh {self.host.ssh}")
        where = shlex.join(self.command)
        if code == _NO_PROGRAM:
            return NotPossibleHere(
                f"host {self.host.name} has no python3",
                where=where,
                output=said,
                hint=f"on host {self.host.name}: apt-get install -y python3",
            )
        if code is None or code in (0, _NO_CONNECTION) or code < 0:
            self._gone = MachineUnreachable(
                f"host {self.host.name} cannot be reached by SSH",
                where=where,
                output=said,
                hint="the command above shows why; it must not ask for anything",
            )
            return self._gone
        return StepFailed(
            f"host {self.host.name}: our program ended with status {code}",
            where=where,
            output=said,
        )


def as_caller(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """A command as the person behind `sudo` runs it: with their SSH keys, and their known hosts."""
    caller = folders.caller()
    if caller is None:
        return arguments
    user, group = caller
    return ("setpriv", f"--reuid={user}", f"--regid={group}", "--init-groups", "--", *arguments)


def _refuse(name: str, found: Mapping[str, Any]) -> None:
    """Raise when the host cannot run our agent."""
    if found["refusal"]:
        raise NotPossibleHere(
            f"host {name}: root is needed, by its own login or by sudo without a password",
            where=f"host {name}",
            output=str(found["refusal"]),
            hint="log in as root, or let that user use sudo without a password (NOPASSWD)",
        )
    own = {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "architecture": platform.machine(),
        "libc": platform.libc_ver()[0],
    }
    for key, what in (("python", "Python"), ("architecture", "architecture"), ("libc", "libc")):
        if found[key] != own[key]:
            raise NotPossibleHere(
                f"host {name}: {what} {found[key] or 'unknown'}, and here {own[key] or 'unknown'}",
                where=f"host {name}",
                hint="hosts that share an experiment need the same release of Python and the same "
                "architecture",
            )
