"""Measures links between running machines, and holds them against what was asked for.

Every machine that takes part runs `continuum_runtime.link_probe` once per attempt, with its part of
one schedule: first delays, by small packets far apart and, beside them, by a stream of them at the
application's packet rate; then losses, by as many as it takes; then rates, in waves in which no
machine sends or receives twice. `evidence` says what the result shows.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from continuum.images.recipe import RUNTIME_FOLDER
from continuum.infrastructure.links import evidence
from continuum.infrastructure.links.evidence import Attempt, Ends, Evidence, Limits, Probed, Stalls
from continuum.infrastructure.links.measurement import (
    DELAY,
    JITTER,
    LOSS,
    QUANTITIES,
    RATE,
    STREAM,
    LinkMeasurement,
    deciding,
    outside,
)
from continuum.infrastructure.links.rules import (
    FRAME,
    beginning,
    burst,
    bytes_per_second,
    ending,
    link_between,
    queue_bytes,
)
from continuum.infrastructure.links.tolerance import (
    DEFAULT,
    MOST_ATTEMPTS,
    Tolerances,
    loss_probes,
    probing_seconds,
    train_frames,
)
from continuum.infrastructure.plan import InfrastructurePlan, Link, LinkSettings, MachineSpec
from continuum.machine import Command, Machine
from continuum.parallel import for_each

__all__ = [
    "QUANTITIES",
    "Clocks",
    "LinkMeasurement",
    "Pair",
    "Task",
    "Traffic",
    "check",
    "choose_pairs",
    "deciding",
    "expected_seconds",
    "outside",
    "schedule",
]

PORT = 46_981
ETHERNET = 14
HEADERS = 42
"""Bytes of Ethernet, IPv4 and UDP headers."""

PROBE_PAYLOAD = 64
PROBE_FRAME = PROBE_PAYLOAD + HEADERS
SMALL_PAYLOAD = 24
SMALL_FRAME = SMALL_PAYLOAD + HEADERS
"""Bytes of packets that only have to be many."""

INTERVAL_MS = 10.0
"""Between probes that are far apart: at the least, and four jitters, since order is kept."""

STREAM_RATE = 1000.0
"""Packets a second of a stream where the application has fewer, or does not say."""

MOST_STREAM_RATE = 10_000.0
FEWEST_PROBES = 60
STREAM_SHARE = 0.25
"""Share of a link's rate that a stream may take; a packet then finds the link idle."""

PACKETS_PER_SECOND = 10_000.0
"""Of all machines together while delays are measured: more would measure this host's load."""

AGAIN = 4
"""By how much fewer they are in a later attempt: the probing itself may be what keeps a host busy."""

LOSS_RATE = 10_000.0
"""Packets a second of all machines together while losses are counted."""

LOSS_SHARE = 0.7
"""Share of a link's rate that packets may take while losses are counted."""

TRAIN_SECONDS = 0.3
TRAIN_BYTES = 40_000_000
SHORTEST_TRAIN = 40
"""Packets of a train that are measured at the least."""

WAVE_RATE = 400.0
"""Mbit/s of all trains that run at the same time, unless one alone has more."""

MOST_PACE = 0.1
"""Share by which a train may be sent faster than the link's rate."""

MOST_LOSS = 99.0
"""Percent; with more, only the loss can be measured."""

GAP_MS = 30.0
LAST_WAIT = 0.3
LATEST = 0.2
"""Share of a schedule by which a machine's program may begin too late; its packets are fewer then."""

RUN_TIMEOUT = 30.0
THREADS = 128


@dataclass(frozen=True)
class Pair:
    """Two machines between which a link is measured."""

    link: Link
    source: MachineSpec
    destination: MachineSpec

    @property
    def ends(self) -> Ends:
        """The two, as a measurement names them."""
        return Ends(
            self.source.tier, self.destination.tier, self.source.name, self.destination.name
        )


@dataclass(frozen=True)
class Traffic:
    """The traffic of the experiment itself from one machine to another, on average.

    `packets` a second in one direction; `mbit` per second.
    """

    packets: float
    mbit: float


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


