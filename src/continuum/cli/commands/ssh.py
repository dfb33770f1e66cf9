"""`continuum ssh [NAME] MACHINE [-- COMMAND…]`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from continuum.cli import bootstrap
from continuum.cli.deployments import WithCommand, selector
from continuum.cli.session import common, current
from continuum.errors import MachineUnreachable, NotFound, NotPossibleHere, UsageError

if TYPE_CHECKING:
    from continuum.deployment import Deployment
    from continuum.events import Events
    from continuum.infrastructure.providers.contract import Provider


@click.command("ssh", cls=WithCommand)
@click.argument("words", metavar="[NAME] MACHINE [-- COMMAND…]", nargs=-1)
@common
@click.pass_context
def command(context: click.Context, words: tuple[str, ...]) -> int:
    """Log in to a machine, or run a command on it, by SSH.

    NAME may be left out when there is one deployment. One word after -- is a line for the
    machine's shell, as in `ssh`; several are a program and its arguments, taken as they are.

    Exit codes: those of ssh: the command's own, or 255 when the machine cannot be reached;
    2 usage; 3 the provider's machines have no SSH; 4 the machine does not run; 5 no such deployment or machine.
    """
    session = current()
    deployment, (machine, *more) = selector(session, words, "a machine")
    if more:
        raise UsageError(
            "log in to one machine at a time; a command stands after --",
            hint=f"continuum ssh {deployment.name} {machine} -- {shlex.join(more)}",
        )
    remote: tuple[str, ...] = context.meta["command"]
    check(deployment, machine, session.events)
    ssh = bootstrap.find_program("ssh")
    if ssh is None:
        raise NotPossibleHere("there is no ssh on this host", hint="apt-get install openssh-client")
    session.close()
    sys.stdout.flush()
    sys.stderr.flush()
    arguments = [ssh, "-F", str(deployment.ssh_config), machine, *remote_line(remote)]
    os.execv(ssh, arguments)  # noqa: S606  no shell is wanted


def remote_line(words: Sequence[str]) -> list[str]:
    """What ssh sends to the machine's shell: one word as it is, several quoted each."""
    if len(words) > 1:
        return ["--", shlex.join(words)]
    return ["--", words[0]] if words else []


def check(deployment: Deployment, machine: str, events: Events) -> None:
    """Refuse what ssh would only stumble over.

    Raises:
        MachineUnreachable: it does not run. (Without its bridge another computer may answer.)
        NotFound: the deployment has no such machine, or no machines yet.
        NotPossibleHere: its machines have no SSH.
    """
    from continuum import plugins  # noqa: PLC0415  slow to import
    from continuum.infrastructure.execute import stored_plan  # noqa: PLC0415

    plan = stored_plan(deployment)
    names = [spec.name for spec in plan.machines] if plan else []
    if plan is None or machine not in names:
        raise NotFound(
            f'no machine "{machine[:60]}" in deployment "{deployment.name}"',
            hint=f"there are: {', '.join(names) or 'none'}",
        )
    kind: type[Provider] = plugins.load("providers", plan.provider)
    if not kind.capabilities.ssh:
        raise NotPossibleHere(
            f'machines of provider "{plan.provider}" have no SSH',
            hint=f"continuum exec {deployment.name} {machine} -- COMMAND",
        )
    if not deployment.ssh_config.exists():
        raise UsageError(
            f'deployment "{deployment.name}" was not brought up whole', hint="continuum up FILE"
        )
    # Of a machine on another host, or one that is not ours, only SSH itself can tell.
    if (
        plan.network.bridge
        and not next(each for each in plan.machines if each.name == machine).host
    ):
        states = kind(kind.settings_type(), events).states(deployment)
        if any(each.name == machine and each.state == "stopped" for each in states):
            raise MachineUnreachable(
                f"machine {machine} does not run", hint="`continuum up` starts it again"
            )
