"""Delays, loses and keeps in order the packets that wait in netfilter queues.

    python -m continuum_runtime.delay_emulator IDENTITY CONFIGURATION
    python -m continuum_runtime.delay_emulator --probe

One process serves all machines of one deployment on one host. In each machine's network namespace
it binds one queue per link that ends there; rules in the namespace put arriving packets into the
queues. A packet is released at

    max(release of the packet before it on the same path, arrival + delay + normal jitter + length / rate)

with the sampled delay never below 0. A path is one source address to one machine, so packets of a
flow are never reordered. The rate itself is enforced at the sender by the kernel's token bucket,
which lets a packet go when its transmission would begin on an idle link; `length / rate` is the
time until its last bit would have left.

The configuration is a JSON object:

    state      file that is written once all queues are bound, and removed at the end
    seed       text that the random numbers derive from
    machines   list of {name, namespace, queues}, each queue {queue, delay_ms, jitter_ms,
               loss_percent, rate_mbit (or null)}

The state is a JSON object: `process` (its number), `configuration` (SHA-256 of the file).

It ends on SIGTERM, and when the last of its machines has ended. When it is gone, packets that the
rules catch are dropped by the kernel: nothing passes unshaped.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import heapq
import json
import os
import random
import re
import resource
import select
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from continuum_runtime import delay_emulator_codec as codec

MAXIMUM_HELD = 200_000
"""Packets that one queue may hold."""

RECEIVE_BUFFER = 64 * 2**20
"""Bytes of announcements that one socket may hold until they are read."""

ANSWER_TIMEOUT = 5.0
"""Seconds for the kernel to answer a request."""

AT_ONCE = 64
"""Packets read from one machine before what is due is released."""

LONGEST_COMPENSATION = 100_000_000
"""Nanoseconds for which a late reading of a packet is made up for; more is a clock that jumped."""

CLONE_NEWNET = 0x40000000
PR_SET_TIMERSLACK = 29
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33

_ARRIVAL = struct.Struct("!QQ")
_LENGTH = struct.Struct("!H")


class Stop(BaseException):
    """SIGTERM or SIGINT has come."""


@dataclass(eq=False)
class Queue:
    """What is done to the packets of one queue. Times in nanoseconds.

    Attributes:
        delay, jitter: mean and standard deviation.
        loss: probability that a packet is dropped.
        byte: time that one byte takes at the link's rate.
        accept, drop: messages of the two verdicts, without the packet's number.
        released: by source address, when its last packet goes.
    """

    delay: float
    jitter: float
    loss: float
    byte: float
    accept: bytes
    drop: bytes
    random: random.Random
    released: dict[bytes, int] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: dict[str, Any], seed: str) -> Queue:
        """The queue that an entry of the configuration describes."""
        rate = settings["rate_mbit"]
        return cls(
            delay=settings["delay_ms"] * 1e6,
            jitter=settings["jitter_ms"] * 1e6,
            loss=settings["loss_percent"] / 100,
            byte=8e3 / rate if rate else 0.0,
            accept=codec.verdict_prefix(settings["queue"], codec.ACCEPT),
            drop=codec.verdict_prefix(settings["queue"], codec.DROP),
            random=random.Random(seed),
        )

    def release(self, source: bytes, length: int, arrival: int) -> int | None:
        """When a packet goes that arrived at `arrival`; None when it is lost."""
        if self.loss and self.random.random() < self.loss:
            return None
        delay = self.delay
        if self.jitter:
            delay = max(0.0, self.random.gauss(delay, self.jitter))
        due = arrival + int(delay + (length + codec.ETHERNET_HEADER) * self.byte)
        before = self.released.get(source, 0)
        due = max(due, before)
        self.released[source] = due
        return due


@dataclass(eq=False)
class Gate:
    """One machine: its socket, its queues by their number as it stands in messages.

    `process` is a descriptor that becomes readable when the machine ends, None when the
    namespace belongs to no process. `early` holds messages of packets that came while the queues
    were being opened.
    """

    name: str
    socket: socket.socket
    queues: dict[bytes, Queue]
    process: int | None = None
    early: list[bytes] = field(default_factory=list)


class Emulator:
    """The loop over all machines. Make it before anything else is opened.

    `select` takes descriptors below 1024 only; ours is the poll's, and that must be one of them.
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._gates: dict[int, Gate] = {}
        self._ends: dict[int, Gate] = {}
        self._held: list[tuple[int, int, Gate, bytes]] = []
        self._count = 0
        self._layouts: dict[int, codec.Layout] = {}

    def add(self, gate: Gate) -> None:
        """Serve this machine too."""
        self._gates[gate.socket.fileno()] = gate
        self._poll.register(gate.socket, select.EPOLLIN)
        if gate.process is not None:
            self._ends[gate.process] = gate
            self._poll.register(gate.process, select.EPOLLIN)

    def run(self) -> None:
        """Serve until no machine is left."""
        # `select` on the poll's own descriptor waits to the microsecond, `poll` to the millisecond.
        wait = (self._poll.fileno(),)
        held = self._held
        clock = time.monotonic_ns
        for gate in list(self._gates.values()):
            while gate.early:
                self._receive(gate)
        while self._gates:
            if not held:
                select.select(wait, (), ())
            elif (left := held[0][0] - clock()) > 0:
                select.select(wait, (), (), left * 1e-9)
            if held and held[0][0] <= clock():
                self._release()
            for descriptor, _ in self._poll.poll(0):
                if descriptor in self._gates:
                    self._receive(self._gates[descriptor])
                else:
                    self._close(self._ends.pop(descriptor))

    def _release(self) -> None:
        """Accept every packet that is due."""
        held = self._held
        now = time.monotonic_ns()
        due: dict[Gate, list[bytes]] = {}
        while held and held[0][0] <= now:
            _, _, gate, verdict = heapq.heappop(held)
            due.setdefault(gate, []).append(verdict)
        for gate, verdicts in due.items():
            _send(gate, verdicts)

    def _receive(self, gate: Gate) -> None:
        """Read what has arrived for one machine, at most `AT_ONCE` packets."""
        now = time.monotonic_ns()
        # Arrival times come from the wall clock, which may be set; releases are monotonic.
        ahead = time.time_ns() - now
        receive = gate.socket.recv
        early = gate.early
        lost = []
        for _ in range(AT_ONCE):
            try:
                data = early.pop() if early else receive(4096)
            except BlockingIOError:
                break
            queue = gate.queues.get(data[codec.QUEUE_NUMBER])
            if queue is None or data[codec.KIND] != codec.KIND_PACKET:
                continue
            number = data[codec.PACKET_NUMBER]
            where = self._layouts.get(len(data))
            if where is None:
                where = self._layouts[len(data)] = codec.layout(data)
            arrival = now
            if where.timestamp:
                seconds, microseconds = _ARRIVAL.unpack_from(data, where.timestamp)
                stamped = seconds * 1_000_000_000 + microseconds * 1000 - ahead
                if 0 <= now - stamped <= LONGEST_COMPENSATION:
                    arrival = stamped
            header = where.header
            (length,) = _LENGTH.unpack_from(data, header + 2)
            release = queue.release(data[header + 12 : header + 16], length, arrival)
            if release is None:
                lost.append(queue.drop + number)
            else:
                self._count += 1
                heapq.heappush(self._held, (release, self._count, gate, queue.accept + number))
        if lost:
            _send(gate, lost)

    def _close(self, gate: Gate) -> None:
        """Let go of a machine that has ended: an open socket would keep its namespace alive."""
        assert gate.process is not None
        for descriptor in (gate.process, gate.socket.fileno()):
            self._poll.unregister(descriptor)
        del self._gates[gate.socket.fileno()]
        self._held[:] = [each for each in self._held if each[2] is not gate]
        heapq.heapify(self._held)
        os.close(gate.process)
        gate.socket.close()


