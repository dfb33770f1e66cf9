"""Metrics: node-exporter on every machine, and Prometheus on one, which asks all of them.

Everything listens on the machine's address on the emulated network and nowhere else. What a machine
as a whole takes, and what its broker tells of itself, comes from a program of ours beside
node-exporter: see `continuum_runtime.exporter`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from continuum.images.recipe import (
    PYTHON_FOLDER,
    RUNTIME_FOLDER,
    DebianPackages,
    InstallStep,
    PythonPackages,
    Tree,
)
from continuum.images.runtime import runtime_tree
from continuum.software.configure import ROLES, manager_of
from continuum.software.contract import MetricsTarget, RolePlay, Service
from continuum.software.services import debian_unit, mqtt, scraping

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec
    from continuum.machine import Machine

NODE_PORT = 9100
EXPORTER_PORT = 9101

PROMETHEUS = "prometheus.service"
NODE_EXPORTER = "prometheus-node-exporter.service"
EXPORTER = "machine-exporter.service"

FOLDER = "/var/lib/continuum/observability"
"""On the observing machine: what a run tells of itself while it lasts."""
TARGETS = f"{FOLDER}/targets.json"
"""Targets that come and go with a run."""
PHASES = f"{FOLDER}/run.prom"
"""The phase that a run is in, for node-exporter."""

CONFIGURATION = "/etc/prometheus/continuum.json"
TOKEN = "/etc/prometheus/continuum.token"  # noqa: S105  a file's name
_ARGUMENTS = "/etc/prometheus/continuum.environment"
_NODE_ARGUMENTS = "/etc/prometheus/continuum-node-exporter.environment"
_EXPORTER_CONFIGURATION = "/etc/continuum/exporter.json"
_DATA = "/var/lib/prometheus/metrics2"

KEPT_SIZE = "1GB"
"""What the figures may take of the machine's disk; the oldest go first."""

_COLLECTORS = (
    "cpu",
    "diskstats",
    "filesystem",
    "loadavg",
    "meminfo",
    "netdev",
    "stat",
    "textfile",
    "uname",
)
"""node-exporter's parts that are of use; each of the others costs time at every look."""

# The machine itself is the fence around it: systemd's own ones want capabilities that containers do
# not have.
_UNFENCED = """\
DeviceAllow=
DevicePolicy=auto
MemoryDenyWriteExecute=no
PrivateDevices=no
PrivateTmp=no
PrivateUsers=no
ProtectControlGroups=no
ProtectHome=no
ProtectKernelModules=no
ProtectKernelTunables=no
ProtectSystem=no
RestrictNamespaces=no
"""

_ALWAYS = """\
StartLimitIntervalSec=0

[Service]
Restart=always
RestartSec=1s
"""


def _unit(condition: str, program: str) -> str:
    """A change of Debian's unit: it runs where its arguments are, and is started again."""
    return (
        f"[Unit]\nConditionPathExists={condition}\n{_ALWAYS}"
        f"EnvironmentFile=\nEnvironmentFile={condition}\nExecStart=\nExecStart={program} $ARGS\n"
    )


_PROMETHEUS_UNIT = _unit(_ARGUMENTS, "/usr/bin/prometheus") + _UNFENCED
_NODE_UNIT = _unit(_NODE_ARGUMENTS, "/usr/bin/prometheus-node-exporter")
_EXPORTER_UNIT = f"""\
[Unit]
Description=Figures of the machine and of its broker
ConditionPathExists={_EXPORTER_CONFIGURATION}
{_ALWAYS}\
User=prometheus
Environment=PYTHONPATH={RUNTIME_FOLDER}:{PYTHON_FOLDER}
ExecStart=/usr/bin/python3 -m continuum_runtime.exporter {_EXPORTER_CONFIGURATION}

[Install]
WantedBy=multi-user.target
"""

# All that listens here answers; Prometheus only where it has been told to run.
_PROBE = """\
import pathlib, sys, urllib.request
address, condition, path, *pages = sys.argv[1:]
if pathlib.Path(condition).exists():
    pages.append(path)
try:
    for page in pages:
        with urllib.request.urlopen(f"http://{address}{page}", timeout=3) as answer:
            answer.read()
except OSError:
    sys.exit(1)
"""


@dataclass(frozen=True)
class _Write:
    """Writes the unit of our own exporter; equal ones are equal."""

    text: str

    def __call__(self, root: Path, progress: Callable[[str], None]) -> None:
        progress(f"observability: {EXPORTER}")
        path = root / "etc/systemd/system" / EXPORTER
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text)
        # Switched on here: units are, as the image is made, before there are trees.
        link = path.parent / "multi-user.target.wants" / EXPORTER
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(f"/etc/systemd/system/{EXPORTER}")


