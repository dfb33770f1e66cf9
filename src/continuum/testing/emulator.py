"""Contract test of link emulators.

Inherit it in a test module, and pytest runs the rest:

    class TestMine(EmulatorContract):
        emulator_type = MyEmulator

The machines are network namespaces on this host, so it needs root; mark the class accordingly.
Where the emulator's own probe says that this host cannot carry it, all but the first test are
skipped.
"""

from __future__ import annotations

import ipaddress
import json
import statistics
from abc import ABC
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from continuum import folders
from continuum.deployment import Deployment
from continuum.infrastructure.links import check, namespaces
from continuum.infrastructure.links.contract import LinkEmulator
from continuum.infrastructure.plan import (
    Block,
    InfrastructurePlan,
    Link,
    LinkSettings,
    MachineSpec,
)
from continuum.machine import Command, Machine
from continuum.testing.link_lab import HOST, Ends, Lab, lab, make_plan

THERE = LinkSettings(delay_ms=20.0, rate_mbit=10.0)
BACK = LinkSettings(delay_ms=5.0, jitter_ms=1.0, loss_percent=2.0)
LINKS: Ends = {("edge", "endpoint"): THERE, ("endpoint", "edge"): BACK}
TIERS = {"edge": 1, "endpoint": 2}
OTHER = LinkSettings(delay_ms=60.0)

Laboratory = Callable[[InfrastructurePlan], AbstractContextManager[Lab]]

ORDER_PACKETS = 300

_RECEIVE = """
import json, socket
opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
opened.bind(("", 47012))
opened.settimeout(10)
seen = []
print("ready", flush=True)
try:
    while len(seen) < COUNT:
        seen.append(int(opened.recv(2000)))
        opened.settimeout(2)
except TimeoutError:
    pass
print(json.dumps(seen))
"""

_SEND = """
import socket, sys, time
opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(COUNT):
    opened.sendto(str(number).encode(), (sys.argv[1], 47012))
    time.sleep(0.001)
"""


LARGE_PACKETS = 20
FRAMES = 40

_SEND_LARGE = f"""
import socket, sys, time
SOL_UDP, UDP_SEGMENT, SIZE = 17, 103, 1000
opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
opened.setsockopt(SOL_UDP, UDP_SEGMENT, SIZE)
for place in range({LARGE_PACKETS}):
    numbers = range(place * {FRAMES}, (place + 1) * {FRAMES})
    opened.sendto(b"".join(str(each).encode().ljust(SIZE) for each in numbers), (sys.argv[1], 47012))
    time.sleep(0.01)
"""


_LISTEN = """
import json, select, socket, struct, sys, time
address = sys.argv[1]
opened = []
def add(*kind, bind=None):
    opened.append(socket.socket(*kind))
    if bind is not None:
        opened[-1].bind(bind)
    return opened[-1]
group = add(socket.AF_INET, socket.SOCK_DGRAM, bind=("", 47013))
member = socket.inet_aton("239.1.2.3") + socket.inet_aton(address)
group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
add(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
add(socket.AF_INET, socket.SOCK_RAW, 253)
add(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
add(socket.AF_INET6, socket.SOCK_DGRAM, bind=("::", 47015))
listener = add(socket.AF_INET, socket.SOCK_STREAM, bind=("", 47014))
listener.listen()
seen = {}
print("ready", flush=True)
wait = 10
while ready := select.select(opened, [], [], wait)[0]:
    wait = 2
    for each in ready:
        if each is listener:
            opened.append(listener.accept()[0])
            continue
        data = each.recv(65536)
        if not data and each.type == socket.SOCK_STREAM:
            opened.remove(each)
        elif b"way:" in data:
            way, sent = data.partition(b"way:")[2].split(b"|")[:2]
            came = seen.setdefault(way.decode(), [])
            came.append((time.time() - float(sent), time.time(), len(data)))
print(json.dumps(seen))
"""

