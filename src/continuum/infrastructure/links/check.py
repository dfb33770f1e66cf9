"""Measures links between running machines, and holds them against what was asked for.

Every machine that takes part runs `continuum_runtime.link_probe` once, with its part of one
schedule: first all delays, jitters and losses at the same time, by small packets far apart; then
rates, in waves in which no machine sends or receives twice.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from continuum.errors import StepFailed
from continuum.images.recipe import RUNTIME_FOLDER
from continuum.infrastructure.links.rules import (
    FRAME,
    beginning,
    burst,
    bytes_per_second,
    ending,
    link_between,
)
from continuum.infrastructure.plan import InfrastructurePlan, Link, LinkSettings, MachineSpec
from continuum.machine import Command, Machine
from continuum.parallel import for_each

PORT = 46_981
HEADERS = 42
"""Bytes of Ethernet, IPv4 and UDP headers."""

PROBE_PAYLOAD = 64
PROBE_FRAME = PROBE_PAYLOAD + HEADERS
PROBING_SECONDS = 1.5
PROBES_PER_SECOND = 3000.0
"""Of all machines together: more would measure this host's load."""

LOSS_PROBES = 1000
TRAIN_SECONDS = 0.3
TRAIN_BYTES = 40_000_000
SHORTEST_TRAIN = 40
"""Packets of a train that are measured at the least."""

WAVE_RATE = 400.0
"""Mbit/s of all trains that run at the same time, unless one alone has more."""

DEVIATIONS = 4.0
"""Standard errors that chance may add: it exceeds them in one of 16 000 measurements."""

THREADS = 128


@dataclass(frozen=True)
class LinkMeasurement:
    """One quantity of one link, between one pair of machines.

    `quantity` is `delay_ms`, `jitter_ms`, `loss_percent` or `rate_mbit`; `measured` is None when
    nothing arrived.
    """

    from_tier: str
    to_tier: str
    from_machine: str
    to_machine: str
    quantity: str
    asked: float
    measured: float | None
    tolerance: float
    ok: bool


@dataclass(frozen=True)
class Pair:
    """Two machines between which a link is measured."""

    link: Link
    source: MachineSpec
    destination: MachineSpec


def outside(measurements: Sequence[LinkMeasurement]) -> list[LinkMeasurement]:
    """The measurements that are out of tolerance."""
    return [each for each in measurements if not each.ok]


def check(
    machines: Sequence[Machine],
    plan: InfrastructurePlan,
    *,
    all_pairs: bool = False,
    one_clock: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> list[LinkMeasurement]:
    """Measure every link of the plan, on one pair of machines each, or on all pairs.

    Args:
        machines: handles of the plan's machines; those that a pair needs must run.
        plan: its links are what is asked for.
        all_pairs: measure each ordered pair of machines that a link joins.
        one_clock: whether all machines share a clock. Then delays are one-way; otherwise the
            difference of a round trip to what both its directions should take is shared between
            them, half each.
        progress: is told what happens.

    Raises:
        StepFailed: a machine could not run its part.
        TimedOut, MachineUnreachable: from the machines themselves.
    """
    pairs = choose_pairs(plan, all_pairs=all_pairs)
    if not pairs:
        return []
    by_name = {machine.name: machine for machine in machines}
    schedule = Schedule.of(pairs)
    names = sorted({end.name for pair in pairs for end in (pair.source, pair.destination)})
    specs = {machine.name: machine for machine in plan.machines}
    lead = 0.3 + 0.02 * len(names) + max(_start_seconds(specs[name]) for name in names)
    for attempt in (1, 2):
        progress(f"measuring {len(pairs)} pairs of machines, {schedule.seconds + lead:.1f} s")
        results = _carry_out(
            [by_name[name] for name in names], schedule, lead, one_clock=one_clock
        )
        late = max(result["late_ms"] for result in results.values())
        if late < LATEST_MS or attempt == 2:
            break
        # Somebody began after the others had: measure again, with more time to begin.
        lead = 3 * lead + late / 1e3
    return [
        measurement
        for number, pair in enumerate(pairs)
        for measurement in _measurements(number, pair, plan, schedule, results, one_clock=one_clock)
    ]
