"""`continuum ssh-config [NAME]`."""

from __future__ import annotations

import click

from continuum import state_file
from continuum.cli import output
from continuum.cli.deployments import names_complete, only_one
from continuum.cli.session import common, current, json_option
from continuum.deployment import Deployment
from continuum.errors import NotFound


@click.command("ssh-config")
@click.argument("name", metavar="[NAME]", required=False, shell_complete=names_complete)
@json_option
@common
def command(name: str | None, as_json: bool) -> int:
    """Write a deployment's configuration for `ssh -F` to standard output.

    NAME may be left out when there is one deployment.

    Exit codes: 0 written; 5 no such deployment, or it has no SSH.
    """
    deployment = Deployment.existing(name) if name is not None else only_one(current())
    text = state_file.undamaged(state_file.read_text(deployment.ssh_config))
    if text is None:
        raise NotFound(
            f'deployment "{deployment.name}" has no SSH configuration',
            where=str(deployment.ssh_config),
            hint="its provider has none, or it was not brought up whole: continuum up FILE",
        )
    if as_json:
        output.write_json(
            {"deployment": deployment.name, "path": deployment.ssh_config, "text": text}
        )
    else:
        output.write(text.rstrip("\n"))
    return 0
