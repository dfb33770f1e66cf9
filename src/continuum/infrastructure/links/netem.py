"""Links by the kernel's own emulator: everything on the sending machine's interface.

Each link has a class of its own, with netem in it. netem sends a packet at

    max(when the packet before it was sent, now + delay + jitter) + length / rate

as long as it has a rate: without one it lets packets overtake one another when there is jitter,
and a queue below it does not help, because it sees them only when their time has come. A link
without a rate gets one that nothing here reaches, for that reason alone.

netem takes the large packets of segmentation offload for one, so that a slow link would deliver
64 kB at once, and a loss would be one of up to 43 frames. A token bucket above it cuts them into
frames where packets are lost or have jitter, and into what a link may be ahead of its rate by where
it is slow. Its own rate never holds them back; for single frames it has to be far beyond what the
kernel carries, else the bucket waits for a timer after each one.

netem draws the jitter of each packet anew, and keeps order by having packets wait for one another:
where they come closer together than the jitter is wide, the mean delay is larger than asked for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from continuum.deployment import Deployment
from continuum.errors import ContinuumError
from continuum.infrastructure.links import namespaces, process, shaping
from continuum.infrastructure.links.contract import Interface, LinkEmulator
from continuum.infrastructure.links.places import places
from continuum.infrastructure.links.rules import (
    FRAME,
    LARGEST_PACKET,
    burst,
    by_frames,
    bytes_per_second,
    ends,
    everybody,
    outgoing,
    queue_packets,
    same_rate,
    strictest,
    waits,
)
from continuum.infrastructure.plan import Block, InfrastructurePlan, Link, LinkSettings, MachineSpec
from continuum.machine import Command, Result, run_on_host
from continuum.parallel import for_each

DEVICE = "eth0"

CUTTING_RATE = 1_250_000_000
"""Bytes per second of the bucket that cuts packets: 20 times the fastest link that needs it."""

FRAME_BY_FRAME = shaping.Bucket(shaping.UNLIMITED_BYTES, FRAME, 2**20)
"""The bucket that cuts packets into single frames."""

CUT_QUEUE = 2**20


class Netem(LinkEmulator):
    """Traffic control per machine; nothing runs outside of the kernel."""

    name: ClassVar[str] = "netem"

    def probe(self, run: Callable[[Command], Result] = run_on_host) -> str | None:
        """Set up a link with everything, in a network namespace of its own."""
        sample = _class((ipaddress.IPv4Network("10.0.0.0/8"),), LinkSettings(10.0, 1.0, 1.0, 10.0))
        try:
            said = namespaces.scratch(
                run, "tc", "-batch", "-", lines=shaping.batch("lo", "127.0.0.1", (sample,))
            )
        except ContinuumError as error:
            return error.message
        if said is None:
            return None
        return f"no queueing discipline netem: {said.strip().splitlines()[0]}"

    def configure(self, plan: InfrastructurePlan) -> Mapping[str, str]:
        """Per machine a batch for tc."""
        return {
            f"{machine.name}.tc": shaping.batch(
                DEVICE, plan.network.host_address, traffic_classes(plan, machine)
            )
            for machine in plan.machines
        }

    def apply(
        self, deployment: Deployment, plan: InfrastructurePlan, interfaces: Sequence[Interface]
    ) -> bool:
        """Also ends what the other emulator left, when the deployment was changed to this one."""

        def apply_one(interface: Interface) -> bool:
            ruled = namespaces.clear_rules(interface)
            shaped = namespaces.apply_shaping(
                interface, plan.network.host_address, traffic_classes(plan, interface.machine)
            )
            return ruled or shaped

        changed = for_each(apply_one, interfaces)
        stopped = for_each(lambda each: each[0].stop(), list(places(deployment, interfaces)))
        return any([*stopped, *changed])

    def in_force(
        self,
        deployment: Deployment,  # noqa: ARG002  nothing of it is in its folder
        plan: InfrastructurePlan,
        interfaces: Sequence[Interface],
    ) -> list[Link]:
        """From the senders' traffic control."""
        kernel: dict[str, dict[tuple[Block, ...], shaping.TrafficClass]] = {
            each.machine.name: (
                {carried.destinations: carried for carried in shaped.classes or ()}
                if shaped.unaltered(plan.network.host_address)
                else {(): shaping.TrafficClass(())}
            )
            for each, shaped in zip(
                interfaces, for_each(namespaces.read_shaping, interfaces), strict=True
            )
        }
        nothing = LinkSettings()
        found = []
        known = ends(plan.network.links, plan.machines)
        for link in plan.network.links:
            if not known[link].all_run(kernel):
                continue
            sends = [kernel[each.name] for each in known[link].beginning]
            # Where a machine knows other links and not this one, one of those takes its packets.
            if any(each and link.destination_blocks not in each for each in sends):
                continue
            # Without a machine that sends here, it is on another host, which answers for it.
            carried = {
                settings_of(each.get(link.destination_blocks), link.settings) for each in sends
            } or {link.settings}
            settings = carried.pop()
            if not carried and (settings != nothing or link.settings == nothing):
                found.append(replace(link, settings=settings))
        return found

    def remove(self, deployment: Deployment) -> None:
        """Nothing runs outside the machines."""
        process.stop(deployment)


