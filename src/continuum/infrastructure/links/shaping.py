"""Traffic control of one machine's interface: the text for `tc`, and what `tc` says back.

A classifying root (htb), and per link one filter for each of the destination's blocks, the most
specific link first. A link without properties that the kernel enforces is passed by directly, as is the host.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from continuum.infrastructure.plan import Block

ROOT = "1:"
FIRST_CLASS = 0x10
UNLIMITED = "100gbit"
UNLIMITED_BYTES = 12_500_000_000
"""Bytes per second that stand for "no limit": more than any interface here carries."""


@dataclass(frozen=True)
class Bucket:
    """A token bucket. Rate in bytes per second; burst and limit in bytes."""

    rate: int
    burst: int
    limit: int


@dataclass(frozen=True)
class Netem:
    """The kernel's own emulator. Times in microseconds, loss in percent, rate in bytes per second.

    Without a rate of the link's own `rate` is `UNLIMITED_BYTES`: it is netem's rate that keeps
    packets in order when there is jitter.
    """

    delay: int
    jitter: int
    loss: float
    rate: int
    limit: int


@dataclass(frozen=True)
class TrafficClass:
    """What happens to packets for some blocks of addresses; nothing without bucket and netem."""

    destinations: tuple[Block, ...]
    bucket: Bucket | None = None
    netem: Netem | None = None

    @property
    def direct(self) -> bool:
        """Whether packets pass at once."""
        return self.bucket is None and self.netem is None


def batch(device: str, host: str, classes: Sequence[TrafficClass]) -> str:
    """Lines for `tc -batch` that set up an interface without traffic control; empty for none."""
    if not classes:
        return ""
    lines = [
        f"qdisc add dev {device} root handle {ROOT} htb default 0 direct_qlen 10000",
        _filter(device, 1, ipaddress.IPv4Network(host), ROOT),
    ]
    for place, each in enumerate(classes):
        minor = f"{FIRST_CLASS + place:x}"
        if not each.direct:
            lines.append(
                f"class add dev {device} parent {ROOT} classid {ROOT}{minor} "
                f"htb rate {UNLIMITED} quantum 65550"
            )
        parent = f"{ROOT}{minor}"
        if each.bucket is not None:
            lines.append(
                f"qdisc add dev {device} parent {parent} handle {minor}: {_bucket(each.bucket)}"
            )
            parent = f"{minor}:1"
        if each.netem is not None:
            lines.append(
                f"qdisc add dev {device} parent {parent} handle {_inner(minor)}: "
                f"{_netem(each.netem)}"
            )
        target = ROOT if each.direct else f"{ROOT}{minor}"
        lines += [_filter(device, 2 + place, block, target) for block in each.destinations]
    return "\n".join(lines) + "\n"


def _inner(minor: str) -> str:
    """Handle of the second queueing discipline of a class."""
    return f"{0x1000 + int(minor, 16):x}"


def _filter(device: str, priority: int, block: Block, target: str) -> str:
    return (
        f"filter add dev {device} parent {ROOT} protocol ip prio {priority} "
        f"u32 match ip dst {block} flowid {target}"
    )


def _bucket(bucket: Bucket) -> str:
    return f"tbf rate {bucket.rate}bps burst {bucket.burst} limit {bucket.limit}"


def _netem(netem: Netem) -> str:
    words = [f"netem limit {netem.limit} delay {netem.delay}us"]
    if netem.jitter:
        words.append(f"{netem.jitter}us distribution normal")
    if netem.loss:
        words.append(f"loss {netem.loss:g}%")
    words.append(f"rate {netem.rate}bps")
    return " ".join(words)


def remove(device: str) -> str:
    """The line for `tc -batch` that takes all traffic control off an interface."""
    return f"qdisc del dev {device} root\n"


@dataclass(frozen=True)
class InForce:
    """Traffic control of an interface as the kernel has it, None where there is none of ours."""

    classes: tuple[TrafficClass, ...] | None
    has_root: bool
    passed_by: tuple[Block, ...] = ()
    """Blocks that pass before any class is looked at: the host, and what others have put there."""

    foreign: bool = False
    """The presence of filters that are not of our kind."""

    def unaltered(self, host: str) -> bool:
        """Tell whether nobody has put a way around the classes beside them."""
        free = (ipaddress.IPv4Network(host),)
        return not self.classes or (not self.foreign and self.passed_by == free)


_FILTER = re.compile(
    r"pref (?P<priority>\d+) u32 .*?flowid (?P<target>[0-9a-f]+:[0-9a-f]*).*?\n"
    r"\s*match (?P<value>[0-9a-f]{8})/(?P<mask>[0-9a-f]{8}) at 16"
)


def read(disciplines: str, filters: str) -> InForce:
    """What is in force, from the output of `tc -json qdisc show` and `tc filter show`.

    The filter of the host itself is left out. Filters come as text because their JSON differs
    between versions of tc.
    """
    known: list[dict[str, Any]] = json.loads(disciplines or "[]")
    root = next((each for each in known if each.get("root")), None)
    has_root = root is not None and root.get("handle", "0:") != "0:"
    if root is None or root["kind"] != "htb" or root["handle"] != ROOT:
        return InForce(None, has_root)
    by_parent = {each["parent"]: each for each in known if "parent" in each}
    # One priority for each class, with one filter for each of its blocks.
    blocks: dict[tuple[int, str], list[Block]] = {}
    matches = list(_FILTER.finditer(filters))
    for match in matches:
        value, mask = int(match["value"], 16), int(match["mask"], 16)
        block = ipaddress.IPv4Network((value, str(ipaddress.IPv4Address(mask))))
        blocks.setdefault((int(match["priority"]), match["target"]), []).append(block)
    found = [
        _class(tuple(sorted(carried)), target, by_parent)
        for (priority, target), carried in sorted(blocks.items())
        if priority != 1
    ]
    passed_by = [block for (priority, _), each in blocks.items() if priority == 1 for block in each]
    lines = [line for line in filters.splitlines() if line.startswith("filter ")]
    ours = all(" u32 " in line for line in lines)
    foreign = not ours or sum(" order " in line for line in lines) != len(matches)
    return InForce(tuple(found), has_root=True, passed_by=tuple(passed_by), foreign=foreign)


def _class(
    blocks: tuple[Block, ...], target: str, by_parent: Mapping[str, dict[str, Any]]
) -> TrafficClass:
    bucket = netem = None
    leaf = by_parent.get(target)
    if leaf is not None and leaf["kind"] == "tbf":
        bucket = _read_bucket(leaf["options"])
        leaf = by_parent.get(f"{leaf['handle']}1")
    if leaf is not None and leaf["kind"] == "netem":
        netem = _read_netem(leaf["options"])
    return TrafficClass(blocks, bucket, netem)


def _read_bucket(options: Mapping[str, Any]) -> Bucket:
    rate, burst = options["rate"], options["burst"]
    # tc gives the limit as the microseconds that a full queue takes.
    limit = options.get("limit", round(options.get("lat", 0) * rate / 1e6) + burst)
    return Bucket(rate, burst, limit)


def _read_netem(options: Mapping[str, Any]) -> Netem:
    delay = options.get("delay", {})
    return Netem(
        delay=round(delay.get("delay", 0) * 1e6),
        jitter=round(delay.get("jitter", 0) * 1e6),
        loss=round(options.get("loss-random", {}).get("loss", 0) * 100, 6),
        rate=options.get("rate", {}).get("rate", UNLIMITED_BYTES),
        limit=options["limit"],
    )


def same(wanted: Iterable[TrafficClass], found: Iterable[TrafficClass] | None) -> bool:
    """Whether two sets of classes are equal but for the kernel's rounding of numbers."""
    if found is None:
        return False
    left, right = list(wanted), list(found)
    return len(left) == len(right) and all(
        set(one.destinations) == set(other.destinations)
        and _near(one.bucket, other.bucket)
        and _near(one.netem, other.netem)
        for one, other in zip(left, right, strict=True)
    )


def _near(one: Bucket | Netem | None, other: Bucket | Netem | None) -> bool:
    if one is None or other is None or type(one) is not type(other):
        return one is other
    # The kernel tells a bucket's size as the time that it lasts, to the microsecond.
    coarse = one.rate / 1e6 if isinstance(one, Bucket) else 0.0
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(abs(left - right) <= max(2, 0.002 * abs(left), coarse) for left, right in pairs)
