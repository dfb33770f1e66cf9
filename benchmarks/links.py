"""How exact the links are, and what they carry.

    benchmarks/run links [netem|nfqueue]

Needs root. The machines are network namespaces, made for this and removed at the end; everything
but the machines themselves is as in a deployment. Printed beside each figure is what it must
reach.

1. 20 machines on three tiers, all nine classes of links active at the same time: the difference
   between each packet's one-way delay and the delay asked for. Beside it what is not the emulator's:
   the same packets' delay without links, how late a program of real-time priority wakes up meanwhile
   that does nothing but sleep, and the time that was stolen from this host.
2. Rates, measured one class at a time by a train of packets.
3. One TCP connection over a link of 10 ms, without a rate and with 200 Mbit/s.

And of nfqueue, by its own counters:

4. Many frames between twenty machines, over links that lose 0.1 %: how many pass in a second of the
   emulator's processor time, and how late those are let go that are offered at its stated capacity.
5. Jitter of 7.5 ± 2.5 ms at four packet rates: the process itself over an hour, and packets of ten
   machines for some seconds.
6. TCP at 1 % and 5 % loss, 10 ms: against a sender that sends each frame as a packet of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from continuum.deployment import Deployment
from continuum.infrastructure.links import capacity, check, places, process, series
from continuum.infrastructure.links.choose import choose
from continuum.infrastructure.links.contract import Window
from continuum.infrastructure.links.evidence import Evidence, Limits
from continuum.infrastructure.links.jitter import delays
from continuum.infrastructure.links.measurement import RATE
from continuum.infrastructure.links.tolerance import DEFAULT
from continuum.infrastructure.plan import LinkSettings
from continuum.machine import Command
from continuum.parallel import for_each
from continuum.testing.link_lab import SOURCE, Ends, Lab, NamespaceMachine, lab, make_plan
from continuum_runtime import jitter

BACKBONE = LinkSettings(delay_ms=7.5, rate_mbit=1000)
MOBILE = LinkSettings(delay_ms=7.5, rate_mbit=7.21)
FAR = LinkSettings(delay_ms=45, rate_mbit=7.21)
NEAR = LinkSettings(delay_ms=2, rate_mbit=100)
CLASSES: Ends = {
    ("cloud", "cloud"): NEAR,
    ("edge", "edge"): NEAR,
    ("endpoint", "endpoint"): NEAR,
    ("cloud", "edge"): BACKBONE,
    ("edge", "cloud"): BACKBONE,
    ("edge", "endpoint"): MOBILE,
    ("endpoint", "edge"): MOBILE,
    ("cloud", "endpoint"): FAR,
    ("endpoint", "cloud"): FAR,
}
TIERS = {"cloud": 4, "edge": 6, "endpoint": 10}

PAIRS_PER_MACHINE = 3
INTERVAL_MS = 25.0
PROBES = 400
SLEEPER_SECONDS = 12.0
TCP_PORT = 47_011
TCP_SECONDS = 4.0
CHUNK = bytes(2**17)

LOSSY = LinkSettings(delay_ms=10, loss_percent=0.1)
JITTER = LinkSettings(delay_ms=7.5, jitter_ms=2.5)
PAIRS = 10
FLOOD_SECONDS = 4.0
FLOOD_BYTES = 64
FLOOD_FRAMES = 20
FLOOD_PORT = 47_012
CONNECTIONS = 8
GOODPUT_SECONDS = 6.0
SOL_UDP, UDP_SEGMENT = 17, 103


@dataclass(frozen=True)
class Emulated:
    """Machines with the links in force."""

    deployment: Deployment
    lab: Lab

    def rows(self) -> list[Window]:
        """The emulator's counts; waits until the last window is written."""
        time.sleep(0.3)
        return series.read(
            self.deployment, self.lab.plan, self.lab.interfaces, 0, time.time_ns() + 10**9
        )

    def processor_seconds(self) -> float:
        """That the emulator's process has had."""
        (number,) = process.find(self.deployment.identity)
        words = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def emulated(tiers: dict[str, int], links: Ends, emulator: str) -> Iterator[Emulated]:
    """Machines with the links in force."""
    plan = make_plan(tiers, links, emulator)
    with tempfile.TemporaryDirectory() as folder, lab(plan) as running:
        deployment = Deployment("lab", Path(folder))
        carrier = choose(emulator)
        try:
            carrier.apply(deployment, plan, running.interfaces)
            yield Emulated(deployment, running)
        finally:
            carrier.remove(deployment)


