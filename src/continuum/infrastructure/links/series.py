"""The user-space emulator's work in a stretch of time: a window per link, machine and 100 ms.

There are windows with traffic alone. The kernel's own emulator counts nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from continuum.deployment import Deployment
from continuum.infrastructure.links.contract import Interface, Window
from continuum.infrastructure.links.places import places
from continuum.infrastructure.links.rules import FIRST_QUEUE
from continuum.infrastructure.plan import InfrastructurePlan
from continuum.parallel import for_each


def read(
    deployment: Deployment,
    plan: InfrastructurePlan,
    interfaces: Sequence[Interface],
    since_ns: int,
    until_ns: int,
) -> list[Window]:
    """The windows that touch a stretch of time, by link, machine and start.

    The last windows are written up to 100 ms after they end.

    Raises:
        StepFailed: a machine does not give its own.
    """
    links = plan.network.links
    found = for_each(
        lambda each: each[0].records(since_ns, until_ns), list(places(deployment, interfaces))
    )
    rows = [
        Window(
            record.queue - FIRST_QUEUE,
            links[record.queue - FIRST_QUEUE].source,
            links[record.queue - FIRST_QUEUE].destination,
            record.machine,
            *record[2:8],
            *(microseconds / 1e3 for microseconds in record[8:]),
        )
        for records in found
        for record in records
        # Another plan was in force before.
        if 0 <= record.queue - FIRST_QUEUE < len(links)
    ]
    return sorted(rows, key=lambda row: (row.link, row.machine, row.start_ns))