class Observability(Service):
    """node-exporter and ours on all machines, Prometheus on the observing one."""

    name: ClassVar[str] = "observability"

    def install(self) -> tuple[InstallStep, ...]:
        """The packages, their units, which wait for their arguments, and our own exporter."""
        prometheus = debian_unit.install(
            "prometheus", "prometheus", PROMETHEUS, _PROMETHEUS_UNIT, (f"{_DATA}/*",)
        )
        node = debian_unit.install(
            "node-exporter",
            "prometheus-node-exporter",
            NODE_EXPORTER,
            _NODE_UNIT,
            (_NODE_ARGUMENTS,),
        )
        return (
            *prometheus,
            *node,
            DebianPackages(("python3",)),
            PythonPackages(("paho-mqtt>=2.1,<3", "prometheus-client>=0.21,<1")),
            runtime_tree(),
            Tree(
                "machine-exporter-unit",
                _EXPORTER_UNIT,
                _Write(_EXPORTER_UNIT),
                traces=(_EXPORTER_CONFIGURATION,),
            ),
        )

    def machines(self, experiment: Experiment, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """All of them."""
        del wanted
        return experiment.all_machine_names

    def configure(
        self, experiment: Experiment, plan: InfrastructurePlan, machines: tuple[str, ...]
    ) -> tuple[RolePlay, ...]:
        """As when no machine had a broker."""
        return self.configure_beside(experiment, plan, {self.name: machines})

    def configure_beside(
        self,
        experiment: Experiment,
        plan: InfrastructurePlan,
        services: Mapping[str, tuple[str, ...]],
    ) -> tuple[RolePlay, ...]:
        """The way into a cluster where there is one; then one role on all machines."""
        observing = experiment.observing_machine
        assert observing is not None
        specs = {spec.name: spec for spec in plan.machines}
        brokers = services.get("mqtt", ())
        manager = manager_of(experiment)
        of_manager = manager.metrics(experiment, plan)
        access = manager.metrics_access(experiment, TOKEN) if of_manager else ()
        targets = (*_targets(list(specs.values()), brokers, observing), *of_manager)
        told = scraping.configuration(
            specs, targets, token_file=TOKEN, target_files=f"{FOLDER}/targets*.json"
        )
        return (
            *access,
            RolePlay(
                role="observability",
                machines=services[self.name],
                roles=ROLES,
                variables={"observability_runtime": RUNTIME_FOLDER},
                per_machine={
                    name: {
                        "observability_units": [
                            *_everywhere(specs[name], broker=name in brokers),
                            _prometheus(specs[name], told if name == observing else None),
                        ]
                    }
                    for name in services[self.name]
                },
            ),
        )

    def ready(self, machine: Machine) -> bool:
        """Whether all that runs on the machine answers."""
        return debian_unit.answers(
            machine,
            _PROBE,
            machine.address,
            _ARGUMENTS,
            f":{scraping.PROMETHEUS_PORT}/-/ready",
            f":{NODE_PORT}/metrics",
            f":{EXPORTER_PORT}/metrics",
        )

    @property
    def logs(self) -> tuple[str, ...]:
        """The units of all three programs."""
        return (PROMETHEUS, NODE_EXPORTER, EXPORTER)


def _targets(
    machines: list[MachineSpec], brokers: tuple[str, ...], observing: str
) -> tuple[MetricsTarget, ...]:
    """What is there with the machines, whoever manages them."""
    found = [
        MetricsTarget(scraping.MACHINES, spec.name, spec.address, port)
        for spec in machines
        for port in (NODE_PORT, EXPORTER_PORT)
    ]
    for spec in machines:
        if spec.name in brokers:
            found.append(
                MetricsTarget(scraping.BROKER, spec.name, spec.address, EXPORTER_PORT, "/broker")
            )
        if spec.name == observing:
            found.append(
                MetricsTarget(scraping.ITSELF, spec.name, spec.address, scraping.PROMETHEUS_PORT)
            )
    return tuple(found)


def _everywhere(spec: MachineSpec, *, broker: bool) -> list[dict[str, Any]]:
    """What every machine runs, for `continuum_runtime.configured_units`."""
    arguments = (
        f"--web.listen-address={spec.address}:{NODE_PORT}",
        "--web.disable-exporter-metrics",
        "--collector.disable-defaults",
        *(f"--collector.{name}" for name in _COLLECTORS),
        f"--collector.textfile.directory={FOLDER}",
        "--collector.netdev.device-exclude=^(veth|cni|docker|cali).*",
        "--collector.filesystem.mount-points-exclude=^/(dev|proc|run|sys|var/lib/(kubelet|docker|containerd))($|/)",
    )
    exporter = {
        "address": spec.address,
        "port": EXPORTER_PORT,
        "cores": spec.cores * spec.quota,
        "memory": spec.memory,
        "broker": ["127.0.0.1", mqtt.PORT] if broker else None,
    }
    return [
        {
            "unit": NODE_EXPORTER,
            "files": {_NODE_ARGUMENTS: _environment(arguments)},
            "folders": [FOLDER],
        },
        {
            "unit": EXPORTER,
            "files": {_EXPORTER_CONFIGURATION: json.dumps(exporter, indent=2) + "\n"},
            "folders": [],
        },
    ]


def _prometheus(spec: MachineSpec, configuration: dict[str, Any] | None) -> dict[str, Any]:
    """Prometheus with that configuration; None where it is not to run."""
    if configuration is None:
        files: dict[str, str | None] = {_ARGUMENTS: None, CONFIGURATION: None}
        return {"unit": PROMETHEUS, "files": files, "folders": []}
    arguments = (
        f"--config.file={CONFIGURATION}",
        f"--storage.tsdb.path={_DATA}",
        f"--storage.tsdb.retention.size={KEPT_SIZE}",
        f"--web.listen-address={spec.address}:{scraping.PROMETHEUS_PORT}",
    )
    return {
        "unit": PROMETHEUS,
        "files": {
            CONFIGURATION: json.dumps(configuration, indent=2) + "\n",
            _ARGUMENTS: _environment(arguments),
        },
        "folders": [],
    }


def _environment(arguments: tuple[str, ...]) -> str:
    return f'ARGS="{" ".join(arguments)}"\n'
