"""Delays, loses and keeps in order the packets that wait in netfilter queues.

    python -m continuum_runtime.delay_emulator IDENTITY TABLE
    python -m continuum_runtime.delay_emulator --probe

One process serves all machines of one deployment on one host. In each machine's network namespace
it binds one queue per link that ends there; rules in the namespace put arriving packets into the
queues. A packet is released at

    max(release of the packet before it of its flow, arrival + D(arrival) + length / rate)

with the delay D of its path, a queue and a source address, as `continuum_runtime.jitter` has it. A
flow is what has the same addresses, protocol and ports; fragments go by addresses and protocol. A
queue keeps 1024 flows in order, and those of the same hash count as one. The rate itself is
enforced at the sender by the kernel's token bucket, which lets a packet go when its transmission
would begin on an idle link; `length / rate` is the time until its last bit would have left. A
packet that is lost waits as long as any other: the kernel looks for a packet from the oldest on.

The table is that of `continuum_runtime.delay_table`; what is counted goes where and as
`continuum_runtime.link_series` says. The state file is a JSON object: `process` (its number),
`configuration` (the table's digest).

It ends on SIGTERM, and when the last of its machines has ended. When it is gone, packets that the
rules catch are dropped by the kernel: nothing passes unshaped.

`native/delay_emulator.c` is the same in C, for many more packets; this program is what it is compared
with in tests, and stands in where no compiler is to be had.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import heapq
import json
import os
import queue as queues
import re
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from continuum_runtime import delay_emulator_codec as codec
from continuum_runtime import delay_table, jitter, link_series

MAXIMUM_HELD = 200_000
"""Packets that one queue may hold."""

RECEIVE_BUFFER = 64 * 2**20
"""Bytes of announcements that one socket may hold until they are read."""

ANSWER_TIMEOUT = 5.0
"""Seconds for the kernel to answer a request."""

AT_ONCE = 64
"""Packets read from one machine, or released, in a row."""

FLOWS = 1024

LATEST = 600_000_000_000
"""Nanoseconds by which a packet may be read too late; an older one has a stamp of another clock."""

CLOCK_STEP = 2_000_000
"""Nanoseconds by which the wall clock may leave the monotonic one at once; more is a clock that was
set, and for a window the kernel's stamps are of no use."""

LOSS_SOURCE = 2**32
"""Beyond every address: the path whose numbers decide on losses."""

CLONE_NEWNET = 0x40000000
PR_SET_TIMERSLACK = 29
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33

_ARRIVAL = struct.Struct("!QQ")
_ADDRESSES = struct.Struct("!Q")
_HEADER = struct.Struct("!BxHxxHxBxxI")
_PORTS = struct.Struct("!I")

WITH_PORTS = frozenset({6, 17, 33, 132, 136})
"""Protocols whose headers begin with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite."""


class Stop(BaseException):
    """SIGTERM or SIGINT has come."""


@dataclass(eq=False)
class Queue:
    """The treatment of the packets of one queue, and the counts of them in a window.

    Attributes:
        accept, drop: messages of the two verdicts, without the packet's number.
        released: by flow, when its last packet goes, in ns.
        arrived: how many packets have.
        held: how many of them wait.
    """

    settings: delay_table.Queue
    accept: bytes
    drop: bytes
    loss_key: int
    released: dict[int, int] = field(default_factory=dict)
    arrived: int = 0
    held: int = 0
    keys: dict[int, int] = field(default_factory=dict)
    packets: int = 0
    carried: int = 0
    lost: int = 0
    refused: int = 0
    backlog: int = 0
    waits: int = 0
    lateness: link_series.Lateness = field(default_factory=link_series.Lateness)

    @classmethod
    def of(cls, settings: delay_table.Queue) -> Queue:
        """The queue that a line of the table describes."""
        return cls(
            settings,
            accept=codec.verdict_prefix(settings.number, codec.ACCEPT),
            drop=codec.verdict_prefix(settings.number, codec.DROP),
            loss_key=jitter.key(settings.seed, LOSS_SOURCE),
        )

    def release(self, packet: bytes, arrival: int) -> tuple[int, bool]:
        """The time at which a packet goes that arrived at `arrival`, in ns, and whether it is lost.

        `packet` is its beginning: an IPv4 header, and what is there of the next one.
        """
        settings = self.settings
        first, length, fragment, protocol, source = _HEADER.unpack_from(packet)
        start = (first & 15) * 4
        ports = 0
        if not fragment & 0x3FFF and protocol in WITH_PORTS and len(packet) >= start + 4:
            (ports,) = _PORTS.unpack_from(packet, start)
        (ends,) = _ADDRESSES.unpack_from(packet, 12)
        flow = jitter.mix(ends ^ jitter.mix(ports << 8 | protocol)) % FLOWS
        wait = settings.process.centre
        if settings.process.slot:
            key = self.keys.get(source)
            if key is None:
                key = self.keys[source] = jitter.key(settings.seed, source)
            wait = jitter.delay(settings.process, key, arrival)
        due = arrival + int(wait + (length + codec.ETHERNET_HEADER) * settings.byte)
        due = max(due, self.released.get(flow, 0))
        self.released[flow] = due
        lost = settings.loss and jitter.draw(self.loss_key, self.arrived) >> 11 < settings.loss
        self.arrived += 1
        return due, bool(lost)

    def record(self, machine: str, start: int) -> link_series.Record:
        """The counts of the window that began at `start`; a new one begins."""
        kept = self.packets - self.lost - self.refused
        found = link_series.Record(
            machine,
            self.settings.number,
            start,
            self.packets,
            self.carried,
            self.lost,
            self.refused,
            self.backlog,
            self.waits / kept / 1000 if kept else 0.0,
            self.lateness.quantile(50),
            self.lateness.quantile(99),
            self.lateness.largest,
        )
        self.packets = self.carried = self.lost = self.refused = self.waits = 0
        self.backlog = self.held
        self.lateness = link_series.Lateness()
        return found


