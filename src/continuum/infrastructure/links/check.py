"""Measures links between running machines, and holds them against what was asked for.

Every machine that takes part runs `continuum_runtime.link_probe` once, with its part of one
schedule: first all delays, jitters and losses at the same time, by small packets far apart; then
rates, in waves in which no machine sends or receives twice.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from continuum.images.recipe import RUNTIME_FOLDER
from continuum.infrastructure.links.rules import (
    FRAME,
    beginning,
    burst,
    bytes_per_second,
    ending,
    link_between,
)
from continuum.infrastructure.plan import InfrastructurePlan, Link, LinkSettings, MachineSpec
from continuum.machine import Command, Machine
from continuum.parallel import for_each

PORT = 46_981
ETHERNET = 14
HEADERS = 42
"""Bytes of Ethernet, IPv4 and UDP headers."""

PROBE_PAYLOAD = 64
PROBE_FRAME = PROBE_PAYLOAD + HEADERS
PROBING_SECONDS = 1.4
PROBES_PER_SECOND = 3000.0
"""Of all machines together: more would measure this host's load."""

GENTLE_SECONDS = 30.0
"""How long the delays of pairs that are measured again may take all together."""

LOSS_PROBES = 1000
TRAIN_SECONDS = 0.3
TRAIN_BYTES = 40_000_000
SHORTEST_TRAIN = 40
"""Packets of a train that are measured at the least."""

WAVE_RATE = 400.0
"""Mbit/s of all trains that run at the same time, unless one alone has more."""

MOST_TIMES = 4
"""How often a pair is measured while a quantity of it is out of tolerance."""

DEVIATIONS = 4.0
"""Standard errors that chance may add: it exceeds them in one of 16 000 measurements."""

QUANTITIES = ("delay_ms", "jitter_ms", "loss_percent", "rate_mbit")

FEWEST_PROBES = 20
MOST_PROBES = 100
MOST_LOSS = 99.0
"""Percent; with more, only the loss can be measured."""

GAP_MS = 30.0
LAST_WAIT = 0.3
LATEST_MS = 50.0
RUN_TIMEOUT = 30.0
THREADS = 128


@dataclass(frozen=True)
class LinkMeasurement:
    """One quantity of one link, between one pair of machines.

    `quantity` is `delay_ms`, `jitter_ms`, `loss_percent` or `rate_mbit`; `measured` is None when
    nothing arrived.
    """

    from_tier: str
    to_tier: str
    from_machine: str
    to_machine: str
    quantity: str
    asked: float
    measured: float | None
    tolerance: float
    ok: bool


@dataclass(frozen=True)
class Pair:
    """Two machines between which a link is measured."""

    link: Link
    source: MachineSpec
    destination: MachineSpec


@dataclass(frozen=True)
class Clocks:
    """How times are told.

    Attributes:
        one: all machines share a clock. Then delays are one-way; otherwise the difference of a
            round trip to what both its directions should take is shared between them, half each.
        by_kernel: a packet has arrived when the kernel says so: true only where no link delays it
            after that.
        answer_ms: half the round trip to an idle machine without any link, by machine. A packet
            may be later than its link says by what both its machines take.
    """

    one: bool = True
    by_kernel: bool = False
    answer_ms: Mapping[str, float] = field(default_factory=dict)

    def late_ms(self, pair: Pair) -> float:
        """By how much a packet may be late."""
        ends = (pair.source.name, pair.destination.name)
        return sum(self.answer_ms.get(name, 0.0) for name in ends)


ONE_CLOCK = Clocks()


def outside(measurements: Sequence[LinkMeasurement]) -> list[LinkMeasurement]:
    """The measurements that are out of tolerance."""
    return [each for each in measurements if not each.ok]


