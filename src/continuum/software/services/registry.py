"""A registry of container images for the experiment's own machines: Debian's docker-registry.

One machine serves, on its address on the emulated network and nowhere else: the control machine of
a cluster, else the first machine of the workers' tier. It holds the container images of the machine
image. All machines that carry containers take what is called `continuum.local/…` from it when they
do not have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from continuum.images.container_runtime import MIRRORS
from continuum.images.containers import REPOSITORY
from continuum.images.recipe import InstallStep
from continuum.images.runtime import runtime_tree
from continuum.software.configure import ROLES
from continuum.software.contract import RolePlay, Service
from continuum.software.services import debian_unit

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.infrastructure.plan import InfrastructurePlan
    from continuum.machine import Machine

PORT = 5000
UNIT = "docker-registry.service"
CONFIGURATION = "/etc/docker/registry/continuum.yml"
MIRROR = f"{MIRRORS}/{REPOSITORY}/hosts.toml"
_TRACES = (f"{MIRRORS}/{REPOSITORY}", "/var/lib/docker-registry/*")

# All machines share one image: it serves only where the role has put a configuration.
_DROP_IN = f"""\
[Unit]
ConditionPathExists={CONFIGURATION}
StartLimitIntervalSec=0

[Service]
Restart=always
RestartSec=1s
ExecStart=
ExecStart=/usr/bin/docker-registry serve {CONFIGURATION}
"""

# Asks the server that the machine itself would ask for an image.
_PROBE = """\
import sys, tomllib, urllib.request
try:
    with open(sys.argv[1], "rb") as file:
        (server,) = tomllib.load(file)["host"]
    with urllib.request.urlopen(server + "/v2/", timeout=2) as answer:
        sys.exit(answer.status != 200)
except (OSError, ValueError, KeyError):
    sys.exit(1)
"""


class Registry(Service):
    """The registry on port 5000 of one machine."""

    name: ClassVar[str] = "registry"

    def install(self) -> tuple[InstallStep, ...]:
        """The package, a unit that waits for its configuration, and what fills the registry."""
        return (
            *debian_unit.install(self.name, "docker-registry", UNIT, _DROP_IN, _TRACES),
            runtime_tree(),
        )

    def machines(self, experiment: Experiment, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """The one that serves, and those that carry containers."""
        serving = experiment.control_machine or next(iter(wanted), None)
        first = () if serving is None else (serving,)
        return tuple(dict.fromkeys((*first, *wanted, *experiment.node_machines)))

    def configure(
        self, experiment: Experiment, plan: InfrastructurePlan, machines: tuple[str, ...]
    ) -> tuple[RolePlay, ...]:
        """One role on all machines; the first one serves."""
        if not machines:
            return ()
        addresses = {machine.name: machine.address for machine in plan.machines}
        return (
            RolePlay(
                role="registry",
                machines=machines,
                roles=ROLES,
                variables={
                    "registry_address": addresses[machines[0]],
                    "registry_port": PORT,
                    "registry_configuration": CONFIGURATION,
                    "registry_mirror": MIRROR,
                    "registry_name": REPOSITORY,
                    "registry_holds_images": experiment.carries_containers,
                },
                per_machine={name: {"registry_serves": name == machines[0]} for name in machines},
            ),
        )

    def ready(self, machine: Machine) -> bool:
        """Whether the registry answers this machine."""
        return debian_unit.answers(machine, _PROBE, MIRROR)

    @property
    def logs(self) -> tuple[str, ...]:
        """The registry's own unit."""
        return (UNIT,)
