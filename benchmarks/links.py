"""How exact the links are, and what they carry.

    benchmarks/run links [netem|nfqueue]

Needs root. The machines are network namespaces, made for this and removed at the end; everything
but the machines themselves is as in a deployment. Printed beside each figure is what it must
reach.

1. 20 machines on three tiers, all nine classes of links active at the same time: the difference
   between each packet's one-way delay and the delay asked for.
2. Rates, measured one class at a time by a train of packets.
3. One TCP connection over a link of 10 ms, without a rate and with 200 Mbit/s.
"""

from __future__ import annotations

import itertools
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from continuum.deployment import Deployment
from continuum.infrastructure.links import check
from continuum.infrastructure.links.choose import choose
from continuum.infrastructure.plan import LinkSettings
from continuum.machine import Command
from continuum.parallel import for_each
from continuum.testing.link_lab import SOURCE, Ends, Lab, lab, make_plan

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
TCP_PORT = 47_011
TCP_SECONDS = 4.0
CHUNK = bytes(2**17)


@contextmanager
def emulated(tiers: dict[str, int], links: Ends, emulator: str) -> Iterator[Lab]:
    """Machines with the links in force."""
    plan = make_plan(tiers, links, emulator)
    with tempfile.TemporaryDirectory() as folder, lab(plan) as running:
        deployment = Deployment("lab", Path(folder))
        carrier = choose(emulator)
        try:
            carrier.apply(deployment, plan, running.interfaces)
            yield running
        finally:
            carrier.remove(deployment)


def delay_errors(running: Lab) -> list[float]:
    """|measured − asked| in ms of every packet; packets on all classes at the same time."""
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
        asked = settings.delay_ms + check.sending_ms(check.PROBE_FRAME, settings)
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
        for each in check.measurements(pair, tasks, results, running.plan, check.ONE_CLOCK):
            if each.measured is None:
                sys.exit(f"nothing arrived from {pair.source.name} at {pair.destination.name}")
            errors.append(100 * abs(each.measured / each.asked - 1))
    return errors


def throughput(running: Lab) -> float:
    """Mbit/s of frames that one TCP connection carries from the first machine to the second."""
    sender, receiver = running.machines

    def run(arguments: tuple[str, ...]) -> str:
        machine = receiver if arguments[0] == "--receive" else sender
        command = Command(
            (sys.executable, __file__, *arguments), timeout=60, environment={"PYTHONPATH": SOURCE}
        )
        return machine.run(command).check().text

    both = [("--receive",), ("--send", receiver.address)]
    return float(for_each(run, both)[0])


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
    deadline = time.monotonic() + 20
    while True:
        try:
            connection = socket.create_connection((address, TCP_PORT), timeout=20)
            break
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    with connection:
        end = time.monotonic() + TCP_SECONDS
        while time.monotonic() < end:
            connection.sendall(CHUNK)


def main(arguments: Sequence[str]) -> None:
    """Print the figures."""
    match arguments:
        case ["--receive"]:
            return receive()
        case ["--send", address]:
            return send(address)
        case [("netem" | "nfqueue") as emulator]:
            measure(emulator)
        case []:
            measure("auto")
        case _:
            sys.exit(__doc__)
    return None


def measure(emulator: str) -> None:
    """Print the figures of one emulator."""
    print(f"emulator {choose(emulator).name}, {os.cpu_count()} cores")
    with emulated(TIERS, CLASSES, emulator) as running:
        print(f"1. {len(running.machines)} machines, {len(CLASSES)} classes of links, all active")
        errors = sorted(delay_errors(running))
        print(
            f"   error of delay, median            {statistics.median(errors):8.3f} ms  (at most 0.5)"
        )
        print(
            f"   error of delay, 95th percentile   {errors[int(0.95 * len(errors))]:8.3f} ms  (at most 2)"
        )
        rates = rate_errors(running)
        print(f"2. error of rate, largest of {len(rates)}       {max(rates):8.2f} %   (at most 5)")
    for name, rate in (("without a rate", None), ("of 200 Mbit/s", 200.0)):
        settings = LinkSettings(delay_ms=10, rate_mbit=rate)
        links: Ends = {("cloud", "edge"): settings, ("edge", "cloud"): settings}
        with emulated({"cloud": 1, "edge": 1}, links, emulator) as running:
            carried = throughput(running)
        print(f"3. TCP over 10 ms {name:15s}     {carried:8.1f} Mbit/s  (at least 190)")


if __name__ == "__main__":
    main(sys.argv[1:])