@dataclass(eq=False)
class Gate:
    """One machine: its socket, its queues by their number as it stands in messages.

    `process` is a descriptor that becomes readable when the machine ends, None when the
    namespace belongs to no process. `early` holds messages of packets that came while the queues
    were being opened. `counters` is the kernel's own file of them, None where it is not read.
    """

    name: str
    socket: socket.socket
    queues: dict[bytes, Queue]
    process: int | None = None
    early: list[bytes] = field(default_factory=list)
    counters: int | None = None


class Series:
    """A thread that writes what is counted: files are no business of the loop's."""

    def __init__(self, folder: Path, gates: list[Gate]) -> None:
        self._writer = link_series.Writer(folder, [gate.name for gate in gates])
        self._gates = gates
        self._places = {gate.name: place for place, gate in enumerate(gates)}
        self._dropped: dict[tuple[str, int], int] = {}
        self._waiting: queues.SimpleQueue[list[link_series.Record] | None] = queues.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, records: list[link_series.Record]) -> None:
        """Have them written soon."""
        self._waiting.put(records)

    def close(self) -> None:
        """Write what there is, and end."""
        self._waiting.put(None)
        self._thread.join(ANSWER_TIMEOUT)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        while (records := self._waiting.get()) is not None:
            drops = {
                (name, number): total
                for name in {record.machine for record in records}
                for number, total in self._read_drops(self._gates[self._places[name]])
            }
            packed = []
            for record in records:
                at = (record.machine, record.queue)
                dropped = drops.get(at, 0)
                overflow = record.overflow + max(0, dropped - self._dropped.get(at, 0))
                self._dropped[at] = dropped
                counted = record._replace(overflow=overflow)
                packed.append(link_series.pack(counted, self._places[record.machine]))
            try:
                self._writer.write(b"".join(packed))
            except OSError as error:
                print(f"{error.filename}: {error.strerror}", file=sys.stderr)

    def _read_drops(self, gate: Gate) -> Iterator[tuple[int, int]]:
        """By queue: packets that a full queue, or a full socket, did not take."""
        if gate.counters is None:
            return
        with contextlib.suppress(OSError):
            for line in os.pread(gate.counters, 2**20, 0).decode().splitlines():
                words = line.split()
                yield int(words[0]), int(words[5]) + int(words[6])


