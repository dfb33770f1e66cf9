"""A machine as SSH reaches it: virtual machines, machines on other hosts, and those that exist."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from continuum.errors import CommandFailed, MachineUnreachable, StepFailed, TimedOut
from continuum.machine import (
    Ask,
    Command,
    Machine,
    Result,
    converse_on_host,
    run_on_host,
    stream_on_host,
)

CONNECTION_FAILED = 255
"""Exit code of `ssh` when it has no connection; a command may end with it too."""

ENDED_BY_TIMEOUT = (124, 137)
"""Exit codes of `timeout`, which ends commands on the machine itself."""

_GRACE = 10.0
"""Seconds that are given to the connection, beside those of the command itself."""


class SshMachine(Machine):
    """One machine of a deployment, by the deployment's own `ssh_config`."""

    def __init__(
        self, name: str, tier: str, address: str, config: Path, *, sudo: bool = False
    ) -> None:
        """Make a handle; connects to nothing.

        Args:
            name: the machine's, and that of its entry in the configuration.
            tier: the machine's.
            address: on the emulated network.
            config: the deployment's `ssh_config`.
            sudo: whether the user that SSH logs in is not root, and becomes it without a password.
        """
        self.name = name
        self.tier = tier
        self.address = address
        self.config = config
        self.sudo = sudo

    def run(self, command: Command) -> Result:
        """Run a command as root, with the environment that its login has and the command's own."""
        carried = self._carried(command)
        try:
            result = run_on_host(carried, where=self.name)
        except StepFailed as error:
            raise self._told(error, carried, command) from error
        if result.exit_code == CONNECTION_FAILED and not self.answers():
            raise self._unreachable(result.last_output)
        if result.exit_code in ENDED_BY_TIMEOUT and result.seconds >= command.timeout:
            raise self._too_long(command, result.last_output)
        return replace(result, command=command)

    def stream(self, command: Command) -> Iterator[str]:
        """Run a command and yield its output line by line."""
        carried = self._carried(command)
        began = time.monotonic()
        try:
            yield from stream_on_host(carried, where=self.name)
        except StepFailed as error:
            if isinstance(error, CommandFailed) and not self.answers():
                raise self._unreachable(error.output) from error
            if time.monotonic() - began >= command.timeout:
                raise self._too_long(command, error.output) from error
            raise self._told(error, carried, command) from error

    @contextmanager
    def converse(self, command: Command) -> Iterator[Ask]:
        """Talk with a program that keeps running until the block ends."""
        with converse_on_host(self._carried(command), where=self.name) as ask:
            yield ask

    def answers(self) -> bool:
        """Whether a command can be run there now."""
        return run_on_host(self._carried(Command(("true",), timeout=15))).exit_code == 0

    def _carried(self, command: Command) -> Command:
        variables = [f"{key}={value}" for key, value in command.environment.items()]
        # The machine ends it too: what SSH leaves behind when it is killed runs on there.
        inner = (
            *(("sudo", "--non-interactive", "--") if self.sudo else ()),
            "env",
            *variables,
            "timeout",
            "--kill-after=5",
            f"{command.timeout:g}",
            *command.arguments,
        )
        # SSH hands the remote shell one line, whatever it is given: so it is quoted for it here.
        arguments = ("ssh", "-F", str(self.config), "-T", self.name, shlex.join(inner))
        return replace(
            command, arguments=arguments, environment={}, timeout=command.timeout + _GRACE
        )

    def _too_long(self, command: Command, output: str) -> TimedOut:
        return TimedOut(
            f"`{command}` did not end within {command.timeout:g} s",
            where=f"{self.name}: {command}",
            output=output,
        )

    def _unreachable(self, output: str) -> MachineUnreachable:
        return MachineUnreachable(
            f"machine {self.name} cannot be reached by SSH",
            where=f"ssh -F {self.config} {self.name}",
            output=output,
            hint="the command above shows why; `continuum up` goes on from here",
        )
