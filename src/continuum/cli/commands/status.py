"""`continuum status [NAME]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from continuum.cli import output
from continuum.cli.deployments import names_complete
from continuum.cli.session import common, current, json_option
from continuum.experiment.model import THIS_HOST

if TYPE_CHECKING:
    from continuum.existing import DeploymentStatus


MOST_NAMED = 5
"""Links that are not in force, of those shown."""


@click.command("status")
@click.argument("name", metavar="[NAME]", required=False, shell_complete=names_complete)
@json_option
@common
def command(name: str | None, as_json: bool) -> int:
    """Show deployments, with their machines and links, as they are now.

    Exit codes: 0 shown; 1 shown, and links that should be in force are not, or the network that
    carries and closes the machines is not whole; 5 no such deployment.
    """
    session = current()
    from continuum import existing  # noqa: PLC0415  slow to import

    found = existing.status(name, session.events)
    ended = 1 if any(each.links_missing or each.network_missing for each in found) else 0
    if as_json:
        output.write_json(found)
        return ended
    if not found:
        session.say("there is no deployment; `continuum up FILE` makes one")
    for number, deployment in enumerate(found):
        if number:
            output.write("")
        _show(deployment)
    return ended


def _show(deployment: DeploymentStatus) -> None:
    running = sum(machine.state == "running" for machine in deployment.machines)
    parts = [f"{running} of {len(deployment.machines)} machines running"]
    if any(machine.state == "unknown" for machine in deployment.machines):
        parts = ["its machines cannot be looked at"]
    elif deployment.links_in_force is None:
        parts.append(f"{deployment.links_asked} links asked; only root sees which are in force")
    elif deployment.links_asked:
        parts.append(f"{deployment.links_in_force} of {deployment.links_asked} links in force")
    if deployment.leftover:
        parts = ["its folder is gone, things on this host are not"]
    provider = f" ({deployment.provider})" if deployment.provider else ""
    title = output.styled(deployment.name, "strong")
    output.write(f"{title}{provider}: {', '.join(parts)}")
    if deployment.machines:
        several = any(each.host for each in deployment.machines)
        rows = [
            (
                *(each.name, each.state, each.address),
                *((each.host or THIS_HOST,) if several else ()),
                each.ssh,
            )
            for each in deployment.machines
        ]
        host = ("host",) if several else ()
        table = output.table(("machine", "state", "address", *host, "log in"), rows)
        output.write("\n".join(f"  {line}" for line in table.splitlines()))
    _show_missing(deployment)
    _show_remarks(deployment)
    if deployment.cluster:
        output.write(f"  cluster: {deployment.cluster}")
    if deployment.last_step:
        output.write(f"  last step: {deployment.last_step}")
    output.write(f"  remove it: continuum down {deployment.name}")


def _show_remarks(deployment: DeploymentStatus) -> None:
    for line in deployment.damaged:
        output.write(f"  {output.styled('damaged:', 'bad')} {output.clean(line)}")
    for remark in deployment.remarks:
        output.write(f"  note: {remark}")


def _show_missing(deployment: DeploymentStatus) -> None:
    if deployment.links_missing:
        named = ", ".join(deployment.links_missing[:MOST_NAMED])
        more = len(deployment.links_missing) - MOST_NAMED
        output.write(
            f"  not in force: {named}{f' and {more} more' if more > 0 else ''}; `continuum up` "
            "puts them in force again"
        )
    for lack in deployment.network_missing:
        output.write(f"  the network is not whole: {lack}; `continuum up` mends it")
