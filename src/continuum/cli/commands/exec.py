"""`continuum exec [NAME] MACHINE… -- COMMAND…`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import takewhile

import click

from continuum.cli import output
from continuum.cli.deployments import WithCommand, provider_kinds, selector
from continuum.cli.privileges import ensure_root
from continuum.cli.seconds import Seconds
from continuum.cli.session import common, current, json_option
from continuum.errors import StepFailed, UsageError
from continuum.events import StepStarted
from continuum.machine import Command, Machine, Result
from continuum.parallel import for_each

ALL = "all"
LONGEST = 7 * 24 * 3600
"""Seconds; clocks of the system do not reach as far as numbers do."""


@click.command("exec", cls=WithCommand)
@click.argument("words", metavar="[NAME] MACHINE… -- COMMAND…", nargs=-1)
@click.option(
    "--timeout",
    type=Seconds(0, LONGEST, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds until the command is killed, 7 days at most.",
)
@json_option
@common
@click.pass_context
def command(context: click.Context, words: tuple[str, ...], timeout: float, as_json: bool) -> int:
    """Run a command on machines, all at once.

    MACHINE is a machine, a tier, or `all`; NAME may be left out when there is one deployment. The
    command is a program and its arguments, no line for a shell. With several machines every line
    of output begins with the machine's name. Standard input is not passed on: `continuum ssh NAME
    MACHINE -- COMMAND` does that.

    Exit codes: 0 the command succeeded everywhere; 1 it failed on a machine; 4 a machine cannot
    be reached; 5 no such deployment or machine.
    """
    session = current()
    arguments: tuple[str, ...] = context.meta["command"]
    if not arguments:
        raise UsageError("give a command after --", hint=_with_mark(words))
    deployment, selected = selector(session, words, "machines")
    for kind in provider_kinds([deployment.name]):
        ensure_root(session, kind)
    from continuum import existing  # noqa: PLC0415  slow to import

    names = [] if ALL in selected else selected
    machines = existing.machines(deployment.name, names, session.events)
    found: dict[str, Result] = {}

    def work(machine: Machine) -> None:
        found[machine.name] = machine.run(Command(arguments, timeout=timeout))

    # Its end is not told: whoever runs a quick command wants to read what that said.
    session.events.emit(StepStarted("exec", ", ".join(selected), "the command"))
    try:
        for_each(work, machines)
    finally:
        session.close()
        # A machine that cannot be reached must not hide what the others said.
        results = {each.name: found[each.name] for each in machines if each.name in found}
        _write(results, several=len(machines) > 1, as_json=as_json)
    failed = [
        f"{name}: status {result.exit_code}"
        for name, result in results.items()
        if result.exit_code != 0
    ]
    if failed:
        raise StepFailed(f"the command failed on {', '.join(failed)}")
    return 0


def _with_mark(words: Sequence[str]) -> str:
    """What may have been meant by words without `--`: it stands behind the last machine."""
    from continuum.deployment import Deployment  # noqa: PLC0415  slow to import, as all of them
    from continuum.infrastructure.execute import stored_plan  # noqa: PLC0415

    deployments = Deployment.all()
    named = [each.name for each in deployments if each.name in words[:1]]
    machines = {ALL}
    for each in deployments:
        plan = stored_plan(each)
        for spec in plan.machines if plan else ():
            machines |= {spec.name, spec.tier}
    rest = words[len(named) :]
    # A machine that there is not is told when the rest is right.
    selected = list(takewhile(machines.__contains__, rest)) or list(rest[:1])
    command = shlex.join(rest[len(selected) :])
    start = shlex.join(["continuum", "exec", *named, *(selected or ["MACHINE"])])
    return f"{start} -- {command or 'COMMAND'}"


def _write(results: Mapping[str, Result], *, several: bool, as_json: bool) -> None:
    if as_json:
        output.write_json([_as_json(name, result) for name, result in results.items()])
        return
    width = max(map(len, results), default=0)
    for name, result in results.items():
        prefix = f"{name:<{width}} | " if several else ""
        for line in result.stdout.decode("utf-8", "replace").splitlines():
            output.write(f"{prefix}{line}")
        for line in result.stderr.decode("utf-8", "replace").splitlines():
            output.say(f"{prefix}{line}")


def _as_json(name: str, result: Result) -> dict[str, object]:
    return {
        "machine": name,
        "exit_code": result.exit_code,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "seconds": round(result.seconds, 3),
    }
