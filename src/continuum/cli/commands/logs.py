"""`continuum logs [NAME] [MACHINE]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from continuum.cli import output
from continuum.cli.deployments import provider_kinds, split
from continuum.cli.privileges import ensure_root
from continuum.cli.session import Session, common, current, json_option
from continuum.errors import NotFound, UsageError
from continuum.machine import Command

if TYPE_CHECKING:
    from continuum.deployment import Deployment

FOLLOW_TIMEOUT = 86400.0


@click.command("logs")
@click.argument("words", metavar="[NAME] [MACHINE]", nargs=-1)
@click.option("--unit", metavar="UNIT", help="Only this systemd unit of the machine.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="The last lines; 0 for all.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on as a machine's log grows.")
@json_option
@common
def command(
    *, words: tuple[str, ...], unit: str | None, lines: int, follow: bool, as_json: bool
) -> int:
    """Show the log of a machine, or what was done with a deployment.

    Without MACHINE this is the log of the last command that changed the deployment, step by step.
    NAME may be left out when there is one deployment.

    Exit codes: 0 shown; 4 the machine cannot be reached; 5 no such deployment, machine or log.
    """
    session = current()
    deployment, rest = split(session, words)
    if len(rest) > 1:
        raise UsageError(f"name one machine, not {len(rest)}")
    if follow and (as_json or not rest):
        raise UsageError("--follow goes with a machine, and not with --json")
    if rest:
        text = _machine_log(session, deployment, rest[0], unit, lines, follow=follow)
        where = rest[0]
    else:
        if unit is not None:
            raise UsageError("--unit goes with a machine", hint="continuum logs NAME MACHINE")
        path = _last_log(deployment)
        text, where = _last_lines(path, lines), str(path)
        session.say(f"({path})")
    if as_json:
        output.write_json({"deployment": deployment.name, "log": where, "lines": text.splitlines()})
    elif text:
        output.write(text.rstrip("\n"))
    return 0


def _machine_log(  # noqa: PLR0913  one parameter per option of the command line
    session: Session,
    deployment: Deployment,
    machine: str,
    unit: str | None,
    lines: int,
    *,
    follow: bool,
) -> str:
    for kind in provider_kinds([deployment.name]):
        ensure_root(session, kind)
    from continuum import workflow  # noqa: PLC0415  slow to import

    (handle, *more) = workflow.machines(deployment.name, [machine], session.events)
    if more:
        raise UsageError(f'"{machine}" is a tier: name one machine')
    arguments = (
        *("journalctl", "--no-pager", "--quiet", "--output=short-iso-precise"),
        *(("--unit", unit) if unit is not None else ()),
        *(("--lines", str(lines)) if lines else ()),
    )
    if not follow:
        return handle.run(Command(arguments)).check().stdout.decode("utf-8", "replace")
    for line in handle.stream(Command((*arguments, "--follow"), timeout=FOLLOW_TIMEOUT)):
        output.write(line)
    return ""


def _last_log(deployment: Deployment) -> Path:
    logs = sorted((deployment.folder / "logs").glob("*.log"), key=lambda path: path.stat().st_mtime)
    if not logs:
        raise NotFound(
            f'deployment "{deployment.name}" has no log yet',
            where=str(deployment.folder / "logs"),
            hint=f"continuum logs {deployment.name} MACHINE shows a machine's",
        )
    return logs[-1]


def _last_lines(path: Path, count: int) -> str:
    lines = path.read_text(errors="replace").splitlines()
    return "\n".join(lines[-count:] if count else lines)