def check(  # noqa: PLR0913  what is known beside the machines comes one by one
    machines: Sequence[Machine],
    plan: InfrastructurePlan,
    *,
    all_pairs: bool = False,
    clocks: Clocks = ONE_CLOCK,
    tolerances: Tolerances = DEFAULT,
    traffic: Mapping[tuple[str, str], Traffic] | None = None,
    host_mbit: float | None = None,
    stalls: Stalls = (),
    progress: Callable[[str], None] = lambda _: None,
) -> list[LinkMeasurement]:
    """Measure every link of the plan, on one pair of machines each, or on all pairs.

    What is not shown is measured again, up to `MOST_ATTEMPTS` times in all, and counts together
    with what came before; see `evidence`. Later attempts are gentle, few pairs at a time.

    Args:
        machines: handles of the plan's machines; those that a pair needs must run.
        plan: its links are what is asked for.
        all_pairs: measure each ordered pair of machines that a link joins.
        clocks: by what times are told.
        tolerances: the smallest deviations that must be found.
        traffic: what the experiment sends from tier to tier, where that is known; what is not
            there then sends nothing.
        host_mbit: the rate that this host can send without a link, where that is known.
        stalls: when the host stood still, by the wall clock in ns, where machines share its clock;
            it is read after each attempt, so that it may grow meanwhile.
        progress: is told what happens.

    Returns:
        Every attempt of every quantity; `deciding` has those that count.

    Raises:
        CommandFailed: a machine could not run its part.
        TimedOut, MachineUnreachable: from the machines themselves.
    """
    by_name = {machine.name: machine for machine in machines}
    pairs = choose_pairs(plan, all_pairs=all_pairs)
    mtu = plan.network.mtu
    sizes = Sizes(
        largest=FRAME if mtu is None else min(FRAME, mtu + ETHERNET),
        tolerances=tolerances,
        round_trips=not clocks.one,
        traffic=traffic or {},
        links=plan.network.links,
    )
    known = {
        pair: Evidence(
            pair.ends,
            pair.link.settings,
            tolerances,
            Limits(clocks.late_ms(pair), host_mbit, _mbit(pair, traffic)),
            wanted,
        )
        for pair, wanted in quantities(pairs).items()
    }

    def measure(tasks: Sequence[Task]) -> Results:
        return carry_out_in_time(by_name, tasks, clocks)

    attempts(known, sizes, measure, clocks=clocks, stalls=stalls, progress=progress)
    return [each for pair in pairs for each in known[pair].measurements]


def _mbit(pair: Pair, traffic: Mapping[tuple[str, str], Traffic] | None) -> float | None:
    if traffic is None:
        return None
    own = traffic.get((pair.source.tier, pair.destination.tier))
    return 0.0 if own is None else own.mbit