def run_in(machine: NamespaceMachine, *arguments: str) -> str:
    """Run a part of this program in a machine; what it prints."""
    command = Command(
        (sys.executable, __file__, *arguments), timeout=60, environment={"PYTHONPATH": SOURCE}
    )
    return machine.run(command).check().text


def delay_errors(running: Lab, *, links: bool = True) -> list[float]:
    """|measured − asked| in ms of every packet; packets on all classes at the same time.

    Without `links` nothing is in force, and their delay is what the programs take that measure it.
    """
    pairs = check.choose_pairs(running.plan, all_pairs=True)
    chosen: list[check.Pair] = []
    for _, group in itertools.groupby(
        sorted(pairs, key=lambda pair: pair.source.name), key=lambda pair: pair.source.name
    ):
        # One destination of each tier, a different one for each sender.
        mine = list(group)
        place = len(chosen) // PAIRS_PER_MACHINE
        for tier in running.plan.network.tiers:
            there = [pair for pair in mine if pair.destination.tier == tier]
            chosen.append(there[place % len(there)])
    tasks = [
        replace(
            task,
            at_ms=INTERVAL_MS * place / len(chosen),
            count=PROBES,
            interval_ms=INTERVAL_MS,
        )
        for place, task in enumerate(
            each for each in check.schedule(chosen) if each.kind == "delay"
        )
    ]
    results = check.carry_out(running.machines, tasks, 3.0, check.ONE_CLOCK)
    errors = []
    for task in tasks:
        settings = task.pair.link.settings
        asked = settings.delay_ms + check.sending_ms(check.PROBE_FRAME, settings) if links else 0.0
        got = results[task.pair.destination.name]["received"][str(task.number)]["delays_ns"]
        errors += [abs(nanoseconds / 1e6 - asked) for nanoseconds in got]
    print(f"   {len(tasks)} pairs, {len(errors)} of {len(tasks) * PROBES} packets arrived")
    return errors


def rate_errors(running: Lab) -> list[float]:
    """|measured / asked − 1| in percent of every class."""
    pairs = [
        pair
        for pair in check.choose_pairs(running.plan, all_pairs=False)
        if pair.link.settings.rate_mbit is not None
    ]
    errors = []
    for pair in pairs:
        tasks = [task for task in check.schedule([pair]) if task.kind == "train"]
        tasks = [replace(task, at_ms=0.0) for task in tasks]
        ends = [
            each
            for each in running.machines
            if each.name in (pair.source.name, pair.destination.name)
        ]
        results = check.carry_out(ends, tasks, 0.5, check.ONE_CLOCK)
        known = Evidence(pair.ends, pair.link.settings, DEFAULT, Limits(), {RATE})
        known.add(check.gather(pair, tasks, results, running.plan.network.links), 1)
        (found,) = known.measurements
        if found.measured is None:
            sys.exit(f"nothing arrived from {pair.source.name} at {pair.destination.name}")
        errors.append(100 * abs(found.measured / found.asked - 1))
    return errors


def throughput(running: Lab) -> float:
    """Mbit/s of frames that one TCP connection carries from the first machine to the second."""
    sender, receiver = running.machines
    return run_both(receiver, sender, "")


def run_both(receiver: NamespaceMachine, sender: NamespaceMachine, part: str) -> float:
    """Run `--receive` and `--send`, with `part` behind them, at the same time; what is received."""
    both = [(receiver, (f"--receive{part}",)), (sender, (f"--send{part}", receiver.address))]
    return float(for_each(lambda each: run_in(each[0], *each[1]), both)[0])


