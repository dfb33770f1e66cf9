"""The MQTT broker: mosquitto 2, one on every worker machine.

It listens on the machine's address on the emulated network and on the machine itself, nowhere
else. Clients need no password: the emulated network is closed.

A broker that died is started again, as Debian's unit does it. That hides nothing: clients lose
their connection, and messages that were under way are lost, since nothing is kept on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from continuum.images.recipe import RUNTIME_FOLDER, InstallStep
from continuum.software.configure import ROLES
from continuum.software.contract import RolePlay, Service
from continuum.software.services import debian_unit

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.infrastructure.plan import InfrastructurePlan
    from continuum.machine import Machine

PORT = 1883
UNIT = "mosquitto.service"
STATUS_INTERVAL = 5
"""Seconds between two figures that the broker publishes of itself where metrics are collected."""
CONFIGURATION = "/etc/mosquitto/continuum.conf"

# All machines share one image: the broker starts only where the role has put a configuration. A
# broker that cannot start is tried again and again, so that a better configuration is enough.
_DROP_IN = f"""\
[Unit]
ConditionPathExists={CONFIGURATION}
StartLimitIntervalSec=0

[Service]
RestartSec=1s
ExecStartPre=
ExecStart=
ExecStart=/usr/sbin/mosquitto -c {CONFIGURATION}
"""

# Connects as a client does: CONNECT of MQTT 3.1.1 without a name, answered by CONNACK, accepted.
_HANDSHAKE = """\
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 2) as broker:
    broker.sendall(b"\\x10\\x0c\\x00\\x04MQTT\\x04\\x02\\x00\\x05\\x00\\x00")
    answer = b""
    while len(answer) < 4:
        more = broker.recv(4 - len(answer))
        if not more:
            sys.exit(1)
        answer += more
sys.exit(answer != b"\\x20\\x02\\x00\\x00")
"""


class Mqtt(Service):
    """The broker on port 1883."""

    name: ClassVar[str] = "mqtt"

    def install(self) -> tuple[InstallStep, ...]:
        """The package, and a unit that waits for its configuration."""
        return debian_unit.install(self.name, "mosquitto", UNIT, _DROP_IN)

    def configure(
        self, experiment: Experiment, plan: InfrastructurePlan, machines: tuple[str, ...]
    ) -> tuple[RolePlay, ...]:
        """One role on all machines; only the address differs."""
        addresses = {machine.name: machine.address for machine in plan.machines}
        return (
            RolePlay(
                role="mqtt",
                machines=machines,
                roles=ROLES,
                variables={
                    "mqtt_port": PORT,
                    "mqtt_configuration": CONFIGURATION,
                    "mqtt_program": f"{RUNTIME_FOLDER}/continuum_runtime/configured_unit.py",
                    "mqtt_unit": UNIT,
                    # It tells of itself only where somebody listens.
                    "mqtt_status_interval": STATUS_INTERVAL if experiment.observed else 0,
                },
                per_machine={name: {"mqtt_address": addresses[name]} for name in machines},
            ),
        )

    def ready(self, machine: Machine) -> bool:
        """Whether the broker accepts a client on the emulated network's address."""
        return debian_unit.answers(machine, _HANDSHAKE, machine.address, str(PORT))

    @property
    def logs(self) -> tuple[str, ...]:
        """The broker's own unit."""
        return (UNIT,)