def check(
    machines: Sequence[Machine],
    plan: InfrastructurePlan,
    *,
    all_pairs: bool = False,
    clocks: Clocks = ONE_CLOCK,
    progress: Callable[[str], None] = lambda _: None,
) -> list[LinkMeasurement]:
    """Measure every link of the plan, on one pair of machines each, or on all pairs.

    Pairs with a quantity out of tolerance are measured again, and the last measurement counts: a
    host that was busy for some seconds must not stop an experiment. It goes gently, few pairs at
    the same time, since the measuring itself may be what keeps a slow host busy.

    Args:
        machines: handles of the plan's machines; those that a pair needs must run.
        plan: its links are what is asked for.
        all_pairs: measure each ordered pair of machines that a link joins.
        clocks: by what times are told.
        progress: is told what happens.

    Raises:
        CommandFailed: a machine could not run its part.
        TimedOut, MachineUnreachable: from the machines themselves.
    """
    by_name = {machine.name: machine for machine in machines}
    pairs = choose_pairs(plan, all_pairs=all_pairs)
    found: dict[Pair, list[LinkMeasurement]] = {}
    todo = pairs
    for attempt in range(1, MOST_TIMES + 1):
        if not todo:
            break
        again = attempt > 1
        how = f" again, few at a time ({attempt} of at most {MOST_TIMES})" if again else ""
        progress(f"measuring {len(todo)} pairs of machines{how}")
        found.update(_measure(todo, by_name, plan, clocks, gently=again))
        todo = [pair for pair in pairs if outside(found[pair])]
    return [measurement for pair in pairs for measurement in found[pair]]


def choose_pairs(plan: InfrastructurePlan, *, all_pairs: bool) -> list[Pair]:
    """The pairs to measure, in the order of the plan's links.

    A link without two different machines that it joins has none.
    """
    links = plan.network.links
    if all_pairs:
        joined = [
            Pair(link, source, destination)
            for source in plan.machines
            for destination in plan.machines
            if source != destination
            and (link := link_between(links, source, destination)) is not None
        ]
        return sorted(joined, key=lambda pair: links.index(pair.link))
    found = []
    for link in links:
        candidates = (
            Pair(link, source, destination)
            for source in beginning(links, link, plan.machines)
            for destination in ending(links, link, plan.machines)
            if source != destination and link_between(links, source, destination) == link
        )
        found += list(itertools.islice(candidates, 1))
    return found


@dataclass(frozen=True)
class Task:
    """Packets of one kind from one machine to another. Times in ms since the schedule's start."""

    number: int
    pair: Pair
    kind: str
    at_ms: float
    count: int
    interval_ms: float
    payload: int

    @property
    def end_ms(self) -> float:
        """When the last packet has been sent."""
        return self.at_ms + self.count * self.interval_ms


def schedule(
    pairs: Sequence[Pair], largest: int = FRAME, most: float = PROBES_PER_SECOND
) -> list[Task]:
    """When to send what: delays, then losses where they are asked for, then rates.

    `largest` is the size in bytes of the largest frame between the machines, and `most` how many
    small packets to send in a second, unless one pair alone needs more.
    """
    numbers = itertools.count()
    sharing = Counter((pair.source.name, pair.link.destination_blocks) for pair in pairs)
    delays, losses, trains = [], [], []
    for pair in pairs:
        settings = pair.link.settings
        # Small packets must not wait for one another at the sender.
        own_ms = sharing[pair.source.name, pair.link.destination_blocks] * sending_ms(
            PROBE_FRAME, settings
        )
        if settings.loss_percent < MOST_LOSS:
            interval = max(10.0, 5 * settings.jitter_ms, 3 * own_ms)
            count = min(max(round(PROBING_SECONDS * 1e3 / interval), FEWEST_PROBES), MOST_PROBES)
            delays.append(Task(next(numbers), pair, "delay", 0, count, interval, PROBE_PAYLOAD))
            if settings.rate_mbit is not None:
                trains.append(_train(next(numbers), pair, settings.rate_mbit, largest))
        if settings.loss_percent:
            interval = max(1.0, 2 * own_ms)
            losses.append(
                Task(next(numbers), pair, "loss", 0, LOSS_PROBES, interval, PROBE_PAYLOAD)
            )
    placed = _in_batches(delays, 0.0, lambda task: 1e3 / task.interval_ms, most)
    placed += _in_batches(losses, _end(placed, 0), lambda task: 1e3 / task.interval_ms, most)
    placed += _in_batches(trains, _end(placed, 0) + GAP_MS, _rate, WAVE_RATE, once=True)
    return placed


