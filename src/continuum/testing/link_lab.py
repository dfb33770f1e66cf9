"""Machines that are only network namespaces, joined by a bridge in a namespace of its own.

For the contract test of emulators, and for measuring them. Needs root.

Nothing of it is in the host's own namespace; deleting the namespaces removes all of it.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from continuum.errors import NotFound
from continuum.images.recipe import RUNTIME_FOLDER
from continuum.infrastructure.host import port_filter
from continuum.infrastructure.links.contract import Interface
from continuum.infrastructure.plan import (
    Block,
    InfrastructurePlan,
    Link,
    LinkSettings,
    MachineSpec,
    NetworkPlan,
)
from continuum.machine import Command, Machine, Result, run_on_host, stream_on_host

SOURCE = str(Path(__file__).resolve().parents[2])
WHOLE = ipaddress.IPv4Network("10.213.0.0/16")
HOST = "10.213.255.254"

Ends = Mapping[tuple[str, str], LinkSettings]
"""Settings by the names of source and destination, tiers or machines, most specific first."""


def make_plan(tiers: Mapping[str, int], links: Ends, emulator: str = "auto") -> InfrastructurePlan:
    """A plan without anything that only providers need."""
    blocks = {
        tier: ipaddress.IPv4Network(f"10.213.{16 * place}.0/20") for place, tier in enumerate(tiers)
    }
    machines = tuple(
        MachineSpec(
            name=f"{tier}-{number + 1}",
            tier=tier,
            address=str(blocks[tier][number + 1]),
            mac="",
            cores=1,
            quota=1.0,
            memory=2**30,
        )
        for tier, count in tiers.items()
        for number in range(count)
    )

    def block(end: str) -> Block:
        if end in blocks:
            return blocks[end]
        machine = next(each for each in machines if each.name == end)
        return ipaddress.IPv4Network(machine.address)

    return InfrastructurePlan(
        deployment="lab",
        identity="0" * 8,
        provider="lab",
        image="",
        machines=machines,
        network=NetworkPlan(
            bridge="bridge",
            block=WHOLE,
            host_address=HOST,
            tiers=blocks,
            links=tuple(
                Link(source, destination, (block(source),), (block(destination),), settings)
                for (source, destination), settings in links.items()
            ),
            emulator=emulator,
        ),
    )


@dataclass
class NamespaceMachine(Machine):
    """Runs programs of this host in a network namespace."""

    name: str
    tier: str
    address: str
    namespace: str

    def _inside(self, command: Command) -> Command:
        # What the image has at its fixed place comes from the source here.
        environment = {
            name: SOURCE if value == RUNTIME_FOLDER else value
            for name, value in command.environment.items()
        }
        return Command(
            ("nsenter", f"--net={self.namespace}", *command.arguments),
            input=command.input,
            environment=environment,
            timeout=command.timeout,
        )

    def run(self, command: Command) -> Result:
        """Run it in the namespace; nothing else is apart from this host."""
        return run_on_host(self._inside(command), where=self.name)

    def stream(self, command: Command) -> Iterator[str]:
        """The same, line by line."""
        return stream_on_host(self._inside(command), where=self.name)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file of this host."""
        Path(path).write_bytes(content)
        Path(path).chmod(mode)

    def get(self, path: str) -> bytes:
        """Read a file of this host."""
        try:
            return Path(path).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(path) from error


@dataclass(frozen=True)
class Lab:
    """Running namespaces; `interfaces` and `machines` in the plan's order.

    `host` is a machine at the host's address on the bridge.
    """

    plan: InfrastructurePlan
    interfaces: list[Interface]
    machines: list[NamespaceMachine]
    host: NamespaceMachine


@contextmanager
def lab(plan: InfrastructurePlan) -> Iterator[Lab]:
    """Make a namespace per machine, and one with the bridge; remove them all at the end.

    The machines' ports are closed to what no link speaks of, as providers do, if there are links.
    """
    prefix = f"ctmtest-{os.getpid()}"
    bridge = f"{prefix}-bridge"
    names = [f"{prefix}-{machine.name}" for machine in plan.machines]
    try:
        for name in (bridge, *names):
            _ip("netns", "add", name)
        lines = ["link add bridge type bridge forward_delay 0", "link set bridge up"]
        lines.append(f"address add {HOST}/{WHOLE.prefixlen} dev bridge")
        for place, name in enumerate(names):
            lines.append(f"link add p{place} type veth peer name eth0 netns {name}")
            lines.append(f"link set p{place} master bridge up")
        _ip("-n", bridge, "-batch", "-", lines=lines)
        for name, machine in zip(names, plan.machines, strict=True):
            address = f"address add {machine.address}/{WHOLE.prefixlen} dev eth0"
            _ip("-n", name, "-batch", "-", lines=["link set lo up", "link set eth0 up", address])
        paths = [f"/run/netns/{name}" for name in names]
        pairs = list(zip(paths, plan.machines, strict=True))
        host = NamespaceMachine("host", "", HOST, f"/run/netns/{bridge}")
        if plan.network.links:
            ports = {f"p{place}": machine for place, machine in enumerate(plan.machines)}
            port_filter.ensure(ports, plan.network, host.run)
        yield Lab(
            plan,
            [Interface(machine, path) for path, machine in pairs],
            [NamespaceMachine(each.name, each.tier, each.address, path) for path, each in pairs],
            host,
        )
    finally:
        for name in (bridge, *names):
            run_on_host(Command(("ip", "netns", "delete", name)))


def _ip(*arguments: str, lines: Sequence[str] | None = None) -> None:
    text = None if lines is None else ("\n".join(lines) + "\n").encode()
    run_on_host(Command(("ip", *arguments), input=text)).check()
