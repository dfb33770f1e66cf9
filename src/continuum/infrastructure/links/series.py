"""What the user-space emulator did in a stretch of time: a row per link, machine and 100 ms.

Rows exist only for windows with traffic. The kernel's own emulator counts nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from continuum.deployment import Deployment
from continuum.infrastructure.links.contract import Interface
from continuum.infrastructure.links.nfqueue import FIRST_QUEUE
from continuum.infrastructure.links.places import places
from continuum.infrastructure.links.rules import incoming, waits
from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec
from continuum.parallel import for_each


@dataclass(frozen=True)
class Row:
    """One window of a link's packets that arrive at one machine.

    Attributes:
        link: the link's place among the plan's.
        source, destination: its ends, tiers or machines.
        machine: where its packets arrive, and wait.
        start_ns: when the window of 100 ms began, wall clock.
        packets: that arrived, with those that are lost: frames where the link loses or has
            jitter, else packets of up to 64 kB.
        bytes: of them, Ethernet headers included.
        lost: as the link asks for.
        overflow: that neither the emulator nor the kernel could hold.
        backlog: the most that waited at one time.
        delay_us: mean of what the packets that arrived were to wait.
        late_p50_us, late_p99_us, late_max_us: how long after their time packets were let go,
            of those that were let go in this window; the percentiles to 12 %, upwards.
    """

    link: int
    source: str
    destination: str
    machine: str
    start_ns: int
    packets: int
    bytes: int
    lost: int
    overflow: int
    backlog: int
    delay_us: float
    late_p50_us: float
    late_p99_us: float
    late_max_us: float


def read(
    deployment: Deployment,
    plan: InfrastructurePlan,
    interfaces: Sequence[Interface],
    since_ns: int,
    until_ns: int,
) -> list[Row]:
    """The rows whose windows touch a stretch of time, by link, machine and start.

    The last windows are written up to 100 ms after they end.

    Raises:
        StepFailed: a machine does not give its own.
    """
    links = plan.network.links
    found = for_each(
        lambda each: each[0].records(since_ns, until_ns), list(places(deployment, interfaces))
    )
    rows = [
        Row(
            record.queue - FIRST_QUEUE,
            links[record.queue - FIRST_QUEUE].source,
            links[record.queue - FIRST_QUEUE].destination,
            record.machine,
            *record[2:],
        )
        for records in found
        for record in records
        # Another plan was in force before.
        if 0 <= record.queue - FIRST_QUEUE < len(links)
    ]
    return sorted(rows, key=lambda row: (row.link, row.machine, row.start_ns))


def without_process(
    deployment: Deployment, plan: InfrastructurePlan, interfaces: Sequence[Interface]
) -> list[str]:
    """Names of the machines whose packets no process lets go although a link wants it to."""
    dead = []
    for place, served in places(deployment, interfaces):
        wanted = [each.machine.name for each in served if _waits(plan, each.machine)]
        if wanted and place.running() is None:
            dead += wanted
    return dead


def alive(
    deployment: Deployment, plan: InfrastructurePlan, interfaces: Sequence[Interface]
) -> bool:
    """Whether every process that the plan's links need runs."""
    return not without_process(deployment, plan, interfaces)


def _waits(plan: InfrastructurePlan, machine: MachineSpec) -> bool:
    return any(waits(link.settings) for _, link in incoming(plan.network.links, machine))