def sleep_and_tell() -> None:
    """Print how late a sleeper of real-time priority was, once every millisecond, in us."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
    late = []
    end = time.monotonic_ns() + int(SLEEPER_SECONDS * 1e9)
    while (before := time.monotonic_ns()) < end:
        time.sleep(0.001)
        late.append((time.monotonic_ns() - before) / 1e3 - 1000)
    print(*(float(each) for each in np.quantile(late, [0.5, 0.95])))


def stolen() -> tuple[float, float]:
    """Time that the host took from this one, and all time, in ticks."""
    words = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return words[7], sum(words)


def flood(address: str, rate: float = 1.1 * capacity.COMPILED / PAIRS) -> None:
    """Send that many frames a second, many in one call."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(SOL_UDP, UDP_SEGMENT, FLOOD_BYTES)
    data = bytes(FLOOD_FRAMES * FLOOD_BYTES)
    start, sent = time.monotonic(), 0
    while (now := time.monotonic()) < start + FLOOD_SECONDS:
        opened.sendto(data, (address, FLOOD_PORT))
        sent += FLOOD_FRAMES
        time.sleep(max(0.0, start + sent / rate - now))


def pace(address: str, rate: str) -> None:
    """Send that many packets a second."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    start, sent = time.monotonic(), 0
    while (now := time.monotonic()) < start + FLOOD_SECONDS:
        while sent < (now - start) * float(rate):
            opened.sendto(b"x" * 64, (address, FLOOD_PORT))
            sent += 1
        time.sleep(max(0.0, start + (sent + 1) / float(rate) - time.monotonic()))


def measure_capacity() -> None:
    """Measure the number of frames that pass, and their lateness."""
    tiers, links = {"edge": PAIRS, "endpoint": PAIRS}, {("edge", "endpoint"): LOSSY}
    with emulated(tiers, links, "nfqueue") as running:
        machines = running.lab.machines
        before = running.processor_seconds()
        pairs = list(zip(machines[:PAIRS], machines[PAIRS:], strict=True))
        for_each(lambda each: run_in(each[0], "--flood", each[1].address), pairs)
        rows = running.rows()
        spent = running.processor_seconds() - before
    packets = sum(row.packets for row in rows)
    full = sorted(rows, key=lambda row: row.start_ns)
    first, last = full[0].start_ns, full[-1].start_ns
    late = [row for row in rows if first + 3e8 < row.start_ns < last - 3e8]
    print(
        f"4. {2 * PAIRS} machines, {FLOOD_BYTES}-byte frames over links that lose 0.1 %, program: "
        f"{places.OnHost(running.deployment).program()}"
    )
    print(
        f"   frames a second                   {packets / FLOOD_SECONDS:10,.0f}  "
        f"(at least {capacity.COMPILED:,})"
    )
    print(
        f"   frames a second of a core         {packets / spent:10,.0f}  "
        f"(at least {capacity.COMPILED:,})"
    )
    print(f"   not held                          {sum(row.overflow for row in rows):10,}  (0)")
    print(
        f"   release late, median              {_median(late, 'late_p50_ms'):10.3f} ms  (at most 0.1)"
    )
    print(
        f"   release late, p99                 {_median(late, 'late_p99_ms'):10.3f} ms  (at most 0.5)"
    )


def _median(rows: Sequence[Window], name: str) -> float:
    return float(statistics.median(getattr(row, name) for row in rows))


def measure_jitter() -> None:
    """The process by itself, and packets that it delayed."""
    asked = jitter.process(JITTER.delay_ms * 1e6, JITTER.jitter_ms * 1e6)
    print("5. jitter of 7.5 ± 2.5 ms            mean, deviation  (within 3 %)")
    for rate in (1, 100, 1000, 10_000):
        hours = max(1.0, 20_000 / rate / 3600)
        at = (np.arange(int(min(rate * hours * 3600, 5e6))) * (1e9 / rate)).astype(np.int64)
        waited = (np.maximum.accumulate(at + delays(asked, jitter.key(1, 2), at)) - at) / 1e6
        print(
            f"   process, {rate:6,} packets/s         {waited.mean():6.3f} {waited.std():6.3f} ms"
        )
    tiers, links = {"edge": PAIRS, "endpoint": PAIRS}, {("edge", "endpoint"): JITTER}
    for rate in (10, 100, 1000):
        with emulated(tiers, links, "nfqueue") as running:
            machines = running.lab.machines
            pairs = list(zip(machines[:PAIRS], machines[PAIRS:], strict=True))
            for_each(lambda each: run_in(each[0], "--pace", each[1].address, str(rate)), pairs)  # noqa: B023
            rows = running.rows()
        packets = sum(row.packets for row in rows)
        mean = sum(row.delay_ms * row.packets for row in rows) / packets
        error = 1.27 * 2.5 / (PAIRS * FLOOD_SECONDS * 1e9 / asked.slot) ** 0.5
        print(
            f"   emulator, {packets / PAIRS / FLOOD_SECONDS:6,.0f} packets/s, {PAIRS} paths "
            f"{mean:6.3f} ± {error:.3f} ms (standard error)"
        )


def measure_goodput() -> None:
    """TCP over losses, large packets against single frames."""
    for loss in (1.0, 5.0):
        there = LinkSettings(delay_ms=10, loss_percent=loss)
        links: Ends = {("cloud", "edge"): there, ("edge", "cloud"): LinkSettings(delay_ms=10)}
        carried = []
        for single in (False, True):
            with emulated({"cloud": 1, "edge": 1}, links, "nfqueue") as running:
                sender, receiver = running.lab.machines
                if single:
                    frames = ("ip", "link", "set", "eth0", "gso_max_segs", "1")
                    sender.run(Command(frames)).check()
                carried.append(run_both(receiver, sender, "-all"))
        print(
            f"6. cubic at {loss:g} % loss, 10 ms: {carried[0]:6.1f} Mbit/s, one frame a packet "
            f"{carried[1]:6.1f}: {carried[0] / carried[1]:.2f}  (0.8 to 1.2)"
        )


def receive_all() -> None:
    """Print the Mbit/s of several connections, after their first second."""
    with socket.create_server(("", TCP_PORT), backlog=CONNECTIONS) as server:
        server.settimeout(20)
        opened = {}
        for _ in range(CONNECTIONS):
            connection = server.accept()[0]
            opened[connection.fileno()] = connection
    waiting = select.poll()
    for number in opened:
        waiting.register(number, select.POLLIN)
    start, count = time.monotonic(), 0
    while time.monotonic() < start + 1 + GOODPUT_SECONDS:
        for number, _ in waiting.poll(100):
            size = len(opened[number].recv(2**18))
            count += size if time.monotonic() > start + 1 else 0
    print(count * 8e-6 / GOODPUT_SECONDS)


def send_all(address: str) -> None:
    """Send on several connections, for longer than is measured."""
    opened = {}
    waiting = select.poll()
    for _ in range(CONNECTIONS):
        connection = connect(address, congestion=b"cubic")
        connection.setblocking(False)  # noqa: FBT003  the standard library's own signature
        opened[connection.fileno()] = connection
        waiting.register(connection, select.POLLOUT)
    end = time.monotonic() + 2 + GOODPUT_SECONDS
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end:
            for number, _ in waiting.poll(100):
                with contextlib.suppress(BlockingIOError):
                    opened[number].send(CHUNK)


def connect(address: str, congestion: bytes = b"") -> socket.socket:
    """A connection to the receiver, which may not listen yet."""
    deadline = time.monotonic() + 20
    while True:
        connection = socket.socket()
        connection.settimeout(20)
        if congestion:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion)
        try:
            connection.connect((address, TCP_PORT))
        except ConnectionRefusedError:
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return connection


def receive() -> None:
    """Print the rate in Mbit/s, headers included, after the connection's first second."""
    with socket.create_server(("", TCP_PORT)) as server:
        server.settimeout(20)
        connection, _ = server.accept()
    began: float | None = None
    start = time.monotonic()
    count = 0
    with connection:
        while data := connection.recv(2**18):
            if began is None and time.monotonic() - start > 1:
                began = time.monotonic()
            elif began is not None:
                count += len(data)
        assert began is not None
        print(count * 1514 / 1448 * 8e-6 / (time.monotonic() - began))