class Emulator:
    """The loop over all machines. Make it before anything else is opened.

    `select` takes descriptors below 1024 only; ours is the poll's, and that must be one of them.
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._gates: dict[int, Gate] = {}
        self._ends: dict[int, Gate] = {}
        self._held: list[tuple[int, int, Gate, Queue, bytes]] = []
        self._count = 0
        self._active: dict[Queue, str] = {}
        self._window_end = 0
        self._ahead = time.time_ns() - time.monotonic_ns()
        self._compared = time.monotonic_ns()
        self._distrust_until = 0

    def add(self, gate: Gate) -> None:
        """Serve this machine too."""
        self._gates[gate.socket.fileno()] = gate
        self._poll.register(gate.socket, select.EPOLLIN)
        if gate.process is not None:
            self._ends[gate.process] = gate
            self._poll.register(gate.process, select.EPOLLIN)

    def run(self, folder: Path) -> None:
        """Serve until no machine is left; what is counted goes to a folder."""
        # `select` on the poll's own descriptor waits to the microsecond, `poll` to the millisecond.
        wait = (self._poll.fileno(),)
        held = self._held
        clock = time.monotonic_ns
        series = Series(folder, list(self._gates.values()))
        self._begin_window(clock())
        try:
            for gate in list(self._gates.values()):
                while gate.early:
                    self._receive(gate)
            while self._gates:
                now = clock()
                if now >= self._window_end:
                    self._close_window(now, series)
                ends = [held[0][0]] if held else []
                ends += [self._window_end] if self._active else []
                if not ends:
                    select.select(wait, (), ())
                elif (left := min(ends) - now) > 0:
                    select.select(wait, (), (), left * 1e-9)
                self._release()
                for descriptor, _ in self._poll.poll(0):
                    if descriptor in self._gates:
                        self._receive(self._gates[descriptor])
                    else:
                        self._close(self._ends.pop(descriptor))
                    self._release()
        finally:
            self._close_window(clock(), series)
            series.close()

    def _begin_window(self, now: int) -> None:
        self._window_end = now - now % link_series.WINDOW_NS + link_series.WINDOW_NS

    def _close_window(self, now: int, series: Series) -> None:
        start = self._window_end - link_series.WINDOW_NS + self._ahead
        if self._active:
            series.put([queue.record(name, start) for queue, name in self._active.items()])
            self._active.clear()
        self._begin_window(now)

    def _release(self) -> None:
        """Let go of what is due, at most `AT_ONCE` packets."""
        held = self._held
        now = time.monotonic_ns()
        if not held or held[0][0] > now:
            return
        due: dict[Gate, list[bytes]] = {}
        gone: list[tuple[int, Gate, Queue]] = []
        while held and held[0][0] <= now and len(gone) < AT_ONCE:
            at, _, gate, queue, verdict = heapq.heappop(held)
            due.setdefault(gate, []).append(verdict)
            gone.append((at, gate, queue))
        for gate, verdicts in due.items():
            _send(gate, verdicts)
        now = time.monotonic_ns()
        for at, gate, queue in gone:
            self._active[queue] = gate.name
            queue.held -= 1
            queue.lateness.add(now - at)

    def _receive(self, gate: Gate) -> None:
        """Read what has arrived for one machine, at most `AT_ONCE` packets."""
        now = time.monotonic_ns()
        self._compare_clocks(now)
        receive = gate.socket.recv
        early = gate.early
        for _ in range(AT_ONCE):
            try:
                data = early.pop() if early else receive(4096)
            except BlockingIOError:
                break
            queue = gate.queues.get(data[codec.QUEUE_NUMBER])
            if queue is not None and data[codec.KIND] == codec.KIND_PACKET:
                self._take(gate, queue, data, now)

    def _compare_clocks(self, now: int) -> None:
        """Arrival times come from the wall clock, which may be set; releases are monotonic."""
        ahead = time.time_ns() - now
        if abs(ahead - self._ahead) > CLOCK_STEP + (now - self._compared) // 1000:
            self._distrust_until = now + link_series.WINDOW_NS
        self._ahead, self._compared = ahead, now

    def _take(self, gate: Gate, queue: Queue, data: bytes, now: int) -> None:
        """One announcement of a packet."""
        number = data[codec.PACKET_NUMBER]
        where = codec.layout(data)
        self._active[queue] = gate.name
        queue.packets += 1
        if not where.header:
            queue.refused += 1
            _send(gate, [queue.drop + number])
            return
        arrival = now
        if where.timestamp and now >= self._distrust_until:
            seconds, microseconds = _ARRIVAL.unpack_from(data, where.timestamp)
            stamped = seconds * 1_000_000_000 + microseconds * 1000 - self._ahead
            if 0 <= now - stamped <= LATEST:
                arrival = stamped
        packet = data[where.header : where.end]
        due, lost = queue.release(packet, arrival)
        queue.carried += int.from_bytes(packet[2:4], "big") + codec.ETHERNET_HEADER
        if lost:
            queue.lost += 1
        else:
            queue.waits += due - arrival
        queue.held += 1
        queue.backlog = max(queue.backlog, queue.held)
        self._count += 1
        verdict = (queue.drop if lost else queue.accept) + number
        heapq.heappush(self._held, (due, self._count, gate, queue, verdict))

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
        counters, gate.counters = gate.counters, None
        if counters is not None:
            os.close(counters)


def _send(gate: Gate, verdicts: list[bytes]) -> None:
    # A packet may be gone (its interface went down): the answer that says so is passed over.
    gate.socket.send(b"".join(verdicts))


def enter(namespace: int) -> None:
    """Move this thread into the network namespace of an open descriptor."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(namespace, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "setns")


