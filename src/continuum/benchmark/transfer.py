"""Messages over links: when each has arrived, from when it was sent and how large it is.

One message crosses a link as TCP segments of at most `SEGMENT` bytes, each in a frame that the
kernel counts with its Ethernet, IPv4 and TCP headers. All that one machine sends over a link shares
its rate, in the order in which it was sent; what finds the link busy waits. Then the delay and its
jitter are added, which is a process in time (see `continuum_runtime.jitter`): so slow that
practically no frame overtakes another, and the message is there when its last frame is.

The connection is taken to be open and its window wide enough. What a full queue of the link drops
is sent again by TCP, and the bytes that wait for that wait at the sender instead: the queue's own
length is no part of it. Nor are confirmations, which share the rate with the other direction's
messages, and packets that are lost on purpose.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from continuum.benchmark.queueing import departures
from continuum.infrastructure.links.jitter import delays as delays_of_many
from continuum.infrastructure.plan import LinkSettings
from continuum_runtime import jitter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from continuum.infrastructure.plan import Link

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

SEGMENT = 1448
"""Bytes of a message in one frame: 1500 less 20 (IPv4), 20 (TCP) and 12 (TCP time stamps)."""
HEADERS = 66
"""Bytes that the kernel counts beside them: those 52, and 14 of Ethernet."""

_NO_LINK = LinkSettings()
_NS_PER_MS = 1e6


@dataclass(frozen=True)
class Hop:
    """One link as a message crosses it.

    Two hops that are equal share a rate: the same machine sends over the same link.

    Attributes:
        link: its properties; none where nothing is emulated, or nothing is crossed.
        sender: address of the machine that sends.
        path: which of its links it is.
    """

    link: LinkSettings = _NO_LINK
    sender: str = ""
    path: str = ""


@dataclass(frozen=True)
class Way:
    """The links that an endpoint's requests cross, and that their answers do."""

    forward: tuple[Hop, ...] = ()
    back: tuple[Hop, ...] = ()

    @property
    def loses(self) -> bool:
        """The presence of a link that loses packets."""
        return any(hop.link.loss_percent > 0 for hop in (*self.forward, *self.back))


def emulated(hops: Iterable[Hop]) -> bool:
    """Tell whether a link among them takes time."""
    return any(hop.link.delay_ms or hop.link.jitter_ms or hop.link.rate_mbit for hop in hops)


def way_over(links: Sequence[Link], *addresses: str) -> Way:
    """The way from the first address, the endpoint's, over all others to the last, the worker's.

    `links` come most specific first, as in the plan.
    """
    pairs = list(itertools.pairwise(addresses))
    return Way(
        tuple(_hop(links, start, end) for start, end in pairs),
        tuple(_hop(links, end, start) for start, end in reversed(pairs)),
    )


def _hop(links: Sequence[Link], source: str, destination: str) -> Hop:
    start, end = ipaddress.IPv4Address(source), ipaddress.IPv4Address(destination)
    if start == end:
        return Hop()
    for link in links:
        if any(start in each for each in link.source_blocks) and any(
            end in each for each in link.destination_blocks
        ):
            return Hop(link.settings, source, f"{link.source} → {link.destination}")
    return Hop()


def arrivals(
    sent: Floats,
    message_bytes: Integers,
    ways: Sequence[tuple[Hop, ...]],
    way: Integers,
    rng: np.random.Generator,
) -> Floats:
    """The arrival times of messages that share links, in ms, (n,).

    What stands between two links passes on what comes as it comes: so the slowest link alone
    decides how long a whole message takes, and the others add what one frame takes.

    Args:
        sent: when each was sent, in ms, (n,).
        message_bytes: with what the application's protocol adds, (n,).
        ways: the links that they cross one after another; all cross equally many.
        way: which of `ways` each message takes, (n,).
        rng: consumed.
    """
    first, last = sent.copy(), sent.copy()
    for crossed in zip(*ways, strict=True):
        for hop in dict.fromkeys(crossed):
            here = np.flatnonzero(np.array([each == hop for each in crossed])[way])
            if len(here):
                first[here], last[here] = _cross(
                    hop.link, first[here], last[here], message_bytes[here], rng
                )
    return last


def _cross(
    link: LinkSettings,
    first: Floats,
    last: Floats,
    message_bytes: Integers,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """The arrival times of each message's first and last frame, from when they come to a link."""
    if link.rate_mbit is None:
        return first + _delays(link, first, rng), last + _delays(link, last, rng)
    per_byte = 8 / (link.rate_mbit * 1e3)
    whole = np.maximum(message_bytes, 1)
    takes = (whole + -(-whole // SEGMENT) * HEADERS) * per_byte
    frame = (np.minimum(whole, SEGMENT) + HEADERS) * per_byte
    # The last frame cannot leave before it has come.
    ready = np.maximum(first, last + frame - takes)
    order = np.argsort(ready, kind="stable")
    left = np.empty(len(ready))
    left[order] = departures(ready[order], takes[order])
    # One draw serves both: the first frame matters only where a second link follows.
    delays = _delays(link, left, rng)
    return left - takes + frame + delays, left + delays


def _delays(link: LinkSettings, at: Floats, rng: np.random.Generator) -> Floats:
    """Delay with jitter in ms at each time, of one sender: the emulator's process, drawn anew."""
    process = jitter.process(link.delay_ms * _NS_PER_MS, link.jitter_ms * _NS_PER_MS)
    if not process.slot:
        return np.full(len(at), link.delay_ms)
    key = int(rng.integers(2**63))
    at_ns = np.rint(at * _NS_PER_MS).astype(np.int64)
    return delays_of_many(process, key, at_ns) / _NS_PER_MS