def attempts(  # noqa: PLR0913  as `check`
    known: Mapping[Pair, Evidence],
    sizes: Sizes,
    measure: Callable[[Sequence[Task]], Results],
    *,
    clocks: Clocks = ONE_CLOCK,
    stalls: Stalls = (),
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Measure until every pair's evidence wants no more, or attempts are used up."""
    for attempt in range(1, MOST_ATTEMPTS + 1):
        wanted = {pair: frozenset(each.wanted) for pair, each in known.items() if each.wanted}
        if not wanted:
            return
        here = sizes if attempt == 1 else replace(sizes, most=sizes.most / AGAIN)
        tasks = schedule(list(wanted), wanted, here)
        again = f" again ({attempt} of at most {MOST_ATTEMPTS})" if attempt > 1 else ""
        progress(
            f"measuring {len(wanted)} pair{'s' if len(wanted) > 1 else ''} of machines{again}, "
            f"about {_seconds(tasks):.0f} s"
        )
        results = measure(tasks)
        for pair in wanted:
            mine = [task for task in tasks if task.pair == pair]
            got = gather(pair, mine, results, sizes.links, clocks=clocks, stalls=stalls)
            known[pair].add(got, attempt)


def expected_seconds(
    plan: InfrastructurePlan,
    *,
    all_pairs: bool = False,
    tolerances: Tolerances = DEFAULT,
    traffic: Mapping[tuple[str, str], Traffic] | None = None,
) -> float:
    """The duration of a check whose first attempt is enough, as it is with true links."""
    sizes = Sizes(tolerances=tolerances, traffic=traffic or {}, links=plan.network.links)
    tasks = schedule(choose_pairs(plan, all_pairs=all_pairs), sizes=sizes)
    return _seconds(tasks)


def _seconds(tasks: Sequence[Task]) -> float:
    return _lead(tasks) + _duration(tasks, ONE_CLOCK) - LAST_WAIT if tasks else 0.0


Results = Mapping[str, Mapping[str, Any]]
"""The results of `link_probe`, by machine."""


def carry_out_in_time(
    machines: Mapping[str, Machine], tasks: Sequence[Task], clocks: Clocks
) -> Results:
    """Carry out a schedule; once more, with more time to begin, when a machine began too late."""
    taking_part = dict.fromkeys(
        end.name for task in tasks for end in (task.pair.source, task.pair.destination)
    )
    lead = _lead(tasks)
    results: Results = {}
    for _ in range(2):
        results = carry_out([machines[name] for name in taking_part], tasks, lead, clocks)
        late = max(result["late_ms"] for result in results.values())
        if late < LATEST * _end(tasks):
            break
        lead = 3 * lead + late / 1e3
    return results


def _lead(tasks: Sequence[Task]) -> float:
    """Seconds until every machine's program has started."""
    ends = {end.name: end for task in tasks for end in (task.pair.source, task.pair.destination)}
    return 0.25 + 0.02 * len(ends) + max(map(_start_seconds, ends.values()))


def _duration(tasks: Sequence[Task], clocks: Clocks) -> float:
    """Seconds from the schedule's start until nothing more arrives."""
    slowest = max(
        task.pair.link.settings.delay_ms + 6 * task.pair.link.settings.jitter_ms for task in tasks
    )
    return (_end(tasks) + (1 if clocks.one else 2) * slowest) / 1e3 + LAST_WAIT


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
    """Packets of one kind from one machine to another. Times in ms since the schedule's start.

    Of a train `ahead` are sent at once, and the rest `pace` times as fast as the link's rate.
    """

    number: int
    pair: Pair
    kind: str
    at_ms: float
    count: int
    interval_ms: float
    payload: int
    ahead: int = 0
    pace: float = 1.0

    @property
    def end_ms(self) -> float:
        """When the last packet has been sent."""
        return self.at_ms + self.count * self.interval_ms


def quantities(pairs: Sequence[Pair]) -> dict[Pair, set[str]]:
    """The quantities to measure of each pair.

    Streams, and losses where none are asked for, on the first pair of each link only: they take
    many packets.
    """
    found: dict[Pair, set[str]] = {}
    known: set[Link] = set()
    for pair in pairs:
        settings, first = pair.link.settings, pair.link not in known
        known.add(pair.link)
        wanted = set()
        if settings.loss_percent or first:
            wanted.add(LOSS)
        if settings.loss_percent < MOST_LOSS:
            wanted |= {DELAY, JITTER, *([STREAM] if first else [])}
            if settings.rate_mbit is not None:
                wanted.add(RATE)
        found[pair] = wanted
    return found


@dataclass(frozen=True)
class Sizes:
    """The inputs of a schedule beside pairs and quantities.

    Attributes:
        largest: bytes of the largest frame between the machines.
        most: small packets in a second while delays are measured, unless one pair needs more.
        tolerances: what must be found.
        round_trips: whether delays come from round trips.
        traffic: of the experiment itself, by tiers.
        links: of the plan; for the way back.
    """

    largest: int = FRAME
    most: float = PACKETS_PER_SECOND
    tolerances: Tolerances = DEFAULT
    round_trips: bool = False
    traffic: Mapping[tuple[str, str], Traffic] = field(default_factory=dict)
    links: tuple[Link, ...] = ()


def schedule(
    pairs: Sequence[Pair],
    wanted: Mapping[Pair, Collection[str]] | None = None,
    sizes: Sizes = Sizes(),
) -> list[Task]:
    """The schedule of what to send: delays and streams, then losses, then rates.

    `wanted`: the quantities to measure of each pair; all of `quantities` by default.
    """
    numbers = itertools.count()
    sharing = Counter((pair.source.name, pair.link.destination_blocks) for pair in pairs)
    probes: list[list[Task]] = []
    losses: list[list[Task]] = []
    trains: list[list[Task]] = []
    for pair, here in (quantities(pairs) if wanted is None else wanted).items():
        shared = sharing[pair.source.name, pair.link.destination_blocks]
        group = _probes(pair, here, shared, sizes, numbers)
        if group:
            probes.append(group)
        if LOSS in here:
            counted = sum(task.count for task in group)
            losses += _losses(pair, counted, shared, sizes, numbers)
        if RATE in here:
            trains.append([_train(next(numbers), pair, sizes.largest)])
    placed = _in_batches(probes, 0.0, _packets, sizes.most)
    placed += _in_batches(losses, _after(placed), _packets, LOSS_RATE)
    placed += _in_batches(trains, _after(placed), _rate, WAVE_RATE, once=True)
    return placed


def _probes(
    pair: Pair,
    wanted: Collection[str],
    shared: int,
    sizes: Sizes,
    numbers: itertools.count[int],
) -> list[Task]:
    """Probes of one pair that are far apart, and its stream: each where it is wanted.

    The former are in the middle between two packets of the latter.
    """
    settings = pair.link.settings
    if not {DELAY, JITTER, STREAM} & set(wanted):
        return []
    own = sending_ms(PROBE_FRAME, settings)
    between = _stream_interval(pair, shared, sizes)
    # Small packets must not wait for one another at the sender.
    interval = max(INTERVAL_MS, 4 * settings.jitter_ms, 3 * own * shared)
    interval = math.ceil(interval / between) * between
    back = None
    if sizes.round_trips:
        link = link_between(sizes.links, pair.destination, pair.source)
        back = LinkSettings() if link is None else link.settings
    seconds = probing_seconds(settings, back, interval / 1e3, sizes.tolerances)
    count = max(FEWEST_PROBES, math.ceil(seconds * 1e3 / interval))
    found = []
    if DELAY in wanted or JITTER in wanted:
        found.append(
            Task(next(numbers), pair, "delay", between / 2, count, interval, PROBE_PAYLOAD)
        )
    if STREAM in wanted:
        count = math.ceil(seconds * 1e3 / between)
        found.append(Task(next(numbers), pair, "stream", 0, count, between, SMALL_PAYLOAD))
    return found


def _stream_interval(pair: Pair, shared: int, sizes: Sizes) -> float:
    """Milliseconds between two packets of a stream."""
    traffic = sizes.traffic.get((pair.source.tier, pair.destination.tier))
    packets = STREAM_RATE if traffic is None else max(STREAM_RATE, traffic.packets)
    own = sending_ms(SMALL_FRAME, pair.link.settings) * shared
    return max(1e3 / min(packets, MOST_STREAM_RATE), own / STREAM_SHARE)


def _losses(
    pair: Pair, counted: int, shared: int, sizes: Sizes, numbers: itertools.count[int]
) -> list[list[Task]]:
    """The packets that are still needed to tell the loss."""
    settings = pair.link.settings
    count = loss_probes(settings, sizes.tolerances) - counted
    if count <= 0:
        return []
    own = sending_ms(SMALL_FRAME, settings) * shared
    interval = max(1e3 / LOSS_RATE, own / LOSS_SHARE)
    return [[Task(next(numbers), pair, "loss", 0, count, interval, SMALL_PAYLOAD)]]


def _packets(task: Task) -> float:
    return 1e3 / task.interval_ms


def _rate(task: Task) -> float:
    rate = task.pair.link.settings.rate_mbit
    assert rate is not None
    return rate


def _end(tasks: Sequence[Task]) -> float:
    return max((task.end_ms for task in tasks), default=0.0)


def _after(tasks: Sequence[Task]) -> float:
    return _end(tasks) + GAP_MS if tasks else 0.0


def _in_batches(
    groups: Sequence[list[Task]],
    begin: float,
    load: Callable[[Task], float],
    most: float,
    *,
    once: bool = False,
) -> list[Task]:
    """Give each group of tasks its time: as many at the same time as their load allows.

    With `once` no machine sends two of them at the same time, nor receives two.
    """
    placed: list[Task] = []
    left = list(groups)
    while left:
        batch: list[list[Task]] = []
        rest: list[list[Task]] = []
        full = 0.0
        busy: set[tuple[str, str]] = set()
        for group in left:
            ends = {
                ("from", group[0].pair.source.name),
                ("to", group[0].pair.destination.name),
            }
            own = sum(map(load, group))
            if batch and (full + own > most or (once and busy & ends)):
                rest.append(group)
                continue
            batch.append(group)
            full += own
            busy |= ends
        left = rest
        shortest = min(task.interval_ms for group in batch for task in group)
        for place, group in enumerate(batch):
            # Evenly spread, so that machines do not all send at the same moment.
            apart = 0.0 if once else shortest * place / len(batch)
            placed += [replace(task, at_ms=begin + task.at_ms + apart) for task in group]
        begin = _after(placed)
    return placed


def _train(number: int, pair: Pair, largest: int) -> Task:
    """As many packets as the link carries in `TRAIN_SECONDS`, after what its bucket lets pass.

    Longer, and of smaller frames, where some are lost: those that arrive must be enough. Half of
    what the link's queue holds is sent at once, the rest so fast that another quarter comes on top:
    the link is busy, and its queue never full.
    """
    settings = pair.link.settings
    rate = settings.rate_mbit
    assert rate is not None
    per_second = bytes_per_second(rate)
    needed = max(SHORTEST_TRAIN, train_frames(settings))
    frame = int(per_second * TRAIN_SECONDS / max(100, needed))
    frame = min(max(frame, PROBE_FRAME), largest)
    measured = max(min(per_second * TRAIN_SECONDS, TRAIN_BYTES), needed * frame)
    count = math.ceil((burst(rate) + measured) / frame) + 1
    queue = queue_bytes(settings)
    return Task(
        number,
        pair,
        "train",
        0,
        count,
        frame / per_second * 1e3,
        frame - HEADERS,
        ahead=max(1, (burst(rate) + queue // 2) // frame),
        pace=1 + min(MOST_PACE, queue / 4 / measured),
    )


def sending_ms(frame: int, settings: LinkSettings) -> float:
    """How long a frame takes at the link's rate."""
    return 0.0 if settings.rate_mbit is None else frame * 8e-3 / settings.rate_mbit


def _start_seconds(machine: MachineSpec) -> float:
    """How long a small Python program takes to start on a machine of that quota."""
    return 0.15 / min(1.0, machine.cores * machine.quota)


def carry_out(
    machines: Sequence[Machine], tasks: Sequence[Task], lead: float, clocks: Clocks
) -> Results:
    """Run the program on all machines at once; `lead` seconds until the schedule starts."""
    ahead = {machine.name: 0 if clocks.one else _clock_ahead(machine) for machine in machines}
    seconds = _duration(tasks, clocks)
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
                    "kind": task.kind,
                    "address": task.pair.destination.address,
                    "at_ms": task.at_ms,
                    "count": task.count,
                    "interval_ms": task.interval_ms / task.pace,
                    "ahead": task.ahead,
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


def gather(  # noqa: PLR0913  as `check`
    pair: Pair,
    tasks: Sequence[Task],
    results: Results,
    links: Sequence[Link],
    *,
    clocks: Clocks = ONE_CLOCK,
    stalls: Stalls = (),
) -> Attempt:
    """The findings in the results on one pair, whose tasks these are."""
    here, there = results[pair.source.name], results[pair.destination.name]
    received, echoed = there["received"], here["echoed"]
    # What was due before both programs were ready does not count.
    late = max(here.get("late_ms", 0.0), there.get("late_ms", 0.0))
    begun = here.get("start_ns", 0) + late * 1e6 if late else 0
    settings = pair.link.settings
    found = Attempt(stalls=stalls if clocks.one else ())
    ahead = 0.0
    for task in sorted(tasks, key=lambda each: each.number):
        got = received.get(str(task.number), {})
        if task.kind == "train":
            train = evidence.Train(got.get("arrivals", ()), got.get("frame", 0))
            found = replace(found, train=train)
            continue
        own = sending_ms(task.payload + HEADERS, settings)
        probed = Probed.of(got.get("sent_ns", ()), got.get("delays_ns", ()), own).since(begun)
        count = task.count - _before(task, late)
        came = got.get("packets", 0) if task.kind == "loss" or not late else probed.delays.size
        found = replace(found, sent=found.sent + count, received=found.received + min(count, came))
        if task.kind == "loss":
            continue
        if task.kind == "stream":
            found = replace(found, stream=replace(probed, delays=probed.delays - ahead))
            continue
        one_way = probed
        if not clocks.one:
            back = link_between(links, pair.destination, pair.source)
            one_way = _by_round_trips(settings, back, echoed.get(str(task.number), ())).since(begun)
            if probed.delays.size and one_way.delays.size:
                # By this much the receiver's clock is ahead of the sender's.
                ahead = float(np.median(probed.delays) - np.median(one_way.delays))
        found = replace(found, delay=one_way, jitter=probed)
    return found


def _before(task: Task, late: float) -> int:
    """Packets of a task that were due before its `late` ms; one more, since that is rounded."""
    if late <= task.at_ms:
        return 0
    return min(task.count, math.ceil((late - task.at_ms) / task.interval_ms) + 1)


def _by_round_trips(
    settings: LinkSettings, back: Link | None, trips: Sequence[tuple[int, int]]
) -> Probed:
    """One-way delays as round trips tell them: of what these take more or less, half each."""
    returns = LinkSettings() if back is None else back.settings
    both = settings.delay_ms + sending_ms(PROBE_FRAME, settings)
    both += returns.delay_ms + sending_ms(PROBE_FRAME, returns)
    probed = Probed.of([sent for sent, _ in trips], [trip for _, trip in trips], both)
    return replace(probed, delays=settings.delay_ms + probed.delays / 2)
