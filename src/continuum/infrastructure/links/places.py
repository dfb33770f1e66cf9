"""Where the process of the user-space emulator runs: on this host, or in the machine itself."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum import interruption, native
from continuum.deployment import Deployment
from continuum.errors import CommandFailed, NotFound, TimedOut
from continuum.images.recipe import RUNTIME_FOLDER
from continuum.infrastructure.links import process
from continuum.infrastructure.links.contract import Interface
from continuum.machine import Command, Machine
from continuum_runtime import link_series
from continuum_runtime.link_series import Record

UNIT = "ctm-links.service"
"""Not `continuum-…`: units of that name are workers and endpoints, which are stopped together."""

_FOLDER = "/var/lib/continuum/links"
_CONFIGURATION = f"{_FOLDER}/delay_emulator.json"
_TABLE = f"{_FOLDER}/delay_emulator.table"
_SERIES = f"{_FOLDER}/series"
_PROGRAM = f"{_FOLDER}/delay_emulator"
_STATE = f"{_FOLDER}/delay_emulator.state"
_OWN_NAMESPACE = "/proc/self/ns/net"
_POLL = 0.1


class Place(ABC):
    """One process, and the machines whose packets it delays.

    `running`, `start` and `stop` are about the process; a configuration is what
    `continuum_runtime.delay_table` takes, and which `program` carries it out.
    """

    @property
    @abstractmethod
    def state_file(self) -> str:
        """Where the process says that it is ready."""

    @property
    @abstractmethod
    def series_folder(self) -> str:
        """The folder to which the process writes what it counts."""

    @abstractmethod
    def records(self, since_ns: int, until_ns: int) -> list[Record]:
        """The counts of the process in windows that touch a stretch of time (wall clock).

        Raises:
            StepFailed: it cannot be read.
        """

    @abstractmethod
    def program(self) -> str:
        """Which of its programs the process is: `compiled`, or `python`."""

    @abstractmethod
    def namespace(self, interface: Interface) -> tuple[str, int]:
        """Path of a machine's network namespace as the process sees it, and its number."""

    @abstractmethod
    def running(self) -> dict[str, Any] | None:
        """The configuration that a ready process carries out now, None when there is none."""

    @abstractmethod
    def start(self, configuration: dict[str, Any]) -> None:
        """Start a process and wait until it has all its queues."""

    @abstractmethod
    def stop(self) -> bool:
        """Stop every process; True when there was one."""


@dataclass(frozen=True)
class OnHost(Place):
    """One process on this host for all machines whose namespaces are this host's."""

    deployment: Deployment

    @property
    def state_file(self) -> str:
        """In the deployment's folder."""
        return str((self.deployment.folder / process.STATE).absolute())

    @property
    def series_folder(self) -> str:
        """In the deployment's folder."""
        return str((self.deployment.folder / process.SERIES).absolute())

    def records(self, since_ns: int, until_ns: int) -> list[Record]:
        """From the deployment's folder."""
        return list(link_series.read(Path(self.series_folder), since_ns, until_ns))

    def program(self) -> str:
        """The compiled one, unless it cannot be had."""
        return process.PYTHON if native.program(process.PROGRAM) is None else process.COMPILED

    def namespace(self, interface: Interface) -> tuple[str, int]:
        """That of the machine's first process."""
        return interface.namespace, Path(interface.namespace).stat().st_ino

    def running(self) -> dict[str, Any] | None:
        """By its command line and the files in the deployment's folder."""
        return process.running(self.deployment)

    def start(self, configuration: dict[str, Any]) -> None:
        """Detached: it outlives us."""
        process.start(self.deployment, configuration)

    def stop(self) -> bool:
        """Every process of the deployment."""
        return process.stop(self.deployment)


