"""Links in user space: rate in the sender's kernel, delay, jitter and loss at the receiver.

For kernels without netem. In each machine's namespace a rule per link puts arriving packets into
a queue of their own, numbered by the link's place in the plan; one process serves all of them. In
machines that are not this host's namespaces it is a process in each.

Where a link loses packets or has jitter the kernel cuts large packets before they are queued, and each
frame is judged on its own; elsewhere all frames of a packet would fare alike, and it stays whole.
"""

from __future__ import annotations

import ipaddress
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any, ClassVar

from continuum.deployment import Deployment
from continuum.errors import ContinuumError
from continuum.images.recipe import RUNTIME_FOLDER
from continuum.infrastructure.links import capacity, namespaces, process, series, shaping
from continuum.infrastructure.links.contract import Interface, LinkEmulator, Window
from continuum.infrastructure.links.places import InMachine, OnHost, Place, places
from continuum.infrastructure.links.rules import (
    FIRST_QUEUE,
    FRAME,
    burst,
    bytes_per_second,
    ends,
    everybody,
    incoming,
    outgoing,
    queue_bytes,
    same_queue,
    same_rate,
    strictest,
    waits,
)
from continuum.infrastructure.plan import Block, InfrastructurePlan, Link, LinkSettings, MachineSpec
from continuum.machine import Command, Result, run_on_host
from continuum.parallel import for_each

DEVICE = "eth0"


class Nfqueue(LinkEmulator):
    """Traffic control and packet rules per machine, and one process for all machines."""

    name: ClassVar[str] = "nfqueue"
    delays_at_receiver: ClassVar[bool] = True

    def probe(self, run: Callable[[Command], Result] = run_on_host) -> str | None:
        """Set up a bucket, a rule and a queue, in a network namespace of their own."""
        sample = shaping.TrafficClass(
            (ipaddress.IPv4Network("10.0.0.0/8"),), shaping.Bucket(125_000, FRAME, 1000 * FRAME)
        )
        lines = shaping.batch("lo", "127.0.0.1", (sample,))
        table = _table([f"-s 10.0.0.0/8 -j NFQUEUE --queue-num {FIRST_QUEUE}"])
        python, environment = sys.executable, process.environment()
        if run is not run_on_host:
            python, environment = "/usr/bin/python3", {"PYTHONPATH": RUNTIME_FOLDER}
        runtime = (python, "-m", process.MODULE, "--probe")
        try:
            for what, arguments, text in (
                ("the rate cannot be limited (htb, tbf, u32)", ("tc", "-batch", "-"), lines),
                ("no rule NFQUEUE", ("iptables-restore", "--noflush"), table),
                ("no packet queues", runtime, None),
            ):
                said = namespaces.scratch(run, *arguments, lines=text, environment=environment)
                if said is not None:
                    return f"{what}: {_first_line(said)}"
        except ContinuumError as error:
            return error.message
        return None

    def refuse(self, plan: InfrastructurePlan) -> None:
        """A link whose own rate is more frames a second than one core can judge one by one."""
        capacity.refuse(plan)

    def configure(self, plan: InfrastructurePlan) -> Mapping[str, str]:
        """Per machine a batch for tc and a table for iptables; what the process will do."""
        files = {}
        for machine in plan.machines:
            files[f"{machine.name}.tc"] = _batch(plan, machine, DEVICE)
            files[f"{machine.name}.rules"] = _table(_rules(plan, machine))
        machines = [
            {"name": machine.name, "queues": _queues(plan, machine)} for machine in plan.machines
        ]
        files["delay_emulator.json"] = json.dumps(machines, indent=1) + "\n"
        return files

    def apply(
        self, deployment: Deployment, plan: InfrastructurePlan, interfaces: Sequence[Interface]
    ) -> bool:
        """The process first: without it packets that a rule catches would stop."""
        self.refuse(plan)
        processes = for_each(
            lambda each: _apply_process(deployment, plan, *each),
            list(places(deployment, interfaces)),
        )
        return any([*processes, *for_each(lambda each: _apply_interface(plan, each), interfaces)])

    def in_force(
        self, deployment: Deployment, plan: InfrastructurePlan, interfaces: Sequence[Interface]
    ) -> list[Link]:
        """Rate from the senders' traffic control; the rest from rules and process."""
        running = for_each(
            lambda each: each[0].running() or {"machines": []},
            list(places(deployment, interfaces)),
        )
        served = {
            (machine["name"], machine["inode"], queue["queue"]): queue
            for configuration in running
            for machine in configuration["machines"]
            for queue in machine["queues"]
        }

        def read(interface: Interface) -> tuple[str, Sends, Receives]:
            shaped = namespaces.read_shaping(interface)
            rules = namespaces.read_rules(interface) or []
            name = interface.machine.name
            place: Place = OnHost(deployment)
            if interface.inside is not None:
                place = InMachine(deployment.identity, interface.inside)
            _, inode = place.namespace(interface)
            receives = _receives(name, inode, rules, served)
            if _altered(plan, interface.machine, rules):
                receives = {}
            return name, _sends(shaped, plan), receives

        kernel = for_each(read, interfaces)
        sends = {name: each for name, each, _ in kernel}
        receives = {name: each for name, _, each in kernel}
        found = []
        links = plan.network.links
        known = ends(links, plan.machines)
        for link in links:
            if not known[link].all_run(sends):
                continue
            settings = _settings(
                link,
                [sends[each.name] for each in known[link].beginning],
                [_arriving(links, link, each, receives[each.name]) for each in known[link].ending],
            )
            if settings is not None:
                found.append(replace(link, settings=settings))
        return found

    def windows(
        self,
        deployment: Deployment,
        plan: InfrastructurePlan,
        interfaces: Sequence[Interface],
        since_ns: int,
        until_ns: int,
    ) -> list[Window]:
        """From what the processes write."""
        return series.read(deployment, plan, interfaces, since_ns, until_ns)

    def remove(self, deployment: Deployment) -> None:
        """Stop the process."""
        process.stop(deployment)


