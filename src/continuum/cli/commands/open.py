"""`continuum open grafana|prometheus|gateway [NAME]`."""

from __future__ import annotations

import getpass
import html
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from continuum.cli import bootstrap, output, tunnel
from continuum.cli.commands.ssh import check
from continuum.cli.deployments import names_complete, only_one
from continuum.cli.seconds import Seconds
from continuum.cli.session import common, current, json_option
from continuum.deployment import Deployment
from continuum.errors import NotFound, NotPossibleHere, TimedOut
from continuum.machine import Command, run_on_host
from continuum.software.serverless import names
from continuum.software.services.scraping import APPLICATION, PROMETHEUS_PORT

if TYPE_CHECKING:
    from continuum.cli.session import Session
    from continuum.experiment.model import Experiment


@dataclass(frozen=True)
class Target:
    """Something with a web page on one machine of a deployment.

    Attributes:
        title: for a person.
        port: where it listens on the machine.
        local_port: where a person looks for it on the host.
        probe: path that is answered with status 200 once it can be used.
        unit: systemd's, "" when it runs in the cluster.
        unused: what the experiment lacks when it is not there.
        wanted: what in the experiment makes it.
    """

    title: str
    port: int
    local_port: int
    probe: str
    unit: str
    unused: str
    wanted: str

    def machine(self, experiment: Experiment) -> str | None:
        """The machine that it is reached on; None when the experiment does not have it."""
        if self.unit:
            return experiment.observing_machine
        software = experiment.software
        return experiment.control_machine if software and software.serverless else None

    def log_in(self, name: str, experiment: Experiment) -> str:
        """How a person gets past its log-in, "" when there is none."""
        if self is TARGETS["grafana"]:
            software = experiment.software
            if software is None or software.grafana.password is not None:
                return "log in as admin, with the password that the experiment names"
            return "log in as admin, password admin"
        if self is TARGETS["gateway"]:
            from continuum.software.serverless import openfaas  # noqa: PLC0415  slow to import

            return f"log in as {names.USER} with what this tells: {openfaas.password_command(name)}"
        return ""


_ASKED_FOR = "/api/v1/targets?state=active"
_FORGET_LIMIT = 15.0
_OBSERVABILITY = "software.observability = true"
_NO_METRICS = "collects no metrics"

TARGETS: Mapping[str, Target] = {
    "grafana": Target(
        title="Grafana",
        port=3000,
        local_port=3000,
        probe="/api/health",
        unit="grafana.service",
        unused=_NO_METRICS,
        wanted=_OBSERVABILITY,
    ),
    "prometheus": Target(
        title="Prometheus",
        port=PROMETHEUS_PORT,
        local_port=PROMETHEUS_PORT,
        probe="/-/ready",
        unit="prometheus.service",
        unused=_NO_METRICS,
        wanted=_OBSERVABILITY,
    ),
    "gateway": Target(
        title="OpenFaaS' gateway",
        port=names.NODE_PORT,
        local_port=names.PORT,
        probe="/healthz",
        unit="",
        unused="has no functions",
        wanted='software.execution_model = "function" with a table [software.serverless]',
    ),
}


@click.command("open")
@click.argument("target", type=click.Choice(list(TARGETS)))
@click.argument("name", metavar="[NAME]", required=False, shell_complete=names_complete)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port on this host; another is taken, and told, where it is not free.",
)
@click.option(
    "--wait",
    type=Seconds(0, 600),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for an answer.",
)
@click.option(
    "--browser/--no-browser",
    default=None,
    help="Show it in a browser; absent: only where there is a desktop.",
)
@json_option
@common
def command(  # noqa: PLR0913  one argument for each option
    *,
    target: str,
    name: str | None,
    port: int | None,
    wait: float,
    browser: bool | None,
    as_json: bool,
) -> int:
    """Open the web page of a deployment's Grafana, Prometheus, or functions' gateway.

    Makes an SSH tunnel from this host to the machine, writes the address to standard output, and
    holds until Ctrl-C. The address has a token in it, without which nobody on this host gets in. NAME may be left out when there is one deployment.

    Exit codes: 0 ended by Ctrl-C; 1 it does not answer; 2 usage; 3 it cannot be had here; 4 the
    machine cannot be reached; 5 no such deployment, or it has no such page.
    """
    session = current()
    deployment = Deployment.existing(name) if name is not None else only_one(session)
    wanted = TARGETS[target]
    far = _far(deployment, wanted)
    asked = port or wanted.local_port
    with tunnel.opened(far, asked) as way:
        _wait(deployment, wanted, way, wait)
        if target == "prometheus":
            _wait_for_end_of_last_run(session, deployment, way)
        try:
            _tell(session, deployment, wanted, way, asked, as_json=as_json)
            with ExitStack() as shown:
                if browser or (browser is None and _is_a_desktop()):
                    shown.enter_context(_in_a_browser(way.url))
                way.hold()
        except KeyboardInterrupt:
            session.say(f"closed port {way.port}")
    return 0


def _far(deployment: Deployment, target: Target) -> tunnel.Far:
    """Where the target is.

    Raises:
        NotFound: the deployment does not have it.
        NotPossibleHere: its machines have no SSH, or this host has none.
        UsageError: it was not brought up whole.
    """
    from continuum.infrastructure.execute import stored_plan  # noqa: PLC0415  slow to import

    machine = target.machine(deployment.experiment())
    if machine is None:
        raise NotFound(
            f'deployment "{deployment.name}" {target.unused}',
            where=str(deployment.folder / "experiment.json"),
            hint=f"{target.wanted} in its file, then: continuum up FILE",
        )
    check(deployment, machine, current().events)
    if bootstrap.find_program("ssh") is None:
        raise NotPossibleHere("there is no ssh on this host", hint="apt-get install openssh-client")
    plan = stored_plan(deployment)
    assert plan is not None
    (address,) = (spec.address for spec in plan.machines if spec.name == machine)
    return tunnel.Far(machine, deployment.ssh_config, address, target.port, target.probe)


