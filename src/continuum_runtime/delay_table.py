"""The table of links that the user-space emulator works by: lines that both its programs read.

    continuum-links 1
    digest HEX               of the configuration that it was made from, for the state file
    state PATH               file that is written once all queues are bound, and removed at the end
    series PATH              folder of what is counted, see `continuum_runtime.link_series`
    machine NAME             one for each machine, each followed by
    namespace PATH               its network namespace, and one line for each queue:
    queue NUMBER CENTRE SPREAD SLOT LOSS BYTE SEED WHOLE

A queue's jitter (ns) is that of `continuum_runtime.jitter`; LOSS is the probability of a loss times
2^53, BYTE the nanoseconds that a byte takes at the link's rate, SEED 64 bits. WHOLE is 1 where the
large packets of segmentation offload stay whole: where nothing is lost and delays are all equal,
frames would fare alike. Elsewhere the kernel cuts them, and each frame is judged on its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from continuum_runtime import jitter

HEAD = "continuum-links 1"

CERTAIN = 2**53
"""Loss of every packet."""


@dataclass(frozen=True)
class Queue:
    """The treatment of the packets of one queue; see above."""

    number: int
    process: jitter.Process
    loss: int
    byte: float
    seed: int
    whole: bool


@dataclass(frozen=True)
class Machine:
    """One machine's queues, in a network namespace."""

    name: str
    namespace: str
    queues: tuple[Queue, ...]


@dataclass(frozen=True)
class Table:
    """The whole table."""

    digest: str
    state: str
    series: str
    machines: tuple[Machine, ...]


def of(configuration: Mapping[str, Any], digest: str) -> Table:
    """The table of a configuration.

    Its `state` and `series` are paths, its `seed` text that the random numbers derive from, its
    `machines` a list of {name, namespace, queues}, each queue {queue, delay_ms, jitter_ms,
    loss_percent, rate_mbit (or None)}.
    """
    return Table(
        digest,
        configuration["state"],
        configuration["series"],
        tuple(
            Machine(
                each["name"],
                each["namespace"],
                tuple(
                    queue(settings, f"{configuration['seed']}/{each['name']}/{settings['queue']}")
                    for settings in each["queues"]
                ),
            )
            for each in configuration["machines"]
        ),
    )


def queue(settings: Mapping[str, Any], seed: str) -> Queue:
    """One queue of a configuration."""
    rate = settings["rate_mbit"]
    return Queue(
        number=settings["queue"],
        process=jitter.process(settings["delay_ms"] * 1e6, settings["jitter_ms"] * 1e6),
        loss=round(settings["loss_percent"] / 100 * CERTAIN),
        byte=8e3 / rate if rate else 0.0,
        seed=int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big"),
        whole=not settings["jitter_ms"] and not settings["loss_percent"],
    )


def write(table: Table) -> str:
    """The table as text.

    Raises:
        ValueError: a path or a name has more than one line, or is empty.
    """
    lines = [
        HEAD,
        f"digest {table.digest}",
        f"state {table.state}",
        f"series {table.series}",
    ]
    for machine in table.machines:
        lines += [f"machine {machine.name}", f"namespace {machine.namespace}"]
        lines += [
            f"queue {each.number} {each.process.centre!r} {each.process.spread!r} "
            f"{each.process.slot} {each.loss} {each.byte!r} {each.seed} {int(each.whole)}"
            for each in machine.queues
        ]
    if any("\n" in line or line.endswith(" ") for line in lines):
        raise ValueError("names and paths of links are one line each")
    return "\n".join(lines) + "\n"


def read(text: str) -> Table:
    """The table of a text.

    Raises:
        ValueError: it is none.
    """
    head, *lines = text.removesuffix("\n").split("\n")
    if head != HEAD:
        raise ValueError("not a table of links that this program knows")
    paths: dict[str, str] = {}
    machines: list[tuple[str, list[str], list[Queue]]] = []
    for line in lines:
        word, _, value = line.partition(" ")
        if word in {"digest", "state", "series"} and value:
            paths[word] = value
        elif word == "machine":
            machines.append((value, [], []))
        elif word == "namespace" and machines:
            machines[-1][1].append(value)
        elif word == "queue" and machines:
            machines[-1][2].append(_queue(value))
        else:
            raise ValueError(f"unknown line: {line}")
    try:
        return Table(
            **paths,
            machines=tuple(
                Machine(name, namespace, tuple(queues)) for name, (namespace,), queues in machines
            ),
        )
    except TypeError as error:
        raise ValueError("the table is not whole") from error


def _queue(value: str) -> Queue:
    number, centre, spread, slot, loss, byte, seed, whole = value.split(" ")
    process = jitter.Process(float(centre), float(spread), int(slot))
    return Queue(int(number), process, int(loss), float(byte), int(seed), whole == "1")
