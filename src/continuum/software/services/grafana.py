"""Grafana beside Prometheus: the project's official release, with our data source and dashboards.

It is an artifact like others, but one that an experiment can do without. A deployment has it when
the store had it, or could fetch it, as the deployment began; that stays so for as long as the
deployment lives, since another machine image would mean other machines.

It listens on the observing machine's address on the emulated network: `continuum open grafana`
leads to it.
"""

from __future__ import annotations

import configparser
import io
import json
import shutil
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from continuum import archives, folders
from continuum.artifacts import catalogue
from continuum.artifacts.catalogue import Wanted
from continuum.artifacts.store import ArtifactStore
from continuum.artifacts.web import Web
from continuum.errors import ContinuumError, NotPossibleHere, StepFailed
from continuum.events import Event, Events, StepFailedEvent, StepFinished, StepProgress, StepStarted
from continuum.images.recipe import RUNTIME_FOLDER, DebianPackages, InstallStep, Tree, fingerprint
from continuum.images.runtime import runtime_tree
from continuum.images.store import free
from continuum.machine import Command
from continuum.secret import Secret
from continuum.software.configure import PLAN_FOLDER, ROLES
from continuum.software.contract import RolePlay, Service
from continuum.software.services.scraping import INTERVAL, PROMETHEUS_PORT

if TYPE_CHECKING:
    from continuum.deployment import Deployment
    from continuum.experiment.model import Experiment
    from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec
    from continuum.machine import Machine

NAME = "grafana"
PORT = 3000
UNIT = "grafana.service"
PROGRAMS = "/opt/grafana"
FOLDER = "/etc/continuum/grafana"
CONFIGURATION = f"{FOLDER}/grafana.ini"
_PASSWORD = f"{FOLDER}/environment"
_PROVISIONING = f"{FOLDER}/provisioning"
_DASHBOARDS = f"{FOLDER}/dashboards"
_DATA = "/var/lib/grafana"
_KEPT = f"{_DATA}/data"
_DEFAULT_PASSWORD = Secret("admin")

LOOK_LIMIT = 3.0
"""Seconds that a server has to answer: nobody waits long for what can be done without."""

_LEFT_OUT = {".map", ".md"}
_AGAIN = "remove the file, then the same command again"
"""Ends of files of the release that nothing runs: they are most of it."""

# All machines share one image: it runs only where the role has put a configuration.
_UNIT_FILE = f"""\
[Unit]
Description=Grafana
After=network.target prometheus.service
ConditionPathExists={CONFIGURATION}
StartLimitIntervalSec=0

[Service]
User=prometheus
StateDirectory=grafana
EnvironmentFile={_PASSWORD}
ExecStart={PROGRAMS}/bin/grafana server --homepath={PROGRAMS} --config={CONFIGURATION}
Restart=always
RestartSec=1s

[Install]
WantedBy=multi-user.target
"""