def _rate(task: Task) -> float:
    rate = task.pair.link.settings.rate_mbit
    assert rate is not None
    return rate


def _end(tasks: Sequence[Task], default: float) -> float:
    return max((task.end_ms for task in tasks), default=default)


def _in_batches(
    tasks: Sequence[Task],
    begin: float,
    load: Callable[[Task], float],
    most: float,
    *,
    once: bool = False,
) -> list[Task]:
    """Give each task its time: as many at the same time as their load allows.

    With `once` no machine sends two of them at the same time, nor receives two.
    """
    placed: list[Task] = []
    left = list(tasks)
    while left:
        batch: list[Task] = []
        for task in left:
            busy = once and any(
                task.pair.source == other.pair.source
                or task.pair.destination == other.pair.destination
                for other in batch
            )
            if not batch or (not busy and sum(map(load, batch)) + load(task) <= most):
                batch.append(task)
        left = [task for task in left if task not in batch]
        placed += [
            # Evenly spread, so that machines do not all send at the same moment.
            replace(task, at_ms=begin + (0 if once else task.interval_ms * place / len(batch)))
            for place, task in enumerate(batch)
        ]
        begin = _end(placed, begin) + GAP_MS
    return placed


def _train(number: int, pair: Pair, rate: float, largest: int) -> Task:
    """As many packets as the link carries in `TRAIN_SECONDS`, after what its bucket lets pass."""
    per_second = bytes_per_second(rate)
    frame = min(max(int(per_second * TRAIN_SECONDS / 100), PROBE_FRAME), largest)
    measured = max(min(per_second * TRAIN_SECONDS, TRAIN_BYTES), SHORTEST_TRAIN * frame)
    count = math.ceil((burst(rate) + measured) / frame) + 1
    return Task(number, pair, "train", 0, count, frame / per_second * 1e3, frame - HEADERS)


def sending_ms(frame: int, settings: LinkSettings) -> float:
    """How long a frame takes at the link's rate."""
    return 0.0 if settings.rate_mbit is None else frame * 8e-3 / settings.rate_mbit


Results = Mapping[str, Mapping[str, Any]]
"""What `link_probe` said, by machine."""


def _measure(
    pairs: Sequence[Pair],
    machines: Mapping[str, Machine],
    plan: InfrastructurePlan,
    clocks: Clocks,
    *,
    gently: bool,
) -> dict[Pair, list[LinkMeasurement]]:
    mtu = plan.network.mtu
    most = PROBES_PER_SECOND
    if gently:
        most = min(most, len(pairs) * MOST_PROBES / GENTLE_SECONDS)
    tasks = schedule(pairs, FRAME if mtu is None else min(FRAME, mtu + ETHERNET), most)
    taking_part = {end.name: end for pair in pairs for end in (pair.source, pair.destination)}
    lead = 0.25 + 0.02 * len(taking_part) + max(map(_start_seconds, taking_part.values()))
    results: Results = {}
    for _ in range(2):
        results = carry_out([machines[name] for name in taking_part], tasks, lead, clocks)
        late = max(result["late_ms"] for result in results.values())
        if late < LATEST_MS:
            break
        # Some machine began after others had: once more, with more time to begin.
        lead = 3 * lead + late / 1e3
    return {
        pair: measurements(
            pair, [task for task in tasks if task.pair == pair], results, plan, clocks
        )
        for pair in pairs
    }


def _start_seconds(machine: MachineSpec) -> float:
    """How long a small Python program takes to start on a machine of that quota."""
    return 0.15 / min(1.0, machine.cores * machine.quota)


