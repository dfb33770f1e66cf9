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

A task of kind `delay` sends packets at even intervals; one of kind `train` sends them a
quarter faster than the link should take them, and as many more. The result is a JSON object:

    late_ms    by how much this program was ready too late for its plan, 0 when it was not
    sent       by task of kind `train`: packets handed to the kernel
    received   by task: {kind, delays_ns, arrivals: [[nanoseconds, packets], …], packets, frame}
    echoed     by task: round trips in nanoseconds

Delays are the difference of the two machines' wall clocks, and round trips are without the time
that the other machine took to answer. Where `kernel` is not set both are read in user space: the
kernel's own arrival times are taken before a user-space emulator delays a packet. For that very
reason the arrivals of a train, which tell the rate, are always the kernel's.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
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
DELAY, TRAIN, ECHO = range(3)

PACE = 1.25
"""How much faster than the link should be a train is sent, so that one that is too fast shows."""
LEAD_MS, TOGETHER_MS = 20.0, 1.0
"""Of the link's time: what a train is ahead from its beginning, and what is sent at once."""


@dataclass
class Received:
    """What came of one task."""

    kind: int
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
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.socket.bind(("", port))
        self.received: dict[int, Received] = {}
        self.echoed: dict[int, list[int]] = {}
        self.stopped = threading.Event()
        self._echo = echo
        self._kernel = kernel

    def run(self) -> None:
        """Take packets."""
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
        segment, stamped = len(data), now
        for level, what, value in ancillary:
            if level == socket.SOL_SOCKET and what == SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIME.unpack(value)
                stamped = seconds * 1_000_000_000 + nanoseconds
            elif level == socket.IPPROTO_UDP and what == UDP_GRO:
                segment = min(segment, _INT.unpack_from(value)[0])
        arrived = stamped if self._kernel else now
        if kind == ECHO:
            self.echoed.setdefault(task, []).append(arrived - sent)
            return
        packets = -(-len(data) // segment)
        entry = self.received.setdefault(task, Received(kind))
        entry.packets += packets
        entry.frame = segment + HEADERS
        if kind == TRAIN:
            entry.arrivals.append((stamped, packets))
            return
        entry.delays.append(arrived - sent)
        if self._echo:
            held = time.time_ns() - arrived
            answer = _HEADER.pack(MARK, ECHO, task, 0, sent + held)
            self.socket.sendto(answer + data[_HEADER.size :], sender)


class Schedule:
    """When this machine sends what, by its wall clock."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.start = plan["start_ns"]
        self.port = plan["port"]
        self.probes: list[tuple[int, int, int, str, int]] = []
        self.trains: list[tuple[int, dict[str, Any]]] = []
        for task in plan["tasks"]:
            at = self.start + int(task["at_ms"] * 1e6)
            if task["kind"] == "train":
                self.trains.append((at, task))
                continue
            interval = task["interval_ms"] * 1e6
            self.probes += [
                (
                    at + int(number * interval),
                    task["task"],
                    number,
                    task["address"],
                    task["payload"],
                )
                for number in range(task["count"])
            ]
        self.probes.sort()
        self.trains.sort(key=lambda each: each[0])

    def send(self, opened: socket.socket) -> dict[int, int]:
        """Send everything in time; packets sent per train."""
        sent: dict[int, int] = {}
        trains = list(self.trains)
        for at, task, number, address, payload in self.probes:
            while trains and trains[0][0] <= at:
                sent.update(self._train(*trains.pop(0)))
            _sleep_until(at)
            header = _HEADER.pack(MARK, DELAY, task, number, time.time_ns())
            _send(opened, header + bytes(payload - _HEADER.size), (address, self.port))
        for at, train in trains:
            sent.update(self._train(at, train))
        return sent

    def _train(self, at: int, task: dict[str, Any]) -> dict[int, int]:
        payload, count = task["payload"], task["count"]
        per_send = max(1, min(LARGEST_SEND // payload, 40))
        packet = _HEADER.pack(MARK, TRAIN, task["task"], 0, 0) + bytes(payload - _HEADER.size)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            with contextlib.suppress(OSError):
                opened.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
            try:
                opened.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, payload)
            except OSError:
                per_send = 1
            _sleep_until(at)
            began = time.monotonic_ns()
            # The link's queue is never empty, so that it shows its rate; and no more is dropped
            # than what a short queue cannot hold of a quarter too much.
            each_ms = task["interval_ms"]
            left = total = math.ceil(count * PACE)
            while left:
                elapsed_ms = (time.monotonic_ns() - began) / 1e6
                due = int((LEAD_MS + elapsed_ms * PACE) / each_ms) - (total - left)
                now = min(left, per_send, due, max(1, int(TOGETHER_MS / each_ms)))
                if now < 1:
                    time.sleep(min(each_ms, TOGETHER_MS) / 2e3)
                    continue
                if not _send(opened, packet * now, (task["address"], self.port)):
                    break
                left -= now
        return {task["task"]: total - left}


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
    late = max(0, time.time_ns() - schedule.start)
    sent = schedule.send(receiver.socket)
    expected = {int(task): count for task, count in plan["expected"].items()}
    echoes = {task["task"]: task["count"] for task in plan["tasks"] if task["kind"] == "delay"}
    while time.time_ns() < plan["end_ns"]:
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
        "late_ms": late / 1e6,
        "sent": sent,
        "received": {
            task: {
                "kind": "train" if each.kind == TRAIN else "delay",
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