def _send(gate: Gate, verdicts: list[bytes]) -> None:
    # A packet may be gone (its interface went down): the answer that says so is passed over.
    gate.socket.send(b"".join(verdicts))


def enter(namespace: int) -> None:
    """Move this thread into the network namespace of an open descriptor."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(namespace, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "setns")


def open_queues(numbers: list[int]) -> tuple[socket.socket, list[bytes]]:
    """A socket in the current network namespace that gets the packets of these queues.

    Returns the socket, and messages of packets that have come already, the latest first.

    Raises:
        OSError: the kernel has no queues for packets, or another process has one of them.
    """
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, codec.NETLINK_NETFILTER)
    try:
        opened.bind((0, 0))
        opened.setsockopt(codec.SOL_NETLINK, codec.NETLINK_NO_ENOBUFS, 1)
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        opened.settimeout(ANSWER_TIMEOUT)
        early: list[bytes] = []
        for number in numbers:
            early += _ask(opened, codec.bind(number))
        for number in numbers:
            early += _ask(
                opened,
                codec.configure(number, copy=codec.IPV4_HEADER, maximum_length=MAXIMUM_HELD),
            )
        opened.setblocking(False)  # noqa: FBT003  the standard library's own signature
    except BaseException:
        opened.close()
        raise
    return opened, early[::-1]


def _ask(opened: socket.socket, request: bytes) -> list[bytes]:
    """Send a request and await its acknowledgement; returns what else came before it."""
    opened.send(request)
    others = []
    while (error := codec.acknowledgement(data := opened.recv(65536))) is None:
        others.append(data)
    if error:
        raise OSError(error, os.strerror(error), "packet queue")
    return others


_PROCESS_NAMESPACE = re.compile(r"/proc/(\d+)/ns/net")


def open_gate(machine: dict[str, Any], seed: str) -> Gate:
    """Open a machine's queues. Leaves this thread in the machine's network namespace.

    Raises:
        OSError: the namespace is gone, or a queue cannot be had.
    """
    belongs = _PROCESS_NAMESPACE.fullmatch(machine["namespace"])
    process = os.pidfd_open(int(belongs[1])) if belongs else None
    namespace = os.open(machine["namespace"], os.O_RDONLY)
    try:
        enter(namespace)
    finally:
        os.close(namespace)
    numbers = [settings["queue"] for settings in machine["queues"]]
    opened, early = open_queues(numbers)
    queues = {
        settings["queue"].to_bytes(2, "big"): Queue.of(
            settings, f"{seed}/{machine['name']}/{settings['queue']}"
        )
        for settings in machine["queues"]
    }
    return Gate(machine["name"], opened, queues, process, early)


def prefer_this_process() -> None:
    """Wake up on time: a low real-time priority where it is allowed, no pauses, no timer slack."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    gc.collect()
    gc.freeze()
    gc.disable()