def send(address: str) -> None:
    """Send for `TCP_SECONDS`."""
    with connect(address) as connection:
        end = time.monotonic() + TCP_SECONDS
        while time.monotonic() < end:
            connection.sendall(CHUNK)


PARTS: dict[str, Callable[..., None]] = {
    "--receive": receive,
    "--send": send,
    "--receive-all": receive_all,
    "--send-all": send_all,
    "--flood": flood,
    "--pace": pace,
    "--sleep": sleep_and_tell,
}
"""Of this program, in machines."""


def main(arguments: Sequence[str]) -> None:
    """Print the figures."""
    match arguments:
        case [name, *rest] if name in PARTS:
            PARTS[name](*rest)
        case [("netem" | "nfqueue") as emulator]:
            measure(emulator)
        case []:
            measure("auto")
        case _:
            sys.exit(__doc__)


def measure(emulator: str) -> None:
    """Print the figures of one emulator."""
    print(f"emulator {choose(emulator).name}, {os.cpu_count()} cores")
    print(f"1. {sum(TIERS.values())} machines, {len(CLASSES)} classes of links, all active")
    with lab(make_plan(TIERS, CLASSES, emulator)) as alone:
        bare = sorted(delay_errors(alone, links=False))
    with emulated(TIERS, CLASSES, emulator) as running:
        machines = running.lab.machines
        before = stolen()
        measured: list[Callable[[], list[float]]] = [
            lambda: [float(each) for each in run_in(machines[0], "--sleep").split()],
            lambda: sorted(delay_errors(running.lab)),
        ]
        said, errors = for_each(lambda each: each(), measured)
        taken = [now - then for now, then in zip(stolen(), before, strict=True)]
        for name, share, sleeper, most in (
            ("median", 0.5, said[0], 0.1),
            ("95th percentile", 0.95, said[1], 0.5),
        ):
            found, floor = errors[int(share * len(errors))], bare[int(share * len(bare))]
            print(
                f"   error of delay, {name:16s}  {found:8.3f} ms, without links {floor:.3f}: "
                f"{found - floor:.3f} beyond  (at most {most}); of a sleeper {sleeper / 1e3:.3f}"
            )
        print(f"   stolen from this host             {100 * taken[0] / taken[1]:8.2f} %")
        rows = running.rows()
        for name in ("late_p50_ms", "late_p99_ms") if rows else ():
            print(f"   emulator's own, {name:16s}  {_median(rows, name) / 1e3:8.3f} ms")
        rates = rate_errors(running.lab)
        print(f"2. error of rate, largest of {len(rates)}       {max(rates):8.2f} %   (at most 5)")
    for name, rate in (("without a rate", None), ("of 200 Mbit/s", 200.0)):
        settings = LinkSettings(delay_ms=10, rate_mbit=rate)
        links: Ends = {("cloud", "edge"): settings, ("edge", "cloud"): settings}
        with emulated({"cloud": 1, "edge": 1}, links, emulator) as running:
            carried = throughput(running.lab)
        print(f"3. TCP over 10 ms {name:15s}     {carried:8.1f} Mbit/s  (at least 190)")

    if choose(emulator).name == "nfqueue":
        measure_capacity()
        measure_jitter()
        measure_goodput()


if __name__ == "__main__":
    main(sys.argv[1:])
