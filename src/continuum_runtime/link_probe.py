"""Sends and receives the packets by which links are measured.

    python3 -m continuum_runtime.link_probe < PLAN > RESULT

One such program runs on every machine that takes part, all at the same time. The plan is a JSON
object:

    port       UDP port, the same on all machines
    start_ns   when time 0 of the plan is, by this machine's wall clock
    end_ns     when to stop listening, by the same clock; earlier when all that is expected came
    echo       whether to send delay probes back to where they came from
    kernel     whether packets arrive when the kernel says so, not when this program takes them
    expected   by task, how many packets come here
    tasks      what to send: {task, kind, address, at_ms, count, interval_ms, payload}

Tasks of the kinds `delay`, `stream` and `loss` send packets at even intervals (of `loss` some at a
time where they would be closer than `CLOSEST`); one of kind `train` sends `ahead` of them at once, all by default, and the others at
even intervals. Only `delay` is echoed, and of `loss` packets are counted and no more. The result is a JSON object:

    start_ns   when time 0 of the plan was, by this machine's wall clock
    late_ms    by how much this program was ready too late for its plan, 0 when it was not; small
               packets that were due before are not sent
    sent       by task of kind `train`: packets handed to the kernel
    received   by task: {kind, sent_ns, delays_ns, arrivals: [[nanoseconds, packets], …], packets,
               frame}; the times of one packet stand at the same place
    echoed     by task: [when it was sent, its round trip] in nanoseconds

Delays are the difference of the two machines' wall clocks, and round trips are without the time
that the other machine took to answer. Where `kernel` is not set both are read in user space: the
kernel's own arrival times are taken before a user-space emulator delays a packet. For that very
reason the arrivals of a train, which tell the rate, are always the kernel's.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

HEADERS = 14 + 20 + 8
"""Bytes of Ethernet, IPv4 and UDP headers."""

SMALLEST_PAYLOAD = 24
LARGEST_PAYLOAD = 1472
LARGEST_SEND = 64_000

SO_TIMESTAMPNS = 35
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
UDP_SEGMENT = 103
UDP_GRO = 104
BUFFER = 16 * 2**20

_HEADER = struct.Struct("!4sBxxxIIq")
_TIME = struct.Struct("@qq")
_INT = struct.Struct("@i")
MARK = b"CtmL"
KINDS = ("delay", "stream", "loss", "train")
DELAY, STREAM, LOSS, TRAIN, ECHO = range(5)

CLOSEST = 2.0
"""Milliseconds between two sendings: shorter sleeps would be late by more than they last."""


@dataclass
class Received:
    """What came of one task."""

    kind: int
    sent: list[int] = field(default_factory=list)
    delays: list[int] = field(default_factory=list)
    arrivals: list[tuple[int, int]] = field(default_factory=list)
    packets: int = 0
    frame: int = 0


class Receiver(threading.Thread):
    """Takes packets until told to stop."""

    def __init__(self, port: int, *, echo: bool, kernel: bool) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        _make_room(self.socket, SO_RCVBUFFORCE, socket.SO_RCVBUF)
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.socket.bind(("", port))
        self.received: dict[int, Received] = {}
        self.echoed: dict[int, list[tuple[int, int]]] = {}
        self.stopped = threading.Event()
        self._echo = echo
        self._kernel = kernel
        self._hurries = True

    def run(self) -> None:
        """Take packets."""
        _hurry()
        while not self.stopped.is_set():
            if select.select([self.socket], [], [], 0.05)[0]:
                self._take()

    def _take(self) -> None:
        data, ancillary, _, sender = self.socket.recvmsg(65536, 128)
        now = time.time_ns()
        if len(data) < _HEADER.size:
            return
        mark, kind, task, _, sent = _HEADER.unpack_from(data)
        if mark != MARK:
            return
        segment, stamped = _told_by_kernel(ancillary, len(data), now)
        arrived = stamped if self._kernel else now
        if kind == ECHO:
            self.echoed.setdefault(task, []).append((sent, arrived - sent))
            return
        packets = -(-len(data) // segment)
        entry = self.received.setdefault(task, Received(kind))
        entry.packets += packets
        entry.frame = segment + HEADERS
        if kind in (LOSS, TRAIN):
            self._relax()
            if kind == TRAIN:
                entry.arrivals.append((stamped, packets))
            return
        entry.sent.append(sent)
        entry.delays.append(arrived - sent)
        if self._echo and kind == DELAY:
            held = time.time_ns() - arrived
            answer = _HEADER.pack(MARK, ECHO, task, 0, sent + held)
            self.socket.sendto(answer + data[_HEADER.size :], sender)

    def _relax(self) -> None:
        """From here on packets are many."""
        if self._hurries:
            self._hurries = False
            _hurry(in_time=False)


def _told_by_kernel(
    ancillary: list[tuple[int, int, bytes]], length: int, now: int
) -> tuple[int, int]:
    """Bytes of each packet that came in one piece, and when it came: `now` where it is not said."""
    segment, stamped = length, now
    for level, what, value in ancillary:
        if level == socket.SOL_SOCKET and what == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIME.unpack(value)
            stamped = seconds * 1_000_000_000 + nanoseconds
        elif level == socket.IPPROTO_UDP and what == UDP_GRO:
            segment = min(segment, _INT.unpack_from(value)[0])
    return segment, stamped


@dataclass(frozen=True)
class Probe:
    """Small packets that are sent at the same time, `count` from `number` on."""

    at: int
    task: int
    kind: int
    number: int
    count: int
    address: str
    payload: int


def _probes(at: int, task: dict[str, Any]) -> list[Probe]:
    """All packets of a task; its first is due at `at`."""
    interval = task["interval_ms"]
    kind = KINDS.index(task["kind"])
    together = max(1, round(CLOSEST / interval)) if kind == LOSS else 1
    return [
        Probe(
            at=at + int(number * interval * 1e6),
            task=task["task"],
            kind=kind,
            number=number,
            count=min(together, task["count"] - number),
            address=task["address"],
            payload=task["payload"],
        )
        for number in range(0, task["count"], together)
    ]


class Schedule:
    """When this machine sends what, by its wall clock."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.start = plan["start_ns"]
        self.port = plan["port"]
        self.probes: list[Probe] = []
        self.trains: list[tuple[int, dict[str, Any]]] = []
        for task in plan["tasks"]:
            at = self.start + int(task["at_ms"] * 1e6)
            if task["kind"] == "train":
                self.trains.append((at, task))
            else:
                self.probes += _probes(at, task)
        self.probes.sort(key=lambda each: each.at)
        self.trains.sort(key=lambda each: each[0])

    def send(self, opened: socket.socket, begun: int) -> dict[int, int]:
        """Send everything in time; packets sent per train. `begun`: when all was ready."""
        sent: dict[int, int] = {}
        trains = list(self.trains)
        _hurry()
        for probe in self.probes:
            if probe.at < begun and begun > self.start:
                continue
            while trains and trains[0][0] <= probe.at:
                sent.update(self._train(*trains.pop(0)))
            if probe.kind == LOSS:
                _hurry(in_time=False)
            _sleep_until(probe.at)
            address = (probe.address, self.port)
            rest = bytes(probe.payload - _HEADER.size)
            for number in range(probe.number, probe.number + probe.count):
                header = _HEADER.pack(MARK, probe.kind, probe.task, number, time.time_ns())
                _send(opened, header + rest, address)
        _hurry(in_time=False)
        for at, train in trains:
            sent.update(self._train(at, train))
        return sent

    def _train(self, at: int, task: dict[str, Any]) -> dict[int, int]:
        payload, count = task["payload"], task["count"]
        ahead = task.get("ahead", count)
        per_send = max(1, min(LARGEST_SEND // payload, 40))
        packet = _HEADER.pack(MARK, TRAIN, task["task"], 0, 0) + bytes(payload - _HEADER.size)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            _make_room(opened, SO_SNDBUFFORCE, socket.SO_SNDBUF)
            try:
                opened.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, payload)
            except OSError:
                per_send = 1
            left = count
            interval_ns = task["interval_ms"] * 1e6
            while left:
                # No more at once than are due: a short queue would drop the whole of it.
                next_ns = at + int(max(0, count - left - ahead) * interval_ns)
                _sleep_until(next_ns)
                due = ahead + int((time.time_ns() - at) / interval_ns) + 1 - (count - left)
                now = min(left, per_send, max(1, due))
                if not _send(opened, packet * now, (task["address"], self.port)):
                    break
                left -= now
        return {task["task"]: count - left}


def _make_room(opened: socket.socket, beyond: int, within: int) -> None:
    """As large a buffer as may be had: beyond the host's limit it takes its privileges."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, beyond, BUFFER)
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, within, BUFFER)


def _hurry(*, in_time: bool = True) -> None:
    """Let this thread run as soon as it has something to do, or like any other again.

    Few packets then tell the link alone, not how long a program waits for a processor; many would
    keep the emulator from its own. Where the kernel does not allow it nothing changes.
    """
    policy, priority = (os.SCHED_FIFO, 1) if in_time else (os.SCHED_OTHER, 0)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, policy, os.sched_param(priority))


def _send(opened: socket.socket, data: bytes, address: tuple[str, int]) -> bool:
    """Send, and tell whether it went: an address without a way there is nobody's error here."""
    try:
        opened.sendto(data, address)
    except OSError:
        return False
    return True


def _sleep_until(at: int) -> None:
    left = at - time.time_ns()
    if left > 0:
        time.sleep(left * 1e-9)


def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Carry out a plan; the result, ready for JSON."""
    receiver = Receiver(plan["port"], echo=plan["echo"], kernel=plan["kernel"])
    receiver.start()
    schedule = Schedule(plan)
    gc.collect()
    gc.disable()
    sys.setswitchinterval(2e-4)
    begun = time.time_ns()
    late = max(0, begun - schedule.start)
    sent = schedule.send(receiver.socket, begun)
    expected = {int(task): count for task, count in plan["expected"].items()}
    echoes = {task["task"]: task["count"] for task in plan["tasks"] if task["kind"] == "delay"}
    until = time.monotonic_ns() + plan["end_ns"] - time.time_ns()
    while time.monotonic_ns() < until:
        received = receiver.received
        if all(
            task in received and received[task].packets >= n for task, n in expected.items()
        ) and (
            not plan["echo"]
            or all(len(receiver.echoed.get(task, ())) >= n for task, n in echoes.items())
        ):
            break
        time.sleep(0.02)
    receiver.stopped.set()
    receiver.join()
    receiver.socket.close()
    return {
        "start_ns": schedule.start,
        "late_ms": late / 1e6,
        "sent": sent,
        "received": {
            task: {
                "kind": KINDS[each.kind],
                "sent_ns": each.sent,
                "delays_ns": each.delays,
                "arrivals": each.arrivals,
                "packets": each.packets,
                "frame": each.frame,
            }
            for task, each in receiver.received.items()
        },
        "echoed": receiver.echoed,
    }


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
    print()