def _apply_process(
    deployment: Deployment, plan: InfrastructurePlan, place: Place, interfaces: Sequence[Interface]
) -> bool:
    machines = []
    for each in interfaces:
        queues = _queues(plan, each.machine)
        if queues:
            namespace, inode = place.namespace(each)
            machines.append(
                {
                    "name": each.machine.name,
                    "namespace": namespace,
                    "inode": inode,
                    "queues": queues,
                }
            )
    wanted = {
        "state": place.state_file,
        "series": place.series_folder,
        "seed": deployment.identity,
        "program": place.program() if machines else "",
        "machines": machines,
    }
    if machines and place.running() == wanted:
        return False
    stopped = place.stop()
    if machines:
        place.start(wanted)
    return stopped or bool(machines)


Sends = Mapping[tuple[Block, ...], shaping.Bucket | None]
"""The bucket that limits the rate, by the destination's blocks."""

Receives = Mapping[Block, list[LinkSettings | None]]
"""Delay, jitter and loss by source block, of each rule for it in turn; None where packets stop.

A block has several where it is that of a machine, and of its tier whose machines came with their
addresses."""


def _sends(shaped: shaping.InForce, plan: InfrastructurePlan) -> Sends:
    """Nothing that a link could be, where there is a way around."""
    if not shaped.unaltered(plan.network.host_address):
        return {(): None}
    return {each.destinations: each.bucket for each in shaped.classes or ()}


_RULE = re.compile(rf"-A {namespaces.CHAIN} -s (\S+) -j (?:RETURN|NFQUEUE --queue-num (\d+))")


def _altered(plan: InfrastructurePlan, machine: MachineSpec, rules: Sequence[str]) -> bool:
    """Tell whether somebody has put rules between ours, for other blocks than those of links."""
    ours = {ipaddress.IPv4Network(plan.network.host_address)}
    for _, link in incoming(plan.network.links, machine):
        ours.update(link.source_blocks)
    matches = [_RULE.fullmatch(rule) for rule in rules]
    return not all(match and ipaddress.IPv4Network(match[1]) in ours for match in matches)


def _receives(
    name: str,
    inode: int,
    rules: Sequence[str],
    served: Mapping[tuple[str, int, int], Mapping[str, Any]],
) -> Receives:
    found: dict[Block, list[LinkSettings | None]] = {}
    for match in filter(None, map(_RULE.fullmatch, rules)):
        settings: LinkSettings | None = LinkSettings()
        if match[2] is not None:
            queue = served.get((name, inode, int(match[2])))
            settings = None
            if queue is not None:
                settings = LinkSettings(
                    queue["delay_ms"], queue["jitter_ms"], queue["loss_percent"]
                )
        found.setdefault(ipaddress.IPv4Network(match[1]), []).append(settings)
    return found


