"""`continuum up FILE`."""

from __future__ import annotations

from pathlib import Path

import click

from continuum.cli import output
from continuum.cli.experiments import experiment_arguments, provider_of, read
from continuum.cli.privileges import prepare_host, with_programs
from continuum.cli.session import (
    changes_option,
    common,
    current,
    json_option,
    take_over_option,
)


@click.command("up")
@experiment_arguments
@click.option("--recreate", is_flag=True, help="Replace every machine, also those that are right.")
@take_over_option
@changes_option
@json_option
@common
def command(  # noqa: PLR0913  one parameter per option of the command line
    *,
    file: Path,
    settings: tuple[str, ...],
    provider: str | None,
    recreate: bool,
    take_over: bool,
    as_json: bool,
) -> int:
    """Bring the machines of an experiment up, with their software and their network.

    What is right already stays as it is; on a changed file only the differences are carried out.
    Where machines would be replaced or removed for them, it asks for --yes or --recreate.

    Exit codes: 0 up; 1 a step failed; 2 invalid experiment, another file's
    deployment, or machines would be lost; 3 not on this host;
    4 a machine cannot be reached; 130 interrupted: the same command again goes on.
    """
    session = current()
    loaded = read(session, file, settings, provider)
    prepare_host(session, provider_of(loaded))
    name = loaded.experiment.name
    session.changes(name, "up")
    from continuum import workflow  # noqa: PLC0415  slow to import

    outcome = with_programs(
        session,
        lambda: workflow.up(
            loaded, session.events, recreate=recreate, yes=session.yes, take_over=take_over
        ),
    )
    session.close()
    deployment = outcome.deployment
    if as_json:
        output.write_json(
            {
                "deployment": name,
                "folder": deployment.folder,
                "changes": outcome.changes,
                "machines": [
                    {
                        "name": machine.name,
                        "tier": machine.tier,
                        "address": machine.address,
                        "ssh": (
                            deployment.ssh_command(machine.name)
                            if outcome.plan.provider.capabilities.ssh
                            else ""
                        ),
                    }
                    for machine in outcome.machines
                ],
                "cluster": deployment.cluster_command(),
                "remove": f"continuum down {name}",
            }
        )
        return 0
    count = len(outcome.machines)
    session.say(
        f'deployment "{name}" is up: {count} machine{"s" if count != 1 else ""}'
        + ("" if outcome.changes else "; nothing was changed")
    )
    if outcome.plan.provider.capabilities.ssh:
        session.say(f"  log in:     continuum ssh {name} {outcome.machines[0].name}")
    if deployment.cluster_command():
        session.say(f"  cluster:    {deployment.cluster_command()}")
    from continuum.software.serverless import names, openfaas  # noqa: PLC0415  slow to import, as all of them

    functions = openfaas.access(loaded.experiment, outcome.plan.infrastructure)
    if functions is not None:
        session.say(f"  functions:  {functions.url} (user {names.USER})")
        session.say(f"  password:   {openfaas.password_command(name)}")
    if outcome.plan.experiment.observed and outcome.plan.provider.capabilities.ssh:
        shown = "grafana" in (outcome.plan.software.services if outcome.plan.software else ())
        session.say(f"  metrics:    continuum open {'grafana' if shown else 'prometheus'} {name}")
    session.say(f"  remove it:  continuum down {name}")
    return 0