@dataclass(frozen=True)
class InMachine(Place):
    """One process in a machine, for that machine: a transient systemd unit."""

    identity: str
    machine: Machine

    @property
    def state_file(self) -> str:
        """In a folder of ours on the machine."""
        return _STATE

    @property
    def series_folder(self) -> str:
        """In the same folder."""
        return _SERIES

    def records(self, since_ns: int, until_ns: int) -> list[Record]:
        """By a program that picks them on the machine."""
        arguments = ("/usr/bin/python3", "-m", "continuum_runtime.link_series")
        command = Command(
            (*arguments, _SERIES, str(since_ns), str(until_ns)),
            environment={"PYTHONPATH": RUNTIME_FOLDER},
        )
        read = self.machine.run(command).check(
            f"cannot read what the delay emulator on {self.machine.name} counted"
        )
        return [Record(*json.loads(line)) for line in read.text.splitlines()]

    def program(self) -> str:
        """The compiled one, when it can be had here and the machine is of this host's kind."""
        if native.program(process.PROGRAM) is None:
            return process.PYTHON
        kind = self.machine.run(Command(("uname", "-m"))).text.strip()
        return process.COMPILED if kind == platform.machine() else process.PYTHON

    def namespace(self, interface: Interface) -> tuple[str, int]:
        """The process's own; it has no number that would be known here."""
        del interface
        return _OWN_NAMESPACE, 0

    def running(self) -> dict[str, Any] | None:
        """By the unit's process and the files on the machine."""
        shown = Command(("systemctl", "show", "--property=MainPID", "--value", UNIT))
        number = self.machine.run(shown).text
        try:
            state = json.loads(self.machine.get(_STATE))
            content = self.machine.get(_CONFIGURATION)
        except (NotFound, ValueError, RecursionError):
            return None
        if not isinstance(state, dict) or str(state.get("process")) != number:
            return None
        if state.get("configuration") != hashlib.sha256(content).hexdigest():
            return None
        configuration: dict[str, Any] = json.loads(content)
        return configuration

    def start(self, configuration: dict[str, Any]) -> None:
        """As a unit that systemd forgets when it has ended.

        Raises:
            CommandFailed: it ended instead; the error holds its last output.
            TimedOut: it was not ready in time; it has been stopped.
        """
        where = f"{self.machine.name}: {UNIT}"
        text, table = process.files(configuration)
        self.machine.put(text.encode(), _CONFIGURATION)
        self.machine.put(table.encode(), _TABLE)
        program: tuple[str, ...] = ("/usr/bin/python3", "-m", process.MODULE)
        compiled = native.program(process.PROGRAM)
        if configuration["program"] == process.COMPILED and compiled is not None:
            self.machine.put(compiled.read_bytes(), _PROGRAM, mode=0o755)
            program = (_PROGRAM,)
        self.machine.run(Command(("rm", "-f", _STATE))).check()
        # A machine may be a container of this host, whose processes are found by their identity.
        identity = f"{self.identity}/{self.machine.name}"
        arguments = (
            *("systemd-run", "--quiet", f"--unit={UNIT}", "--description=Continuum: links"),
            *("--property=Type=exec", f"--setenv=PYTHONPATH={RUNTIME_FOLDER}", "--"),
            *(*program, identity, _TABLE),
        )
        self.machine.run(Command(arguments)).check(
            f"cannot start the delay emulator on {self.machine.name}"
        )
        deadline = time.monotonic() + process.START_TIMEOUT
        while self.machine.run(Command(("test", "-e", _STATE))).exit_code != 0:
            active = self.machine.run(Command(("systemctl", "is-active", "--quiet", UNIT)))
            if active.exit_code != 0:
                output = self._log()
                self.stop()
                raise CommandFailed(
                    f"the delay emulator on {self.machine.name} ended at its start",
                    where=where,
                    output=output,
                    hint="does the machine's kernel have packet queues (nfnetlink_queue)?",
                )
            if time.monotonic() > deadline:
                output = self._log()
                self.stop()
                raise TimedOut(
                    f"the delay emulator on {self.machine.name} was not ready within "
                    f"{process.START_TIMEOUT:g} s",
                    where=where,
                    output=output,
                )
            interruption.pause(_POLL)

    def stop(self) -> bool:
        """Stop the unit and forget it; both fail where there is none, which is what is wanted."""
        stop = Command(("systemctl", "stop", UNIT), timeout=process.STOP_TIMEOUT + 90)
        stopped = self.machine.run(stop).exit_code == 0
        self.machine.run(Command(("systemctl", "reset-failed", UNIT)))
        return stopped

    def _log(self) -> str:
        arguments = ("journalctl", "--no-pager", "--output=cat", "--lines=20", f"--unit={UNIT}")
        return self.machine.run(Command(arguments)).text


def places(
    deployment: Deployment, interfaces: Sequence[Interface]
) -> Iterator[tuple[Place, list[Interface]]]:
    """Every place, with the machines that its process serves; this host is always one of them."""
    yield OnHost(deployment), [each for each in interfaces if each.inside is None]
    for each in interfaces:
        if each.inside is not None:
            yield InMachine(deployment.identity, each.inside), [each]