def stamp_arrivals() -> socket.socket:
    """Make the kernel note when packets arrive, for as long as the returned socket is open."""
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asking.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return asking


def serve(configuration: Path) -> None:
    """Run until the last machine has ended.

    Raises:
        OSError: a namespace is gone, or a queue cannot be had.
        Stop: SIGTERM or SIGINT came.
    """
    content = configuration.read_bytes()
    settings = json.loads(content)
    state = Path(settings["state"])
    emulator = Emulator()
    # Two descriptors for each machine, and a few of our own.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with stamp_arrivals():
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        for each in settings["machines"]:
            emulator.add(open_gate(each, settings["seed"]))
        enter(home)
        os.close(home)
        prefer_this_process()
        ready = {"process": os.getpid(), "configuration": hashlib.sha256(content).hexdigest()}
        temporary = state.with_name(f".{state.name}.{os.getpid()}")
        temporary.write_text(json.dumps(ready) + "\n")
        temporary.replace(state)
        try:
            emulator.run()
        finally:
            state.unlink(missing_ok=True)


def _stop(*_: object) -> None:
    raise Stop


def main(arguments: list[str]) -> int:
    """Run as a program; the exit status."""
    if arguments == ["--probe"]:
        try:
            open_queues([1])[0].close()
        except OSError as error:
            print(f"no packet queues: {error.strerror}")
            return 1
        return 0
    if len(arguments) != 2:
        print("usage: delay_emulator IDENTITY CONFIGURATION | --probe", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        serve(Path(arguments[1]))
    except Stop:
        return 0
    except OSError as error:
        print(f"{error.filename or 'delay emulator'}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