_KNOCK = """
import contextlib, socket, struct, sys, time
target, own, second_target, second_own = sys.argv[1:]
def text(way, size=0):
    return f"way:{way}|{time.time():.6f}|".encode().ljust(size, b".")
def datagrams(way, address, source=own, count=3, size=0):
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
    opened.bind((source, 0))
    for _ in range(count):
        opened.sendto(text(way, size), (address, 47013))
datagrams("udp", target)
connected = socket.create_connection((target, 47014))
connected.sendall(text("tcp"))
icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
icmp.sendto(struct.pack("!BBHHH", 13, 0, 0, 1, 1) + text("icmp"), (target, 0))
other = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
other.sendto(text("protocol 253"), (target, 0))
datagrams("second address that sends", target, second_own)
datagrams("second address that receives", second_target)
datagrams("other network", "192.168.7.2", "192.168.7.1")
datagrams("broadcast", "10.213.255.255")
frame = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
frame.bind(("eth0", 0))
frame.send(b"\\xff" * 6 + bytes(6) + struct.pack("!H", 0x88B5) + text("ethernet"))
with contextlib.suppress(OSError):
    six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    six.sendto(text("ipv6"), ("fd00::2", 47015))
datagrams("multicast", "239.1.2.3", count=100, size=1400)
"""


