"""Which links concern which machine, and how large queues and bursts are. Pure functions."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from continuum.infrastructure.plan import (
    Block,
    Link,
    LinkSettings,
    MachineSpec,
    NetworkPlan,
)

FIRST_QUEUE = 1000
"""Number of the packet queue of the plan's first link; the others follow."""

FRAME = 1514
"""Bytes of a full Ethernet frame, as the kernel counts them: 1500 and the header."""

LARGEST_PACKET = 65_550
"""Bytes of the largest packet that the kernel hands on in one piece, with its header."""

SLACK = 1e-3
"""Seconds by which the kernel may be late to send the next packet without losing rate."""

SMALL_PACKET = 256
"""Bytes of the packets that netem has room for while they are under way; see `queue_packets`."""

QUEUE_SECONDS = 0.1
LEAST_QUEUE_FRAMES = 32
"""A queue that nobody asked for holds so much; see `queue_bytes`."""

LONGEST_QUEUE = 2**30
"""Bytes that a link's queue holds at most, whatever its rate."""


def outgoing(links: Sequence[Link], machine: MachineSpec) -> list[tuple[int, Link]]:
    """The links that a machine sends over, with their place in the plan, most specific first.

    Without those that a more specific one leaves no packets.
    """
    carried = [each for each in enumerate(links) if _in(machine, each[1].source_blocks)]
    return _visible(carried, _destinations)


def incoming(links: Sequence[Link], machine: MachineSpec) -> list[tuple[int, Link]]:
    """The links that a machine receives over, with their place in the plan, likewise."""
    carried = [each for each in enumerate(links) if _in(machine, each[1].destination_blocks)]
    return _visible(carried, _sources)


def _sources(link: Link) -> tuple[Block, ...]:
    return link.source_blocks


def _destinations(link: Link) -> tuple[Block, ...]:
    return link.destination_blocks


def _visible(
    carried: Iterable[tuple[int, Link]], blocks: Callable[[Link], tuple[Block, ...]]
) -> list[tuple[int, Link]]:
    """Those of a machine's links that no link before them leaves without packets."""
    found: list[tuple[int, Link]] = []
    taken: set[int] = set()
    wider: list[tuple[Block, ...]] = []
    for place, link in carried:
        mine = blocks(link)
        # A thousand links to one machine each are looked up, not compared with one another.
        alone = _range(mine[0])[0] if len(mine) == 1 and mine[0].prefixlen == 32 else None
        if alone in taken or any(_within(mine, other) for other in wider):
            continue
        found.append((place, link))
        if alone is None:
            wider.append(mine)
        else:
            taken.add(alone)
    return found


class _Index:
    """Finds the places of those links in the plan whose blocks hold an address."""

    def __init__(self, links: Sequence[Link], blocks: Callable[[Link], tuple[Block, ...]]) -> None:
        self._links = links
        self._alone: dict[int, list[int]] = {}
        self._wide: list[tuple[int, int, int]] = []
        for place, link in enumerate(links):
            for low, high in map(_range, blocks(link)):
                if low == high:
                    self._alone.setdefault(low, []).append(place)
                else:
                    self._wide.append((low, high, place))

    def holding(self, machine: MachineSpec) -> list[tuple[int, Link]]:
        """The links and their places, most specific first."""
        address = _number(machine.address)
        places = {*self._alone.get(address, ())}
        places.update(place for low, high, place in self._wide if low <= address <= high)
        return [(place, self._links[place]) for place in sorted(places)]


def beginning(
    links: Sequence[Link], link: Link, machines: Iterable[MachineSpec]
) -> list[MachineSpec]:
    """The machines that send over one of the links."""
    return [
        machine
        for machine in machines
        if _in(machine, link.source_blocks)
        and any(each == link for _, each in outgoing(links, machine))
    ]


def ending(links: Sequence[Link], link: Link, machines: Iterable[MachineSpec]) -> list[MachineSpec]:
    """The machines that receive over one of the links."""
    return [
        machine
        for machine in machines
        if _in(machine, link.destination_blocks)
        and any(each == link for _, each in incoming(links, machine))
    ]


@dataclass(frozen=True)
class Ends:
    """The machines that send over a link, and those that receive over it."""

    beginning: tuple[MachineSpec, ...]
    ending: tuple[MachineSpec, ...]

    def all_run(self, running: Container[str]) -> bool:
        """Tell whether every machine at either end is one of those that run, by name."""
        return all(each.name in running for each in (*self.beginning, *self.ending))


def ends(links: Sequence[Link], machines: Iterable[MachineSpec]) -> dict[Link, Ends]:
    """The ends of all links at once: of a thousand machines one by one takes half a minute.

    Machines on other hosts are not asked for: their own host does that.
    """
    sources, destinations = _Index(links, _sources), _Index(links, _destinations)
    sending: list[list[MachineSpec]] = [[] for _ in links]
    receiving: list[list[MachineSpec]] = [[] for _ in links]
    for machine in machines:
        for place, _ in _visible(sources.holding(machine), _destinations):
            sending[place].append(machine)
        for place, _ in _visible(destinations.holding(machine), _sources):
            receiving[place].append(machine)
    return {
        link: Ends(tuple(sending[place]), tuple(receiving[place]))
        for place, link in enumerate(links)
    }


def _in(machine: MachineSpec, blocks: Iterable[Block]) -> bool:
    address = _number(machine.address)
    return any(low <= address <= high for low, high in map(_range, blocks))


def _within(inner: Iterable[Block], outer: Sequence[Block]) -> bool:
    """Whether each of some blocks lies in one of the others."""
    ranges = [_range(other) for other in outer]
    return all(
        any(low <= first and last <= high for low, high in ranges)
        for first, last in map(_range, inner)
    )