def traffic_classes(
    plan: InfrastructurePlan, machine: MachineSpec
) -> tuple[shaping.TrafficClass, ...]:
    """What happens to packets that a machine sends; nothing when none of its links does a thing."""
    links = [link for _, link in outgoing(plan.network.links, machine)]
    classes = tuple(_class(link.destination_blocks, link.settings) for link in links)
    if all(each.direct for each in classes):
        return ()
    return (*classes, _class(everybody(plan.network), strictest(links)))


def _class(destinations: tuple[Block, ...], settings: LinkSettings) -> shaping.TrafficClass:
    rate = settings.rate_mbit
    if rate is None and not waits(settings):
        return shaping.TrafficClass(destinations)
    netem = shaping.Netem(
        delay=round(settings.delay_ms * 1e3),
        jitter=round(settings.jitter_ms * 1e3),
        loss=settings.loss_percent,
        rate=shaping.UNLIMITED_BYTES if rate is None else bytes_per_second(rate),
        limit=queue_packets(settings),
    )
    cut = None
    if by_frames(settings):
        cut = FRAME_BY_FRAME
    elif rate is not None and burst(rate) < LARGEST_PACKET:
        cut = shaping.Bucket(CUTTING_RATE, burst(rate), CUT_QUEUE)
    return shaping.TrafficClass(destinations, cut, netem)


def settings_of(found: shaping.TrafficClass | None, asked: LinkSettings) -> LinkSettings:
    """What a class that is in force does; numbers as asked for when the kernel rounded them."""
    if found is None or found.netem is None:
        return LinkSettings()
    limited = found.netem.rate < shaping.UNLIMITED_BYTES
    return LinkSettings(
        queue_bytes=_queue(found.netem, asked) if limited else None,
        delay_ms=_rounded(found.netem.delay / 1e3, asked.delay_ms, 2e-3),
        jitter_ms=_rounded(found.netem.jitter / 1e3, asked.jitter_ms, 2e-3),
        loss_percent=_rounded(found.netem.loss, asked.loss_percent, 1e-4),
        rate_mbit=same_rate(found.netem.rate / 125_000 if limited else None, asked.rate_mbit),
    )


def _queue(found: shaping.Netem, asked: LinkSettings) -> int | None:
    """The queue that was asked for when netem has just its packets; else what they are more or less."""
    if found.limit == queue_packets(asked):
        return asked.queue_bytes
    return max(found.limit - queue_packets(replace(asked, queue_bytes=1)), 0) * FRAME


def _rounded(found: float, asked: float, step: float) -> float:
    return asked if abs(found - asked) <= step else found