def _wait(deployment: Deployment, target: Target, way: tunnel.Tunnel, limit: float) -> None:
    """Return when the target answers.

    Raises:
        MachineUnreachable: the connection has gone.
        NotPossibleHere: the machine does not have it.
        TimedOut: it did not answer within `limit` seconds; with what the machine tells about it.
    """
    far, name = way.far, deployment.name
    if way.answers():
        return
    if target.unit and "could not be found" in _status(far, target.unit):
        raise NotPossibleHere(
            f"{target.title} is not on {far.machine}: it could not be had when the machine was "
            "made",
            where=f"{far.machine}: {target.unit}",
            hint="continuum artifacts fetch grafana tells why; once it is there, "
            f"continuum down {name} and up again bring it along; "
            f"or: continuum open prometheus {name}",
        )
    try:
        way.wait_for_answer(limit)
    except TimedOut as error:
        hint = f"continuum kubectl {name} -n openfaas get pods"
        if target.unit:
            hint = (
                f"continuum logs {name} {far.machine}; "
                f"continuum ssh {name} {far.machine} -- systemctl restart {target.unit}"
            )
        raise TimedOut(
            f"{target.title} on {far.machine} does not answer: {error.message}",
            where=error.where,
            output=_status(far, target.unit) if target.unit else "",
            hint=hint,
        ) from error


def _wait_for_end_of_last_run(session: Session, deployment: Deployment, way: tunnel.Tunnel) -> None:
    """Return once Prometheus no longer asks for processes of a run that is over, or in time.

    It learns within 10 s of it that they are gone, and calls them down until then.
    """
    from continuum import live  # noqa: PLC0415  slow to import

    last = live.read(deployment.folder)
    # One that was killed told nobody of its end.
    if last is None or last.status == live.RUNNING or not _asks_for_a_run(way.get(_ASKED_FOR)):
        return
    session.say("waiting until Prometheus knows that the last run is over")
    way.wait_until(lambda: not _asks_for_a_run(way.get(_ASKED_FOR)), _FORGET_LIMIT)


def _asks_for_a_run(targets: bytes | None) -> bool:
    """Whether Prometheus' answer about its targets has some that are there during a run only."""
    if targets is None:
        return False
    active = json.loads(targets)["data"]["activeTargets"]
    return any(each["labels"]["job"] == APPLICATION for each in active)


def _status(far: tunnel.Far, unit: str) -> str:
    """What the machine tells about a unit, with the last lines of its log."""
    asked = Command(
        (
            *("ssh", "-F", str(far.config), "-o", "BatchMode=yes", "-T", far.machine),
            f"systemctl status --no-pager --lines=10 {unit}",
        ),
        timeout=30,
    )
    return run_on_host(asked, where=far.machine).last_output


def _tell(  # noqa: PLR0913  all that there is to tell
    session: Session,
    deployment: Deployment,
    target: Target,
    way: tunnel.Tunnel,
    asked: int,
    *,
    as_json: bool,
) -> None:
    laptop = laptop_command(target.local_port, way.port, os.environ)
    if as_json:
        output.write_json(
            {
                "deployment": deployment.name,
                "machine": way.far.machine,
                "url": way.url,
                "port": way.port,
                "laptop": laptop,
            }
        )
    else:
        output.write(way.url)
    sys.stdout.flush()
    if way.port != asked:
        session.say(f"port {asked} of this host is not free: {way.port} is used instead")
    session.say(f'{target.title} of "{deployment.name}", on {way.far.machine}')
    if log_in := target.log_in(deployment.name, deployment.experiment()):
        session.say(log_in)
    there = way.url.replace(f":{way.port}/", f":{target.local_port}/", 1)
    session.say(
        f"from a laptop, while this runs: {laptop}\n"
        f"  and there: {there}\n"
        "the address holds the token that lets in; others on this host cannot do without\n"
        "Ctrl-C closes it"
    )


def laptop_command(port: int, port_here: int, environment: Mapping[str, str]) -> str:
    """What to type on a laptop, to have there at `port` what this host has at `port_here`.

    The host is called as the person has reached it by SSH, else by its own name.
    """
    reached = environment.get("SSH_CONNECTION", "").split()
    host = reached[2] if len(reached) == 4 else socket.gethostname()
    user = environment.get("SUDO_USER") or getpass.getuser()
    return f"ssh -N -L {port}:localhost:{port_here} {user}@{host}"


@contextmanager
def _in_a_browser(url: str) -> Iterator[None]:
    """Have a browser show a page: by a file, since everybody may read a program's arguments."""
    with tempfile.TemporaryDirectory(prefix="continuum-") as folder:
        page = Path(folder, "open.html")
        page.touch(0o600)
        page.write_text(f'<meta http-equiv="refresh" content="0; url={html.escape(url)}">\n')
        click.launch(str(page))
        yield


def _is_a_desktop() -> bool:
    """Whether a browser could show up without getting in the way of a terminal, or of a script."""
    there = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(there) and sys.stdout.isatty() and os.geteuid() != 0