class EmulatorContract(ABC):
    """What every emulator must hold."""

    emulator_type: ClassVar[type[LinkEmulator]]

    @pytest.fixture
    def emulator(self) -> LinkEmulator:
        """An instance that this host can carry."""
        emulator = self.emulator_type()
        reason = emulator.probe()
        if reason is not None:
            pytest.skip(f"{emulator.name}: {reason}")
        return emulator

    @pytest.fixture
    def deployment(self) -> Deployment:
        """A deployment without a folder yet."""
        return Deployment("lab", folders.state_folder())

    @pytest.fixture
    def laboratory(self, emulator: LinkEmulator, deployment: Deployment) -> Laboratory:
        """Machines for a plan; what the emulator runs is stopped before they go."""

        @contextmanager
        def running(plan: InfrastructurePlan) -> Iterator[Lab]:
            with lab(plan) as made:
                try:
                    yield made
                finally:
                    emulator.remove(deployment)

        return running

    def _clocks(self) -> check.Clocks:
        # Packets are there when the kernel says so, unless they wait for their delay after that.
        return check.Clocks(by_kernel=not self.emulator_type.delays_at_receiver)

    def test_configure_is_pure(self) -> None:
        """The same plan gives the same files, whatever this host can do."""
        plan = make_plan(TIERS, LINKS)
        files = self.emulator_type().configure(plan)
        assert files == self.emulator_type().configure(plan)
        assert files
        assert all(isinstance(content, str) for content in files.values())

    def test_in_force_is_what_was_asked_for(
        self, emulator: LinkEmulator, deployment: Deployment, laboratory: Laboratory
    ) -> None:
        """Nothing before, everything after; a second time changes nothing; then other links."""
        plan = make_plan(TIERS, LINKS)
        with laboratory(plan) as running:
            assert emulator.in_force(deployment, plan, running.interfaces) == []
            assert emulator.apply(deployment, plan, running.interfaces)
            assert emulator.in_force(deployment, plan, running.interfaces) == _links(plan)
            assert not emulator.apply(deployment, plan, running.interfaces)

            other = make_plan(TIERS, {**LINKS, ("edge", "endpoint"): OTHER})
            assert emulator.apply(deployment, other, running.interfaces)
            assert emulator.in_force(deployment, other, running.interfaces) == _links(other)
            now = emulator.in_force(deployment, plan, running.interfaces)
            assert {link.settings for link in now} == {OTHER, BACK}

            none = make_plan(TIERS, {})
            assert emulator.apply(deployment, none, running.interfaces)
            assert emulator.in_force(deployment, plan, running.interfaces) == []
            assert not emulator.apply(deployment, none, running.interfaces)

    def test_a_link_counts_only_while_machines_carry_it(
        self, emulator: LinkEmulator, deployment: Deployment, laboratory: Laboratory
    ) -> None:
        """Not with other settings than asked for, nor while a machine at one of its ends is off."""
        both = LinkSettings(delay_ms=20.0, rate_mbit=10.0)
        plan = make_plan(TIERS, {("edge", "endpoint"): both, ("endpoint", "edge"): both})
        with laboratory(plan) as running:
            emulator.apply(deployment, plan, running.interfaces)
            for off in range(len(running.interfaces)):
                rest = [*running.interfaces[:off], *running.interfaces[off + 1 :]]
                assert emulator.in_force(deployment, plan, rest) == []
            assert emulator.in_force(deployment, plan, []) == []

            # Of one machine the host does not send what others take; nor is it this link's packets.
            apart = make_plan(
                TIERS, {("edge-1", "endpoint-1"): LinkSettings(), ("edge", "endpoint"): both}
            )
            known = emulator.in_force(deployment, apart, running.interfaces)
            assert known == [apart.network.links[1]]

            edge = running.machines[0]
            edge.run(Command(("tc", "qdisc", "delete", "dev", "eth0", "root"))).check()
            known = emulator.in_force(deployment, plan, running.interfaces)
            assert [each for each in plan.network.links if each in known] == [plan.network.links[1]]

    def test_machines_that_came_with_their_addresses(
        self, emulator: LinkEmulator, deployment: Deployment, laboratory: Laboratory
    ) -> None:
        """A tier is told by each of its machines' blocks, of which one may have a link of its own."""
        tiers = {"edge": 2, "endpoint": 2}
        ends = {("edge-1", "endpoint-1"): OTHER, **LINKS}
        plan = make_plan(tiers, ends)
        own: dict[str, tuple[Block, ...]] = {
            end: tuple(
                ipaddress.IPv4Network(each.address)
                for each in plan.machines
                if end in (each.tier, each.name)
            )
            for end in (*tiers, "edge-1", "endpoint-1")
        }
        links = tuple(
            replace(
                each,
                source_blocks=own[each.source],
                destination_blocks=own[each.destination],
            )
            for each in plan.network.links
        )
        plan = replace(plan, network=replace(plan.network, links=links))
        with laboratory(plan) as running:
            assert emulator.apply(deployment, plan, running.interfaces)
            assert emulator.in_force(deployment, plan, running.interfaces) == _links(plan)

    def test_links_are_as_asked_for(
        self, emulator: LinkEmulator, deployment: Deployment, laboratory: Laboratory
    ) -> None:
        """Delay, jitter, loss and rate, each direction on its own."""
        plan = make_plan(TIERS, LINKS)
        with laboratory(plan) as running:
            emulator.apply(deployment, plan, running.interfaces)
            found = check.check(running.machines, plan, clocks=self._clocks())
        assert check.outside(found) == []
        assert [(each.quantity, each.asked) for each in check.deciding(found)] == [
            ("delay_ms", 20.0),
            ("stream_delay_ms", 20.0),
            ("jitter_ms", 0.0),
            ("loss_percent", 0.0),
            ("rate_mbit", 10.0),
            ("delay_ms", 5.0),
            ("stream_delay_ms", 5.0),
            ("jitter_ms", 1.0),
            ("loss_percent", 2.0),
        ]

    def test_the_most_specific_link_counts(
        self, emulator: LinkEmulator, deployment: Deployment, laboratory: Laboratory
    ) -> None:
        """Machine to machine, before machine to tier, before tier to tier."""
        plan = make_plan(
            TIERS,
            {
                ("edge-1", "endpoint-1"): OTHER,
                ("edge", "endpoint-2"): LinkSettings(delay_ms=30.0),
                **LINKS,
            },
        )
        with laboratory(plan) as running:
            emulator.apply(deployment, plan, running.interfaces)
            assert emulator.in_force(deployment, plan, running.interfaces) == _links(plan)
            edge, first, second = plan.machines
            assert _delay(running, edge, first) == pytest.approx(60.0, abs=5)
            assert _delay(running, edge, second) == pytest.approx(30.0, abs=5)
            assert _delay(running, second, edge) == pytest.approx(5.0, abs=4)

    def test_the_host_and_other_tiers_are_not_delayed(
        self, emulator: LinkEmulator, deployment: Deployment, laboratory: Laboratory
    ) -> None:
        """Only what a link speaks of is emulated."""
        slow = LinkSettings(delay_ms=300.0)
        plan = make_plan({"edge": 1, "endpoint": 2}, {("edge", "endpoint"): slow})
        with laboratory(plan) as running:
            emulator.apply(deployment, plan, running.interfaces)
            edge, first, second = plan.machines
            host = replace(edge, name="host", tier="", address=HOST)
            for source, destination in (
                (host, first),
                (first, host),
                (first, edge),
                (first, second),
            ):
                assert _delay(running, source, destination) < 150
            assert _delay(running, edge, first) > 290

    def test_nothing_passes_beside_the_links(
        self, emulator: LinkEmulator, deployment: Deployment, laboratory: Laboratory
    ) -> None:
        """Whatever a machine sends: it is as late and as slow as its link, or it does not arrive."""
        slow = LinkSettings(delay_ms=40.0, rate_mbit=2.0, queue_bytes=64_000)
        plan = make_plan(
            {"edge": 1, "endpoint": 1}, {("edge", "endpoint"): slow, ("endpoint", "edge"): slow}
        )
        with laboratory(plan) as running:
            emulator.apply(deployment, plan, running.interfaces)
            edge, endpoint = running.machines
            second = {"edge-1": "10.213.0.77", "endpoint-1": "10.213.16.77"}
            for machine, number in ((edge, 1), (endpoint, 2)):
                for address in (
                    f"{second[machine.name]}/16",
                    f"192.168.7.{number}/24",
                    f"fd00::{number}/64",
                ):
                    kind = ("nodad",) if ":" in address else ()
                    add = ("ip", "address", "add", address, "dev", "eth0", *kind)
                    machine.run(Command(add)).check()
            knock = (endpoint.address, edge.address, second["endpoint-1"], second["edge-1"])
            seen: dict[str, list[list[float]]] = _heard(
                endpoint, (_LISTEN, endpoint.address), edge, (_KNOCK, *knock)
            )
            assert emulator.in_force(deployment, plan, running.interfaces) == _links(plan)
        assert {"udp", "tcp", "icmp", "protocol 253"} <= set(seen)
        faster = {way for way, came in seen.items() if min(came)[0] < 0.9 * slow.delay_ms / 1e3}
        assert faster == set()
        first, *rest = seen.get("multicast", [[0.0, 0.0, 0.0]])
        if rest:
            carried = sum(each[2] for each in rest) * 8 / 1e6
            assert carried / (rest[-1][1] - first[1]) < 1.2 * 2.0

    def test_what_is_changed_from_inside_is_seen(
        self, emulator: LinkEmulator, deployment: Deployment, laboratory: Laboratory
    ) -> None:
        """A filter or a rule beside those of the links, which lets packets by."""
        plan = make_plan({"edge": 1, "endpoint": 1}, {("edge", "endpoint"): THERE})
        with laboratory(plan) as running:
            emulator.apply(deployment, plan, running.interfaces)
            edge, endpoint = running.machines
            way = f"protocol ip prio 1 u32 match ip dst {endpoint.address} flowid 1:"
            add = f"tc filter add dev eth0 parent 1: {way}"
            edge.run(Command(tuple(add.split()))).check()
            assert emulator.in_force(deployment, plan, running.interfaces) == []
            assert emulator.apply(deployment, plan, running.interfaces)
            assert emulator.in_force(deployment, plan, running.interfaces) == _links(plan)
            for chain in ("PREROUTING", namespaces.CHAIN) if emulator.delays_at_receiver else ():
                add = f"iptables -t raw -I {chain} 1 -s {edge.address} -j ACCEPT"
                endpoint.run(Command(tuple(add.split()))).check()
                assert emulator.in_force(deployment, plan, running.interfaces) != _links(plan)
                assert emulator.apply(deployment, plan, running.interfaces)
                assert emulator.in_force(deployment, plan, running.interfaces) == _links(plan)
            # And what is put there twice is taken off whole.
            none = make_plan({"edge": 1, "endpoint": 1}, {})
            assert emulator.apply(deployment, none, running.interfaces)
            assert not emulator.apply(deployment, none, running.interfaces)

    def test_packets_keep_their_order(
        self, emulator: LinkEmulator, deployment: Deployment, laboratory: Laboratory
    ) -> None:
        """Jitter five times as large as the packets' distance overtakes nothing."""
        jittery = LinkSettings(delay_ms=20.0, jitter_ms=5.0)
        plan = make_plan({"edge": 1, "endpoint": 1}, {("edge", "endpoint"): jittery})
        with laboratory(plan) as running:
            emulator.apply(deployment, plan, running.interfaces)
            edge, endpoint = running.machines
            receive, send = (
                each.replace("COUNT", str(ORDER_PACKETS)) for each in (_RECEIVE, _SEND)
            )
            seen: list[int] = _heard(endpoint, (receive,), edge, (send, endpoint.address))
        assert seen == list(range(ORDER_PACKETS))

    def test_losses_are_of_frames(
        self, emulator: LinkEmulator, deployment: Deployment, laboratory: Laboratory
    ) -> None:
        """Of what is sent in one piece some frames arrive and others do not."""
        lossy = LinkSettings(delay_ms=5.0, loss_percent=20.0)
        plan = make_plan({"edge": 1, "endpoint": 1}, {("edge", "endpoint"): lossy})
        count = LARGE_PACKETS * FRAMES
        with laboratory(plan) as running:
            emulator.apply(deployment, plan, running.interfaces)
            edge, endpoint = running.machines
            receive = _RECEIVE.replace("COUNT", str(count))
            seen: list[int] = _heard(endpoint, (receive,), edge, (_SEND_LARGE, endpoint.address))
        # Four standard deviations of frames; of whole packets it would be ten times as many.
        assert abs(len(seen) / count - 0.8) < 4 * (0.2 * 0.8 / count) ** 0.5
        arrived = [sum(each // FRAMES == place for each in seen) for place in range(LARGE_PACKETS)]
        assert statistics.pstdev(arrived) < FRAMES / 4
        assert 0 < min(arrived) <= max(arrived) < FRAMES

    def test_remove_may_be_repeated(self, emulator: LinkEmulator, deployment: Deployment) -> None:
        """Also for a deployment that never had links."""
        emulator.remove(deployment)
        emulator.remove(deployment)


def _links(plan: InfrastructurePlan) -> list[Link]:
    return list(plan.network.links)


def _heard(
    listener: Machine, listening: Sequence[str], sender: Machine, sending: Sequence[str]
) -> Any:  # noqa: ANN401  whatever the program prints
    """Run a Python program that listens, and once it says that it is ready, one that sends.

    The listener's last line, read as JSON.
    """
    lines = listener.stream(Command(("python3", "-c", *listening)))
    assert next(lines) == "ready"
    sender.run(Command(("python3", "-c", *sending))).check()
    return json.loads([*lines][-1])


def _delay(running: Lab, source: MachineSpec, destination: MachineSpec) -> float:
    """The smallest of a few packets' one-way delays, in ms: a busy host makes some late, none early."""
    pair = check.Pair(running.plan.network.links[0], source, destination)
    task = check.Task(0, pair, "delay", 0.0, 60, 20.0, check.PROBE_PAYLOAD)
    machines = {each.name: each for each in (*running.machines, running.host)}
    results = check.carry_out_in_time(machines, [task], check.ONE_CLOCK)
    delays: list[int] = results[destination.name]["received"]["0"]["delays_ns"]
    return min(delays) / 1e6
