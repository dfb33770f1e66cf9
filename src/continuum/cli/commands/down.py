"""`continuum down NAME…`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from continuum.cli import output
from continuum.cli.deployments import names_complete, provider_kinds
from continuum.cli.privileges import ensure_root
from continuum.cli.session import common, current, json_option

if TYPE_CHECKING:
    from continuum.infrastructure.providers.contract import Provider


@click.command("down")
@click.argument("names", metavar="NAME…", nargs=-1, shell_complete=names_complete)
@click.option("--all", "all_", is_flag=True, help="Remove every deployment of yours.")
@json_option
@common
def command(names: tuple[str, ...], all_: bool, as_json: bool) -> int:
    """Remove deployments with all that belongs to them: machines, network, folder.

    Results folders stay. What is not a deployment's own is never touched.

    Exit codes: 0 removed; 1 a step failed; 2 usage; 3 no way to be root, or a provider is not there;
    4 a host cannot be reached, all else is removed; 5 no such deployment.
    """
    session = current()
    if all_ and names:
        raise click.UsageError("give either names or --all", click.get_current_context())
    if not all_ and not names:
        raise click.UsageError("give a deployment's name, or --all", click.get_current_context())
    kinds: list[type[Provider]] = provider_kinds(None if all_ else names)
    for kind in kinds:
        ensure_root(session, kind)
    from continuum import workflow  # noqa: PLC0415  slow to import

    if len(names) == 1:
        session.deployment = names[0]
    removed = workflow.down(list(names), session.events, all_=all_)
    session.close()
    if as_json:
        output.write_json({"removed": removed})
    elif not removed:
        session.say("there is no deployment; nothing to remove")
    else:
        session.say(f"removed: {', '.join(removed)}")
    return 0
