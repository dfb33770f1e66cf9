"""The delay that the paths between hosts have by themselves, and links without it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from continuum.infrastructure.links.rules import beginning, ending
from continuum.infrastructure.plan import InfrastructurePlan, Link, MachineSpec

Delays = Mapping[frozenset[str], float]
"""One way between two hosts, in ms, by their names; "" is this host."""

NOTICEABLE_MS = 0.1
"""What two measurements of the same path may differ by."""


def between(plan: InfrastructurePlan) -> list[tuple[str, MachineSpec]]:
    """What to measure: for each two hosts that carry machines, from one to a machine of the other."""
    first: dict[str, MachineSpec] = {}
    for machine in plan.machines:
        first.setdefault(machine.host, machine)
    hosts = [host for host in ("", *(each.name for each in plan.hosts)) if host in first]
    return [
        (source, first[target])
        for place, source in enumerate(hosts)
        for target in hosts[place + 1 :]
    ]


def settled(before: Delays, now: Delays) -> dict[frozenset[str], float]:
    """The delays to go by: those of before, as long as the new ones do not really differ."""
    return {
        pair: before[pair]
        if pair in before and abs(before[pair] - delay) <= max(NOTICEABLE_MS, 0.1 * delay)
        else delay
        for pair, delay in now.items()
    }


def on_host(
    plan: InfrastructurePlan, delays: Delays, host: str, *, at_receiver: bool
) -> tuple[Link, ...]:
    """The links as the emulator of one host has to enforce them: without the path's own delay.

    A link whose machines are on several hosts loses the smallest of the delays between them: no
    packet must be earlier than asked for, and the link check shows which is later.

    Args:
        plan: the whole plan.
        delays: of the paths.
        host: whose machines send, or with `at_receiver` receive.
        at_receiver: whether the emulator delays packets where they arrive.
    """
    return tuple(
        replace(
            link,
            settings=replace(
                link.settings,
                delay_ms=round(
                    max(
                        0.0,
                        link.settings.delay_ms
                        - _least(plan, link, delays, host, at_receiver=at_receiver),
                    ),
                    3,
                ),
            ),
        )
        for link in plan.network.links
    )


def too_long(plan: InfrastructurePlan, delays: Delays) -> list[str]:
    """The links whose path alone takes longer than they ask for, one sentence each."""
    found = []
    for link in plan.network.links:
        for pair in _host_pairs(plan, link):
            own = delays.get(frozenset(pair), 0.0)
            if own > link.settings.delay_ms + NOTICEABLE_MS:
                found.append(
                    f"link {link.source} → {link.destination} asks for "
                    f"{link.settings.delay_ms:g} ms; the path between hosts "
                    f"{' and '.join(each or 'this' for each in pair)} itself takes {own:.3g} ms"
                )
    return found


def _least(
    plan: InfrastructurePlan, link: Link, delays: Delays, host: str, *, at_receiver: bool
) -> float:
    amounts = [
        0.0 if sender == receiver else delays.get(frozenset((sender, receiver)), 0.0)
        for sender, receiver in _host_pairs(plan, link)
        if host == (receiver if at_receiver else sender)
    ]
    return min(amounts, default=0.0)


def _host_pairs(plan: InfrastructurePlan, link: Link) -> list[tuple[str, str]]:
    """(host that sends, host that receives) of the packets of a link."""
    links = plan.network.links
    senders = _by_host(beginning(links, link, plan.machines))
    receivers = _by_host(ending(links, link, plan.machines))
    return [
        (sender, receiver)
        for sender, sending in senders.items()
        for receiver, receiving in receivers.items()
        # A machine does not send to itself.
        if len(sending | receiving) > 1
    ]


def _by_host(machines: Sequence[MachineSpec]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for machine in machines:
        found.setdefault(machine.host, set()).add(machine.name)
    return found