def _arriving(
    links: Sequence[Link], link: Link, machine: MachineSpec, receives: Receives
) -> set[LinkSettings | None]:
    """What a machine does to a link's packets; None where they stop, or another link takes them."""
    if not receives:
        return {LinkSettings()}
    before = takewhile(lambda each: each[1] != link, incoming(links, machine))
    earlier = Counter(block for _, each in before for block in each.source_blocks)
    rules = [receives.get(block, [])[earlier[block] :] for block in link.source_blocks]
    return {each[0] if each else None for each in rules}


def _settings(
    link: Link, sends: Sequence[Sends], receives: Sequence[set[LinkSettings | None]]
) -> LinkSettings | None:
    """What the machines at both ends carry of a link; None when they carry nothing, or differ.

    An end without machines is on another host, which answers for it.
    """
    asked = link.settings
    # Where a machine knows other links and not this one, one of those takes its packets.
    if any(each and link.destination_blocks not in each for each in sends):
        return None
    buckets = {each.get(link.destination_blocks) for each in sends} or {bucket(asked)}
    arrivals = set[LinkSettings | None]().union(*receives) or {asked}
    limit, arriving = buckets.pop(), arrivals.pop()
    if buckets or arrivals or arriving is None:
        return None
    settings = arriving
    if limit is not None:
        rate = same_rate(limit.rate / 125_000, asked.rate_mbit)
        settings = replace(arriving, rate_mbit=rate, queue_bytes=same_queue(limit.limit, asked))
    return None if settings == LinkSettings() != asked else settings


def traffic_classes(
    plan: InfrastructurePlan, machine: MachineSpec
) -> tuple[shaping.TrafficClass, ...]:
    """Rates at which a machine sends; nothing when none of its links has one."""
    links = [link for _, link in outgoing(plan.network.links, machine)]
    classes = tuple(
        shaping.TrafficClass(link.destination_blocks, bucket(link.settings)) for link in links
    )
    if all(each.direct for each in classes):
        return ()
    rest = shaping.TrafficClass(everybody(plan.network), bucket(strictest(links)))
    return (*classes, rest)


def bucket(settings: LinkSettings) -> shaping.Bucket | None:
    """The token bucket of a rate, with the queue before it."""
    rate = settings.rate_mbit
    if rate is None:
        return None
    return shaping.Bucket(bytes_per_second(rate), burst(rate), queue_bytes(settings))


def _batch(plan: InfrastructurePlan, machine: MachineSpec, device: str) -> str:
    return shaping.batch(device, plan.network.host_address, traffic_classes(plan, machine))


def _queues(plan: InfrastructurePlan, machine: MachineSpec) -> list[dict[str, Any]]:
    """What the process does to packets that arrive at a machine, link by link."""
    return [
        {
            "queue": FIRST_QUEUE + place,
            "delay_ms": link.settings.delay_ms,
            "jitter_ms": link.settings.jitter_ms,
            "loss_percent": link.settings.loss_percent,
            "rate_mbit": link.settings.rate_mbit,
        }
        for place, link in incoming(plan.network.links, machine)
        if waits(link.settings)
    ]


def _rules(plan: InfrastructurePlan, machine: MachineSpec) -> list[str]:
    """Rules of our chain, most specific link first, as `iptables-save` prints them."""
    links = incoming(plan.network.links, machine)
    if not any(waits(link.settings) for _, link in links):
        return []
    return [
        f"-s {plan.network.host_address}/32 -j RETURN",
        *(
            f"-s {block} -j "
            + (f"NFQUEUE --queue-num {FIRST_QUEUE + place}" if waits(link.settings) else "RETURN")
            for place, link in links
            for block in link.source_blocks
        ),
    ]


def _table(rules: Sequence[str]) -> str:
    """Input for `iptables-restore --noflush`; declaring the chain empties it."""
    return "".join(
        f"{line}\n"
        for line in (
            "*raw",
            f":{namespaces.CHAIN} - [0:0]",
            *(f"-A {namespaces.CHAIN} {rule}" for rule in rules),
            "COMMIT",
        )
    )


def _apply_interface(plan: InfrastructurePlan, interface: Interface) -> bool:
    changed = namespaces.apply_shaping(
        interface, plan.network.host_address, traffic_classes(plan, interface.machine)
    )
    wanted = _rules(plan, interface.machine)
    found = namespaces.read_rules(interface)
    if found is not None and found == [f"-A {namespaces.CHAIN} {rule}" for rule in wanted]:
        return changed
    if not wanted:
        return namespaces.clear_rules(interface) or changed
    namespaces.write_rules(interface, _table(wanted), jumps=found is not None)
    return True


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