@lru_cache(maxsize=2**16)
def _range(block: Block) -> tuple[int, int]:
    """The first and the last address of a block as numbers."""
    return int(block.network_address), int(block.broadcast_address)


@lru_cache(maxsize=2**16)
def _number(address: str) -> int:
    return int(ipaddress.IPv4Address(address))


def link_between(
    links: Sequence[Link], source: MachineSpec, destination: MachineSpec
) -> Link | None:
    """The link that packets from one machine to another take, None when nothing is emulated."""
    for link in links:
        if _in(source, link.source_blocks) and _in(destination, link.destination_blocks):
            return link
    return None


_EVERYBODY = (ipaddress.IPv4Network("224.0.0.0/4"), ipaddress.IPv4Network("255.255.255.255/32"))


def everybody(network: NetworkPlan) -> tuple[Block, ...]:
    """The addresses of multicast and broadcast.

    Where machines had their addresses before, their network's own broadcast address is not known.
    """
    if not network.tiers:
        return _EVERYBODY
    return (*_EVERYBODY, ipaddress.IPv4Network(network.block.broadcast_address))


def strictest(links: Iterable[Link]) -> LinkSettings:
    """Settings for packets to everybody: the most delay and loss, the least rate, of some links."""
    settings = [link.settings for link in links]
    longest = max(settings, key=lambda each: (each.delay_ms, each.jitter_ms))
    limited = [each for each in settings if each.rate_mbit is not None]
    slowest = min(limited, key=lambda each: each.rate_mbit or 0.0, default=LinkSettings())
    return LinkSettings(
        delay_ms=longest.delay_ms,
        jitter_ms=longest.jitter_ms,
        loss_percent=max(each.loss_percent for each in settings),
        rate_mbit=slowest.rate_mbit,
        queue_bytes=slowest.queue_bytes,
    )


def waits(settings: LinkSettings) -> bool:
    """Whether packets are delayed or lost, beside being limited in rate."""
    return bool(settings.delay_ms or settings.jitter_ms or settings.loss_percent)


def by_frames(settings: LinkSettings) -> bool:
    """Tell whether each frame is judged on its own: where packets are lost, or delays differ."""
    return bool(settings.jitter_ms or settings.loss_percent)


def bytes_per_second(rate_mbit: float) -> int:
    """A rate as the kernel takes it."""
    return round(rate_mbit * 125_000)


def same_rate(found: float | None, asked: float | None) -> float | None:
    """The rate asked for when the kernel has just that, rounded to bytes; else what was found."""
    if found is None or asked is None:
        return found
    return asked if abs(found - asked) * 125_000 <= 1 else found


def burst(rate_mbit: float) -> int:
    """Bytes that may pass at once: one frame, and what the rate carries in `SLACK`.

    A packet that is larger (segmentation offload hands on up to 64 kB in one piece) is cut into
    frames before it is sent, so that no unit takes much longer than a frame or `SLACK`. More than
    the largest packet is never needed below 10 Gbit/s.
    """
    carried = math.ceil(bytes_per_second(rate_mbit) * SLACK)
    return FRAME + max(min(carried, LARGEST_PACKET), carried // 10)


def queue_bytes(settings: LinkSettings) -> int:
    """Bytes that wait for a link's rate before more are dropped, header included.

    What was asked for, else what the rate carries in `QUEUE_SECONDS`, or in the time that packets
    and their answers are under way on a longer link: with one round trip's worth a single TCP
    connection keeps the link busy (Villamizar and Song 1994). At least `LEAST_QUEUE_FRAMES`, so
    that a slow link takes the first windows of a few connections; at most `LONGEST_QUEUE`.

    Never less than the largest unit that enters the link, which would not fit in at all.
    """
    rate = 0.0 if settings.rate_mbit is None else settings.rate_mbit
    unit = FRAME if burst(rate) < LARGEST_PACKET else LARGEST_PACKET
    asked = settings.queue_bytes
    if asked is None:
        seconds = max(QUEUE_SECONDS, 2 * settings.delay_ms / 1e3)
        asked = max(round(bytes_per_second(rate) * seconds), LEAST_QUEUE_FRAMES * FRAME)
    return min(max(asked, unit), LONGEST_QUEUE)


def same_queue(found: int, asked: LinkSettings) -> int | None:
    """The queue asked for when the kernel has just that, as coarse as it tells it; else what was found.

    It tells a queue by the time that it lasts, in whole microseconds, or in packets.
    """
    if asked.rate_mbit is None:
        return found
    near = max(FRAME, bytes_per_second(asked.rate_mbit) * 2e-6, 0.002 * found)
    return asked.queue_bytes if abs(found - queue_bytes(asked)) <= near else found


def queue_packets(settings: LinkSettings) -> int:
    """Packets that netem must be able to hold: what is under way, and what waits for the rate.

    netem counts packets only. What waits is counted in full frames; what is under way, which the
    rate carries during the delay and four times the jitter, in packets of `SMALL_PACKET` bytes, so
    that none is dropped for being small. A link without a rate is taken for one of 10 Gbit/s, and
    holds netem's own 1000 at least.
    """
    seconds = (settings.delay_ms + 4 * settings.jitter_ms) / 1e3
    if settings.rate_mbit is None:
        return min(max(math.ceil(bytes_per_second(10_000.0) * seconds / FRAME), 1000), 10**6)
    under_way = bytes_per_second(settings.rate_mbit) * seconds / SMALL_PACKET
    return min(math.ceil(under_way + queue_bytes(settings) / FRAME), 10**6)
