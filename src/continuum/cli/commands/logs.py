"""`continuum logs [NAME] [WHAT]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from continuum import state_file
from continuum.cli import output
from continuum.cli.deployments import provider_kinds, split
from continuum.cli.privileges import ensure_root
from continuum.cli.session import Session, common, current, json_option
from continuum.errors import NotFound, UsageError
from continuum.parallel import for_each

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from continuum.deployment import Deployment
    from continuum.machine import Machine
    from continuum.software.logs import Found, Log


@click.command("logs")
@click.argument("words", metavar="[NAME] [WHAT]", nargs=-1)
@click.option("--unit", metavar="UNIT", help="Only this systemd unit of the machine.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="The last lines; 0 for all.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on as the log grows.")
@click.option("-l", "--list", "listed", is_flag=True, help="Show what has a log.")
@json_option
@common
def command(  # noqa: PLR0913  one parameter per option of the command line
    *,
    words: tuple[str, ...],
    unit: str | None,
    lines: int,
    follow: bool,
    listed: bool,
    as_json: bool,
) -> int:
    """Show the log of a machine, a unit, a pod or a function, or what was done with a deployment.

    WHAT is the name of any of them, as `edge-1`, `mosquitto`, `worker-1`; `edge-1/mosquitto` is
    that of one machine. Where several are meant, each line begins with where it comes from.

    On a terminal, what it would obey is spelt out; a pipe or a file gets the bytes as they are.

    Without WHAT this is the log of the last command that changed the deployment, step by step.
    NAME may be left out when there is one deployment.

    Exit codes: 0 shown, or followed until Ctrl-C; 4 the machine cannot be reached; 5 no such deployment, or nothing of that
    name has a log.
    """
    session = current()
    deployment, rest = split(session, words)
    if len(rest) > 1:
        raise UsageError(f"name one thing that has a log, not {len(rest)}")
    if follow and (as_json or not rest):
        raise UsageError("--follow goes with something that has a log, and not with --json")
    if listed and (rest or unit or follow):
        raise UsageError("--list goes with a deployment alone")
    if unit is not None and not rest:
        raise UsageError("--unit goes with a machine", hint="continuum logs NAME MACHINE")
    if listed:
        _show_list(deployment, _find(session, deployment), as_json=as_json)
        return 0
    if rest:
        content = _logs(session, deployment, rest[0], unit, lines, follow=follow)
        where = rest[0]
    else:
        path = _last_log(deployment)
        content, where = _last_lines(path, lines), str(path)
        session.say(f"({path})")
    if as_json:
        told = content.decode("utf-8", "replace").splitlines()
        output.write_json({"deployment": deployment.name, "log": where, "lines": told})
    elif content:
        output.write_log(content.rstrip(b"\n") + b"\n")
    return 0


def _machines(session: Session, deployment: Deployment) -> list[Machine]:
    for kind in provider_kinds([deployment.name]):
        ensure_root(session, kind)
    from continuum import existing  # noqa: PLC0415  slow to import

    return existing.machines(deployment.name, [], session.events)


def _find(session: Session, deployment: Deployment) -> Found:
    from continuum.software import logs  # noqa: PLC0415  slow to import

    machines = _machines(session, deployment)
    return logs.find(machines, logs.control_machine(deployment.kubeconfig, machines))


def _show_list(deployment: Deployment, found: Found, *, as_json: bool) -> None:
    from continuum.software import logs  # noqa: PLC0415  slow to import

    shown = [log for log in found.logs if not logs.is_of_the_system(log)]
    if as_json:
        output.write_json(
            {
                "deployment": deployment.name,
                "logs": [
                    {"name": log.name, "kind": log.kind, "machine": log.where, "part": log.part}
                    for log in shown
                ],
                "problems": found.problems,
            }
        )
        return
    output.write(
        output.table(
            ("name", "what it is", "machine", ""),
            [tuple(map(output.clean, (log.name, log.kind, log.where, log.part))) for log in shown],
        )
    )
    for machine, problem in found.problems.items():
        output.say(f"{machine} does not tell: {output.clean(problem)}")


def _logs(  # noqa: PLR0913  one parameter per option of the command line
    session: Session,
    deployment: Deployment,
    word: str,
    unit: str | None,
    lines: int,
    *,
    follow: bool,
) -> bytes:
    """The content of a log, or of several; nothing when it was followed."""
    from continuum.software import logs  # noqa: PLC0415  slow to import

    by_name = {machine.name: machine for machine in _machines(session, deployment)}
    if word in {machine.tier for machine in by_name.values()}:
        raise UsageError(f'"{word}" is a tier: name one machine')
    if word in by_name:
        meant = [logs.of_machine(word, unit or "")]
    elif unit is not None:
        raise NotFound(
            f'no machine "{word[:60]}" in deployment "{deployment.name}"',
            hint=f"there are: {', '.join(by_name)}",
        )
    else:
        control = logs.control_machine(deployment.kubeconfig, list(by_name.values()))
        found = logs.find(list(by_name.values()), control)
        meant = found.meant(word)
        if not meant:
            silent = "; ".join(f"{name}: {why}" for name, why in found.problems.items())
            raise NotFound(
                f'nothing called "{word[:60]}" has a log in deployment "{deployment.name}"',
                where=silent,
                hint=f"continuum logs {deployment.name} --list shows what has one; the logs of "
                "what a run has ended are in its results, in the folder logs",
            )
    width = max(len(log.label) for log in meant)
    marks = [f"{log.label:<{width}} | " if len(meant) > 1 else "" for log in meant]
    if follow:
        try:
            _follow(by_name, meant, marks, lines)
        except KeyboardInterrupt:
            # That is how following ends, and no failure.
            session.say()
        return b""
    results = for_each(lambda log: by_name[log.machine].run(log.command(lines)).check(), meant)
    return b"".join(
        mark.encode() + line + b"\n"
        for mark, result in zip(marks, results, strict=True)
        for line in result.stdout.removesuffix(b"\n").split(b"\n")
        if result.stdout
    )


def _follow(
    by_name: Mapping[str, Machine], meant: Sequence[Log], marks: Sequence[str], lines: int
) -> None:
    """Write lines as they come, until interrupted, or until what wrote them is gone."""

    def one(item: tuple[Log, str]) -> None:
        log, mark = item
        for line in by_name[log.machine].stream(log.command(lines, follow=True)):
            output.write_log(f"{mark}{line}\n".encode("utf-8", "backslashreplace"))

    for_each(one, list(zip(meant, marks, strict=True)), threads=len(meant))


def _last_log(deployment: Deployment) -> Path:
    logs = sorted((deployment.folder / "logs").glob("*.log"), key=lambda path: path.stat().st_mtime)
    if not logs:
        raise NotFound(
            f'deployment "{deployment.name}" has no log yet',
            where=str(deployment.folder / "logs"),
            hint=f"continuum logs {deployment.name} MACHINE shows a machine's",
        )
    return logs[-1]


def _last_lines(path: Path, count: int) -> bytes:
    content = state_file.undamaged(state_file.read_bytes(path)) or b""
    lines = content.splitlines(keepends=True)
    return b"".join(lines[-count:] if count else lines)