def carry_out(
    machines: Sequence[Machine], tasks: Sequence[Task], lead: float, clocks: Clocks
) -> Results:
    """Run the program on all machines at once; `lead` seconds until the schedule starts."""
    ahead = {machine.name: 0 if clocks.one else _clock_ahead(machine) for machine in machines}
    slowest = max(
        task.pair.link.settings.delay_ms + 6 * task.pair.link.settings.jitter_ms for task in tasks
    )
    seconds = (_end(tasks, 0) + (1 if clocks.one else 2) * slowest) / 1e3 + LAST_WAIT
    start = time.time_ns() + int(lead * 1e9)

    def run(machine: Machine) -> Mapping[str, Any]:
        begins = start + ahead[machine.name]
        part = {
            "port": PORT,
            "start_ns": begins,
            "end_ns": begins + int(seconds * 1e9),
            "echo": not clocks.one,
            "kernel": clocks.by_kernel,
            "expected": {
                task.number: task.count
                for task in tasks
                if task.pair.destination.name == machine.name
            },
            "tasks": [
                {
                    "task": task.number,
                    "kind": "train" if task.kind == "train" else "delay",
                    "address": task.pair.destination.address,
                    "at_ms": task.at_ms,
                    "count": task.count,
                    "interval_ms": task.interval_ms,
                    "payload": task.payload,
                }
                for task in tasks
                if task.pair.source.name == machine.name
            ],
        }
        command = Command(
            ("python3", "-m", "continuum_runtime.link_probe"),
            input=json.dumps(part).encode(),
            environment={"PYTHONPATH": RUNTIME_FOLDER},
            timeout=lead + seconds + RUN_TIMEOUT,
        )
        result = machine.run(command).check(f"cannot measure links on {machine.name}")
        said: dict[str, Any] = json.loads(result.stdout)
        return said

    results = for_each(run, machines, threads=THREADS)
    return {machine.name: result for machine, result in zip(machines, results, strict=True)}


def _clock_ahead(machine: Machine) -> int:
    """By how many nanoseconds a machine's clock is before ours, to some ten milliseconds."""
    before = time.time_ns()
    theirs = int(machine.run(Command(("date", "+%s%N"))).check().text)
    return theirs - (before + time.time_ns()) // 2


def measurements(
    pair: Pair,
    tasks: Sequence[Task],
    results: Results,
    plan: InfrastructurePlan,
    clocks: Clocks,
) -> list[LinkMeasurement]:
    """What the results say about one pair."""
    found = []
    for task in tasks:
        got = results[pair.destination.name]["received"].get(str(task.number), {})
        if task.kind == "delay":
            delays = [nanoseconds / 1e6 for nanoseconds in got.get("delays_ns", ())]
            trips = results[pair.source.name]["echoed"].get(str(task.number), ())
            found += _delay_and_jitter(
                pair,
                delays,
                None if clocks.one else [nanoseconds / 1e6 for nanoseconds in trips],
                link_between(plan.network.links, pair.destination, pair.source),
                clocks.late_ms(pair),
            )
        elif task.kind == "loss":
            found.append(_loss(pair, task.count, got.get("packets", 0)))
        else:
            found.append(_measured_rate(pair, got.get("arrivals", ()), got.get("frame", 0)))
    return sorted(found, key=lambda each: QUANTITIES.index(each.quantity))


def _entry(
    pair: Pair, quantity: str, asked: float, measured: float | None, tolerance: float
) -> LinkMeasurement:
    return LinkMeasurement(
        from_tier=pair.source.tier,
        to_tier=pair.destination.tier,
        from_machine=pair.source.name,
        to_machine=pair.destination.name,
        quantity=quantity,
        asked=asked,
        measured=measured,
        tolerance=tolerance,
        ok=measured is not None and abs(measured - asked) <= tolerance,
    )


def _or_later(entry: LinkMeasurement, late: float) -> LinkMeasurement:
    """The same, where it may be so much more than the tolerance allows, but no less."""
    ok = entry.measured is not None and (
        -entry.tolerance <= entry.measured - entry.asked <= entry.tolerance + late
    )
    return replace(entry, tolerance=entry.tolerance + late, ok=ok)