def open_queues(whole: dict[int, bool]) -> tuple[socket.socket, list[bytes]]:
    """A socket in the current network namespace that gets the packets of these queues.

    `whole` says of each, by its number, whether large packets of segmentation offload stay whole.

    Returns the socket, and messages of packets that have come already, the latest first.

    Raises:
        OSError: the kernel has no queues for packets, or another process has one of them.
    """
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, codec.NETLINK_NETFILTER)
    try:
        opened.bind((0, 0))
        opened.setsockopt(codec.SOL_NETLINK, codec.NETLINK_NO_ENOBUFS, 1)
        make_room(opened)
        opened.settimeout(ANSWER_TIMEOUT)
        early: list[bytes] = []
        for number in whole:
            early += _ask(opened, codec.bind(number))
        for number, uncut in whole.items():
            request = codec.configure(number, maximum_length=MAXIMUM_HELD, whole=uncut)
            early += _ask(opened, request)
        opened.setblocking(False)  # noqa: FBT003  the standard library's own signature
    except BaseException:
        opened.close()
        raise
    return opened, early[::-1]


def make_room(opened: socket.socket) -> None:
    """As large a buffer for announcements as may be had, and a word where it is smaller.

    Beyond the host's own limit it takes privileges that user namespaces do not have.
    """
    try:
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        # The kernel tells twice what may be asked for.
        got = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        print(
            f"the buffer for announcements of packets is {got} bytes instead of {RECEIVE_BUFFER} "
            "(net.core.rmem_max)",
            file=sys.stderr,
        )


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


def open_gate(machine: delay_table.Machine) -> Gate:
    """Open a machine's queues. Leaves this thread in the machine's network namespace.

    Raises:
        OSError: the namespace is gone, or a queue cannot be had.
    """
    belongs = _PROCESS_NAMESPACE.fullmatch(machine.namespace)
    process = os.pidfd_open(int(belongs[1])) if belongs else None
    namespace = os.open(machine.namespace, os.O_RDONLY)
    try:
        enter(namespace)
    finally:
        os.close(namespace)
    opened, early = open_queues({each.number: each.whole for each in machine.queues})
    served = {each.number.to_bytes(2, "big"): Queue.of(each) for each in machine.queues}
    # It stays that of this namespace wherever the thread is later.
    counters = os.open("/proc/thread-self/net/netfilter/nfnetlink_queue", os.O_RDONLY)
    return Gate(machine.name, opened, served, process, early, counters)


def prefer_this_process() -> None:
    """Wake up on time: a low real-time priority where it is allowed, no pauses, no timer slack."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    # The other thread gives way at once.
    sys.setswitchinterval(1e-4)
    gc.collect()
    gc.freeze()
    gc.disable()


def stamp_arrivals() -> socket.socket:
    """Make the kernel note when packets arrive, for as long as the returned socket is open."""
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asking.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return asking


def serve(path: Path) -> None:
    """Run until the last machine has ended.

    Raises:
        OSError: a namespace is gone, or a queue cannot be had.
        ValueError: the file holds no table.
        Stop: SIGTERM or SIGINT came.
    """
    table = delay_table.read(path.read_text())
    state = Path(table.state)
    emulator = Emulator()
    # Three descriptors for each machine, and a few of our own.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with stamp_arrivals():
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        for each in table.machines:
            emulator.add(open_gate(each))
        enter(home)
        os.close(home)
        prefer_this_process()
        ready = {"process": os.getpid(), "configuration": table.digest}
        temporary = state.with_name(f".{state.name}.{os.getpid()}")
        temporary.write_text(json.dumps(ready) + "\n")
        temporary.replace(state)
        try:
            emulator.run(Path(table.series))
        finally:
            state.unlink(missing_ok=True)


def _stop(*_: object) -> None:
    raise Stop


def main(arguments: list[str]) -> int:
    """Run as a program; the exit status."""
    if arguments == ["--probe"]:
        try:
            open_queues({1: True})[0].close()
        except OSError as error:
            print(f"no packet queues: {error.strerror}")
            return 1
        return 0
    if len(arguments) != 2:
        print("usage: delay_emulator IDENTITY TABLE | --probe", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        serve(Path(arguments[1]))
    except Stop:
        return 0
    except OSError as error:
        said = f"{error.filename or 'delay emulator'}: {error.strerror}"
    except ValueError as error:
        said = f"{arguments[1]}: {error}"
    else:
        return 0
    print(said, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
