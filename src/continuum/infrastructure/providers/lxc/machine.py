"""A running container as a machine: commands go in by `lxc-attach`."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from continuum.errors import MachineUnreachable, StepFailed
from continuum.infrastructure.host.console import last_lines
from continuum.infrastructure.plan import MachineSpec
from continuum.infrastructure.providers.lxc import containers
from continuum.infrastructure.providers.lxc.config import Container
from continuum.machine import (
    Ask,
    Command,
    Machine,
    Result,
    converse_on_host,
    run_on_host,
    stream_on_host,
)

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LANG": "C.UTF-8",
}

_CRASHED = -signal.SIGSEGV
"""How `lxc-attach` itself ends now and then on a busy host. A command that crashes in the machine has
another status."""


class LxcMachine(Machine):
    """The machine of one container."""

    def __init__(self, spec: MachineSpec, container: Container) -> None:
        self.name = spec.name
        self.tier = spec.tier
        self.address = spec.address
        self.container = container

    def run(self, command: Command) -> Result:
        """Run a command as root, within the machine's limits, with an environment of its own."""
        attached = self._attached(command)
        try:
            result = run_on_host(attached, where=self.name)
            if result.exit_code == _CRASHED and command.only_reads:
                result = run_on_host(attached, where=self.name)
        except StepFailed as error:
            raise self._told(error, attached, command) from error
        if result.exit_code != 0 and not self._runs():
            raise self._unreachable()
        return replace(result, command=command)

    def stream(self, command: Command) -> Iterator[str]:
        """Run a command and yield its output line by line."""
        attached = self._attached(command)
        try:
            yield from stream_on_host(attached, where=self.name)
        except StepFailed as error:
            if not self._runs():
                raise self._unreachable() from error
            raise self._told(error, attached, command) from error

    @contextmanager
    def converse(self, command: Command) -> Iterator[Ask]:
        """Talk with a program that keeps running until the block ends."""
        with converse_on_host(self._attached(command), where=self.name) as ask:
            yield ask

    def _attached(self, command: Command) -> Command:
        variables = {**_ENVIRONMENT, **command.environment}
        arguments = (
            # Found by our own PATH: among the variables is that of the machine.
            shutil.which("lxc-attach") or "lxc-attach",
            f"--lxcpath={self.container.folder.parent}",
            f"--name={self.container.name}",
            "--clear-env",
            # By name: everybody on the host may read arguments.
            *(f"--keep-var={name}" for name in variables),
            "--",
            *command.arguments,
        )
        # Not from our own working directory, which the machine does not have.
        return replace(command, arguments=arguments, environment=variables, directory=Path("/"))

    def _runs(self) -> bool:
        path, name = self.container.folder.parent, self.container.name
        return any(each.name == name and each.init is not None for each in containers.running(path))

    def _unreachable(self) -> MachineUnreachable:
        return MachineUnreachable(
            f"machine {self.name} does not run",
            where=f"container {self.container.name}",
            output=last_lines(self.container.console),
            hint="`continuum up` starts it again",
        )