def _delay_and_jitter(
    pair: Pair,
    delays: Sequence[float],
    trips: Sequence[float] | None,
    back: Link | None,
    late: float,
) -> list[LinkMeasurement]:
    """Median and standard deviation, in ms, without the time that the probe itself takes to send.

    The median, because a truncated normal distribution keeps its median, and because a host that
    is busy for a moment delays few packets by much.
    """
    settings = pair.link.settings
    returns = LinkSettings() if back is None else back.settings
    own = sending_ms(PROBE_FRAME, settings)
    delay = statistics.median(delays) - own if delays else None
    count = max(1, len(delays))
    chance = 1.2533 * settings.jitter_ms
    if trips is not None:
        both = settings.delay_ms + own + returns.delay_ms + sending_ms(PROBE_FRAME, returns)
        delay = settings.delay_ms + (statistics.median(trips) - both) / 2 if trips else None
        chance = 1.2533 * math.hypot(settings.jitter_ms, returns.jitter_ms) / 2
    expected = rectified_deviation(settings.delay_ms, settings.jitter_ms)
    probed = _entry(
        pair,
        "delay_ms",
        settings.delay_ms,
        delay,
        max(1.0, 0.05 * settings.delay_ms, DEVIATIONS * chance / math.sqrt(count)),
    )
    return [
        _or_later(probed, late),
        _entry(
            pair,
            "jitter_ms",
            settings.jitter_ms,
            deviation(delays) if len(delays) > 2 else None,
            max(0.5, DEVIATIONS * settings.jitter_ms / math.sqrt(2 * count))
            + (settings.jitter_ms - expected),
        ),
    ]


def deviation(values: Sequence[float]) -> float:
    """Standard deviation without the few values (at most 5 %) that are far outside.

    Far is more than 1 ms and five deviations from the median, with a deviation that a few such
    values cannot change: half the width of the middle 68 %.
    """
    middle = statistics.median(values)
    ordered = sorted(values)
    last = len(ordered) - 1
    half = (ordered[round(0.841 * last)] - ordered[round(0.159 * last)]) / 2
    near = [value for value in values if abs(value - middle) <= 1.0 + 5 * half]
    return statistics.stdev(near if len(near) >= 0.95 * len(values) else values)


def rectified_deviation(mean: float, standard: float) -> float:
    """Standard deviation of max(0, X) for a normal X: what is left of a jitter that large."""
    if standard == 0:
        return 0.0
    normal = statistics.NormalDist()
    ratio = mean / standard
    below, density = normal.cdf(ratio), normal.pdf(ratio)
    first = mean * below + standard * density
    second = (mean**2 + standard**2) * below + mean * standard * density
    return math.sqrt(max(0.0, second - first**2))


def _loss(pair: Pair, count: int, received: int) -> LinkMeasurement:
    asked = pair.link.settings.loss_percent
    share = asked / 100
    chance = 100 * math.sqrt(share * (1 - share) / count)
    return _entry(
        pair, "loss_percent", asked, 100 * (1 - received / count), max(0.2, DEVIATIONS * chance)
    )


def _measured_rate(pair: Pair, arrivals: Sequence[tuple[int, int]], frame: int) -> LinkMeasurement:
    """Frames per time at the receiver, after the ones that the sender's bucket let pass."""
    asked = pair.link.settings.rate_mbit
    assert asked is not None
    # What is lost on the way does not arrive, though it may have been sent at the full rate.
    tolerance = asked * (0.05 + pair.link.settings.loss_percent / 100)
    left = burst(asked)
    ordered = sorted(arrivals)
    for place, (begins, packets) in enumerate(ordered):
        left -= packets * frame
        if left <= 0:
            counted = sum(later for _, later in ordered[place + 1 :])
            nanoseconds = ordered[-1][0] - begins
            if counted and nanoseconds:
                return _entry(
                    pair, "rate_mbit", asked, counted * frame * 8e3 / nanoseconds, tolerance
                )
            break
    return _entry(pair, "rate_mbit", asked, None, tolerance)