class Grafana(Service):
    """Grafana on the observing machine."""

    name: ClassVar[str] = NAME

    def skip(self, experiment: Experiment) -> str | None:
        """Without metrics there is nothing to show."""
        return None if experiment.observed else "no metrics are collected"

    def install(self) -> tuple[InstallStep, ...]:
        """The release, and a unit that waits for its configuration."""
        # Whose name it runs under comes with this package.
        return DebianPackages(("prometheus",)), runtime_tree(), _tree(wanted())

    def machines(self, experiment: Experiment, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """The observing one."""
        del wanted
        return (experiment.observing_machine,) if experiment.observing_machine else ()

    def configure(
        self, experiment: Experiment, plan: InfrastructurePlan, machines: tuple[str, ...]
    ) -> tuple[RolePlay, ...]:
        """One role on one machine."""
        (spec,) = (spec for spec in plan.machines if spec.name in machines)
        software = experiment.software
        assert software is not None
        unit = {
            "unit": UNIT,
            "files": files(spec, software.manager),
            "folders": [],
        }
        return (
            RolePlay(
                role=NAME,
                machines=machines,
                roles=ROLES,
                # Grafana's own braces are no business of Ansible's.
                variables={
                    "grafana_runtime": RUNTIME_FOLDER,
                    "grafana_unit": UNIT,
                    "grafana_data": _KEPT,
                    "grafana_password_file": _PASSWORD,
                    "grafana_units": b64encode(json.dumps([unit]).encode()).decode(),
                },
                secrets={"grafana_password": software.grafana.password or _DEFAULT_PASSWORD},
            ),
        )

    def ready(self, machine: Machine) -> bool:
        """Whether it runs: it needs some seconds until it answers, and nobody waits for that."""
        return machine.run(Command(("systemctl", "is-active", "--quiet", UNIT))).exit_code == 0

    @property
    def logs(self) -> tuple[str, ...]:
        """Its own unit."""
        return (UNIT,)


# -- whether a deployment has it -----------------------------------------------------------------


def wanted() -> Wanted:
    """The artifact: the version that we test with."""
    return Wanted(NAME, catalogue.project_of(NAME).version)


def is_here() -> bool:
    """Whether the store has it."""
    artifact = ArtifactStore(Events()).record(wanted())
    return artifact is not None and artifact.path.is_file()


def belongs_to(experiment: Experiment, deployment: Deployment) -> bool:
    """Whether a deployment has Grafana, or will have it when it begins."""
    if may_be_added(experiment, deployment):
        return is_here()
    return experiment.observed and (deployment.folder / PLAN_FOLDER / "roles" / NAME).is_dir()


def may_be_added(experiment: Experiment, deployment: Deployment) -> bool:
    """Whether metrics are to be collected, and are not yet."""
    collecting = (deployment.folder / PLAN_FOLDER / "roles" / "observability").is_dir()
    return experiment.observed and not collecting


def left_out(experiment: Experiment, deployment: Deployment) -> tuple[str, ...]:
    """One sentence where metrics are collected, but without Grafana."""
    software = experiment.software
    if software is None or not experiment.observed or NAME in software.services:
        return ()
    if belongs_to(experiment, deployment):
        return ()
    if is_here():
        how = f"continuum down {deployment.name}, then up, brings it along"
    else:
        how = "continuum artifacts fetch grafana tells why; all else works without"
    return (f"Grafana is left out: {how}",)


def look_for(events: Events) -> bool:
    """Have Grafana in the store, where it can be had; whether it is there.

    A download shows; that there is none to be had is for `left_out` to tell, in one line.
    """
    if is_here():
        return True
    store = ArtifactStore(Events([_Downloads(events)]), web=Web(LOOK_LIMIT))
    try:
        store.fetch_all([wanted()])
    except (NotPossibleHere, StepFailed):
        return False
    return True


class _Downloads:
    """Hands on what is told of a step that gets as far as to do something."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._began: Event | None = None
        self._shown = False

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted():
                self._began = event
            case StepProgress():
                if self._began is not None:
                    self._events.emit(self._began)
                    self._began, self._shown = None, True
                self._events.emit(event)
            case StepFinished() | StepFailedEvent():
                if self._shown:
                    self._events.emit(event)
                self._shown = False


# -- the release ---------------------------------------------------------------------------------


def _tree(artifact: Wanted) -> Tree:
    inputs = fingerprint(catalogue.identity(artifact), _UNIT_FILE, sorted(_LEFT_OUT))
    return Tree(NAME, inputs, _Write(artifact), partial(_fetch, artifact), traces=(FOLDER, _DATA))


def _fetch(artifact: Wanted, events: Events) -> None:
    ArtifactStore(events).fetch_all([artifact])


@dataclass(frozen=True)
class _Write:
    """Unpacks the release and switches its unit on; equal ones are equal."""

    artifact: Wanted

    def __call__(self, root: Path, progress: Callable[[str], None]) -> None:
        progress("unpacking Grafana")
        (found,) = ArtifactStore(Events()).fetch_all([self.artifact])
        unpack(found.path, root / PROGRAMS.lstrip("/"))
        units = root / "etc/systemd/system"
        folders.write_file(units / UNIT, _UNIT_FILE)
        wants = folders.make_folder(units / "multi-user.target.wants")
        link = wants / UNIT
        link.unlink(missing_ok=True)
        link.symlink_to(f"/etc/systemd/system/{UNIT}")


def unpack(archive: Path, target: Path) -> None:
    """The release without its outermost folder, and without what nothing runs.

    Raises:
        ContinuumError: it is no such archive.
    """
    with (
        archives.open_file(archive) as packed,
        archives.refusing(archive, "Grafana's release cannot be unpacked", _AGAIN),
        archives.tar_stream(packed, free(target.parent)) as tar,
    ):
        for member in archives.members(tar, stream=True):
            path = Path(member.name)
            if not member.isreg() or path.suffix in _LEFT_OUT:
                continue
            if path.is_absolute() or ".." in path.parts:
                raise archives.Unsafe(f"it holds {member.name[:60]}")
            file = target.joinpath(*path.parts[1:])
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as written:
                archives.copy(archives.content_of(tar, member), written)
            file.chmod(0o755 if member.mode & 0o100 else 0o644)
    program = target / "bin" / NAME
    if not program.is_file():
        shutil.rmtree(target, ignore_errors=True)
        raise ContinuumError(
            f"Grafana's release cannot be unpacked: there is no bin/{NAME} in it",
            where=str(archive),
            hint=_AGAIN,
        )


# -- its configuration ---------------------------------------------------------------------------


def files(spec: MachineSpec, manager: str) -> dict[str, str]:
    """Files that it reads on the observing machine beside its password, by path; a pure function.

    Args:
        spec: the observing machine.
        manager: name of the resource manager, for what there is to show.
    """
    # Slow to import, and only of use where there is Grafana.
    from continuum.software.services import observability_dashboards  # noqa: PLC0415

    return {
        CONFIGURATION: _ini(spec),
        f"{_PROVISIONING}/datasources/continuum.yaml": _yaml(_sources(spec)),
        f"{_PROVISIONING}/dashboards/continuum.yaml": _yaml(_PROVIDERS),
        **{
            f"{_DASHBOARDS}/{name}.json": text
            for name, text in observability_dashboards.dashboards(manager).items()
        },
    }


def _ini(spec: MachineSpec) -> str:
    off = "false"
    sections: Mapping[str, Mapping[str, str]] = {
        "paths": {
            "data": _KEPT,
            "logs": f"{_DATA}/log",
            "plugins": f"{_DATA}/plugins",
            "provisioning": _PROVISIONING,
        },
        "server": {"http_addr": spec.address, "http_port": str(PORT)},
        "log": {"mode": "console", "level": "warn"},
        "dashboards": {"default_home_dashboard_path": f"{_DASHBOARDS}/experiment.json"},
        # There is no way out of the emulated network, and nothing here is anybody's business.
        "analytics": {
            "reporting_enabled": off,
            "check_for_updates": off,
            "check_for_plugin_updates": off,
        },
        "news": {"news_feed_enabled": off},
        "plugins": {"preinstall_disabled": "true", "plugin_admin_enabled": off},
        "security": {"admin_user": "admin", "disable_gravatar": "true"},
        "unified_alerting": {"enabled": off},
    }
    written = configparser.RawConfigParser()
    written.read_dict(sections)
    text = io.StringIO()
    written.write(text)
    return text.getvalue()


def _sources(spec: MachineSpec) -> dict[str, Any]:
    from continuum.software.services.observability_dashboards.parts import (  # noqa: PLC0415
        SOURCE,
    )

    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus",
                "type": SOURCE.type_val,
                "uid": SOURCE.uid,
                "access": "proxy",
                "url": f"http://{spec.address}:{PROMETHEUS_PORT}",
                "isDefault": True,
                "jsonData": {"timeInterval": f"{INTERVAL}s", "httpMethod": "POST"},
            }
        ],
    }


_PROVIDERS = {
    "apiVersion": 1,
    "providers": [
        {
            "name": "Continuum",
            "type": "file",
            "allowUiUpdates": True,
            "options": {"path": _DASHBOARDS},
        }
    ],
}


def _yaml(document: dict[str, Any]) -> str:
    """JSON, which is YAML too."""
    return json.dumps(document, indent=2) + "\n"
