"""chrony on every machine that has a clock of its own, towards this host's clock.

Machines that share a clock have nothing to set; nor are clocks set of machines that existed before
and have a time service of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from continuum.images.recipe import RUNTIME_FOLDER, InstallStep
from continuum.images.runtime import runtime_tree
from continuum.infrastructure.plan import TIME_PORT
from continuum.software import capabilities
from continuum.software.configure import ROLES
from continuum.software.contract import RolePlay, Service
from continuum.software.services import debian_unit

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.infrastructure.plan import InfrastructurePlan
    from continuum.machine import Machine

UNIT = "chrony.service"
CONFIGURATION = "/etc/chrony/continuum.conf"

SHORTEST_POLL, LONGEST_POLL = 0, 4
"""Times between two questions to the source, in seconds, as powers of two."""

MOST_OFF = 0.001
"""Seconds by which a clock that is set may be off its source by its own account."""

# Debian's own wants a capability that containers do not have: there chrony only looks.
_DROP_IN = f"""\
[Unit]
ConditionCapability=
ConditionPathExists={CONFIGURATION}
StartLimitIntervalSec=0

[Service]
Restart=always
RestartSec=1s
ExecStart=
ExecStart=!/usr/bin/python3 -I -S {RUNTIME_FOLDER}/continuum_runtime/time_keeper.py {CONFIGURATION}
"""


class Clock(Service):
    """chrony, on all machines."""

    name: ClassVar[str] = "clock"

    def skip(self, experiment: Experiment) -> str | None:
        """Machines that share one clock, or keep their own, need none."""
        provider = experiment.infrastructure.provider
        found = capabilities.of_provider(experiment)
        if found.one_clock:
            return f"machines of the provider {provider} share this host's clock"
        if found.keeps_time:
            return f"machines of the provider {provider} keep their own time"
        return None

    def install(self) -> tuple[InstallStep, ...]:
        """The package, and a unit that waits for its configuration."""
        return (*debian_unit.install(self.name, "chrony", UNIT, _DROP_IN), runtime_tree())

    def machines(self, experiment: Experiment, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """All of them: one-way figures compare the clocks of any two."""
        del wanted
        return experiment.all_machine_names

    def configure(
        self, experiment: Experiment, plan: InfrastructurePlan, machines: tuple[str, ...]
    ) -> tuple[RolePlay, ...]:
        """One role, the same on all machines."""
        del experiment
        return (
            RolePlay(
                role="clock",
                machines=machines,
                roles=ROLES,
                variables={
                    "clock_source": plan.network.host_address,
                    "clock_port": TIME_PORT,
                    "clock_shortest": SHORTEST_POLL,
                    "clock_longest": LONGEST_POLL,
                    "clock_configuration": CONFIGURATION,
                    "clock_program": f"{RUNTIME_FOLDER}/continuum_runtime/configured_unit.py",
                    "clock_unit": UNIT,
                },
            ),
        )

    def ready(self, machine: Machine) -> bool:
        """Whether the clock follows its source."""
        told = debian_unit.said(machine, "chronyc", "-c", "-n", "tracking")
        return told is not None and follows(told)

    @property
    def logs(self) -> tuple[str, ...]:
        """Chrony's own unit."""
        return (UNIT,)


def follows(tracking: str) -> bool:
    """Whether a clock is set by its source, as `chronyc -c tracking` tells it."""
    fields = tracking.strip().split(",")
    return len(fields) == 14 and fields[-1] == "Normal" and abs(float(fields[4])) < MOST_OFF
