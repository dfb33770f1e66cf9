"""When the link check sends what, and what it makes of what arrives."""

from __future__ import annotations

import itertools
import json
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from continuum.infrastructure.links import check, measurement
from continuum.infrastructure.links.check import Task
from continuum.infrastructure.links.evidence import Attempt, Evidence, Limits, Probed, in_time
from continuum.infrastructure.links.rules import burst, queue_bytes
from continuum.infrastructure.links.tolerance import DEFAULT
from continuum.infrastructure.plan import InfrastructurePlan, LinkSettings
from continuum.machine import Command, Machine, Result
from continuum.testing.link_lab import Ends, make_plan

SETTINGS = LinkSettings(10.0, 2.0, 0, 10.0)


def plan_of(**changes: Any) -> InfrastructurePlan:
    settings = replace(SETTINGS, **changes)
    return make_plan(
        {"edge": 1, "endpoint": 1}, {("edge", "endpoint"): settings, ("endpoint", "edge"): SETTINGS}
    )


def full_plan(machines: int = 2) -> InfrastructurePlan:
    tiers = ("cloud", "edge", "endpoint")
    links: Ends = {(one, other): SETTINGS for one in tiers for other in tiers}
    return make_plan(dict.fromkeys(tiers, machines), links)


def test_every_class_is_measured_on_one_pair() -> None:
    plan = full_plan()
    pairs = check.choose_pairs(plan, all_pairs=False)
    assert [pair.link for pair in pairs] == list(plan.network.links)
    assert all(pair.source != pair.destination for pair in pairs)


def test_a_tier_of_one_machine_has_no_link_with_itself() -> None:
    pairs = check.choose_pairs(full_plan(1), all_pairs=False)
    assert len(pairs) == 6


def test_all_pairs_are_all_pairs() -> None:
    pairs = check.choose_pairs(full_plan(), all_pairs=True)
    assert len({(pair.source.name, pair.destination.name) for pair in pairs}) == 6 * 5


def overlapping(tasks: list[Task]) -> Iterator[tuple[Task, Task]]:
    for one, other in itertools.combinations(tasks, 2):
        if one.at_ms < other.end_ms and other.at_ms < one.end_ms:
            yield one, other


def test_trains_do_not_disturb_one_another() -> None:
    tasks = check.schedule(check.choose_pairs(full_plan(), all_pairs=True))
    trains = [task for task in tasks if task.kind == "train"]
    assert len(trains) == 30
    assert min(task.at_ms for task in trains) > max(
        task.end_ms for task in tasks if task.kind == "delay"
    )
    for one, other in overlapping(trains):
        assert one.pair.source != other.pair.source
        assert one.pair.destination != other.pair.destination


def test_small_packets_are_further_apart_than_jitter_and_sending() -> None:
    for settings in (
        LinkSettings(50, 8),
        LinkSettings(1, 0, 0, 0.01),
        LinkSettings(1, 0),
    ):
        plan = make_plan({"edge": 1, "endpoint": 1}, {("edge", "endpoint"): settings})
        (task,) = (
            t
            for t in check.schedule(check.choose_pairs(plan, all_pairs=False))
            if t.kind == "delay"
        )
        assert task.interval_ms >= 4 * settings.jitter_ms
        assert task.interval_ms > check.sending_ms(check.PROBE_FRAME, settings)
        assert task.count >= 60


@pytest.mark.parametrize("rate", [0.1, 1.0, 7.21, None])
def test_a_stream_leaves_the_link_idle_and_meets_no_other_probe(rate: float | None) -> None:
    plan = make_plan(
        {"edge": 1, "endpoint": 1}, {("edge", "endpoint"): LinkSettings(5, 1, 0, rate)}
    )
    tasks = check.schedule(check.choose_pairs(plan, all_pairs=False))
    delay, stream = (next(t for t in tasks if t.kind == kind) for kind in ("delay", "stream"))
    settings = stream.pair.link.settings
    own = check.sending_ms(check.SMALL_FRAME, settings)
    assert stream.interval_ms >= max(1.0, 4 * own)
    # Each of the others comes in the middle between two of its packets.
    assert delay.interval_ms % stream.interval_ms == pytest.approx(0)
    assert (delay.at_ms - stream.at_ms) / stream.interval_ms == pytest.approx(0.5)
    assert check.sending_ms(check.PROBE_FRAME, settings) <= stream.interval_ms / 2


def test_a_stream_has_the_packets_of_the_application() -> None:
    plan = plan_of()
    busy = check.Sizes(traffic={("edge", "endpoint"): check.Traffic(packets=2500, mbit=30)})
    pairs = check.choose_pairs(plan, all_pairs=False)
    for sizes, packets in ((check.Sizes(), check.STREAM_RATE), (busy, 2500)):
        stream = next(t for t in check.schedule(pairs[:1], sizes=sizes) if t.kind == "stream")
        assert 1e3 / stream.interval_ms == pytest.approx(packets)


def test_the_links_of_the_main_example_take_less_than_eight_seconds() -> None:
    mobile = LinkSettings(7.5, 2.5, 0, 7.21)
    plan = make_plan(
        {"edge": 1, "endpoint": 2}, {("edge", "endpoint"): mobile, ("endpoint", "edge"): mobile}
    )
    assert check.expected_seconds(plan) < 7.5


def test_all_pairs_get_no_stream_each() -> None:
    tasks = check.schedule(check.choose_pairs(full_plan(), all_pairs=True))
    assert sum(task.kind == "delay" for task in tasks) == 30
    assert sum(task.kind == "stream" for task in tasks) == 9


def test_a_train_keeps_the_link_busy_and_its_queue_below_full() -> None:
    for settings in (LinkSettings(5, 0, 0, 1000), LinkSettings(5, 0, 20, 7.21), SETTINGS):
        plan = make_plan({"edge": 1, "endpoint": 1}, {("edge", "endpoint"): settings})
        tasks = check.schedule(check.choose_pairs(plan, all_pairs=False))
        train = next(task for task in tasks if task.kind == "train")
        frame = train.payload + check.HEADERS
        rate = settings.rate_mbit
        assert rate is not None
        left = max(0, train.count - train.ahead)
        grown = left * frame * (1 - 1 / train.pace)
        assert train.pace > 1
        assert train.ahead * frame + grown <= burst(rate) + 0.8 * queue_bytes(
            train.pair.link.settings
        )


def results(
    plan: InfrastructurePlan,
    tasks: Sequence[Task],
    *,
    delay: float = 10.0,
    rate: float = 10.0,
    received: float = 1.0,
    offset: float = 0.0,
) -> dict[str, Any]:
    """What the program on the receiver would say; the source hears its echoes."""
    said: dict[str, Any] = {
        machine.name: {"late_ms": 0, "received": {}, "echoed": {}} for machine in plan.machines
    }
    spread = statistics.NormalDist(delay, 2.0)
    for task in tasks:
        got: dict[str, Any] = {"packets": round(received * task.count)}
        if task.kind in ("delay", "stream"):
            exact = [spread.inv_cdf((place + 0.5) / task.count) for place in range(task.count)]
            random.Random(task.number).shuffle(exact)
            own = check.sending_ms(task.payload + check.HEADERS, task.pair.link.settings)
            sent = [round(place * task.interval_ms * 1e6) for place in range(task.count)]
            got["sent_ns"] = sent
            got["delays_ns"] = [round((each + own + offset) * 1e6) for each in exact]
            back = 10.0 + own
            said[task.pair.source.name]["echoed"][str(task.number)] = [
                (at, round((each + own + back) * 1e6)) for at, each in zip(sent, exact, strict=True)
            ]
        elif task.kind == "train":
            frame = task.payload + check.HEADERS
            spacing = frame * 8e3 / rate
            got |= {
                "frame": frame,
                "arrivals": [[round(place * spacing), 1] for place in range(task.count)],
            }
        said[task.pair.destination.name]["received"][str(task.number)] = got
    return said


def measured(
    plan: InfrastructurePlan,
    clocks: check.Clocks = check.ONE_CLOCK,
    *,
    stalls: Sequence[tuple[int, int]] = (),
    host_mbit: float | None = None,
    traffic_mbit: float | None = None,
    **values: Any,
) -> dict[str, check.LinkMeasurement]:
    pair = check.choose_pairs(plan, all_pairs=False)[0]
    (wanted,) = check.quantities([pair]).values()
    limits = Limits(clocks.late_ms(pair), host_mbit, traffic_mbit)
    known = Evidence(pair.ends, pair.link.settings, DEFAULT, limits, wanted)
    sizes = check.Sizes(round_trips=not clocks.one, links=plan.network.links)
    check.attempts(
        {pair: known},
        sizes,
        lambda tasks: results(plan, tasks, **values),
        clocks=clocks,
        stalls=stalls,
    )
    return {each.quantity: each for each in check.deciding(known.measurements)}


def test_what_is_as_asked_for_holds() -> None:
    found = measured(plan_of())
    assert list(found) == ["delay_ms", "stream_delay_ms", "jitter_ms", "loss_percent", "rate_mbit"]
    assert found["delay_ms"].measured == pytest.approx(10.0, abs=0.01)
    assert found["stream_delay_ms"].measured == pytest.approx(10.0, abs=0.01)
    assert found["jitter_ms"].measured == pytest.approx(2.0, abs=0.1)
    assert found["loss_percent"].measured == 0
    assert found["rate_mbit"].measured == pytest.approx(10.0, rel=0.001)
    assert {each.verdict for each in found.values()} == {"holds"}
    assert {each.attempt for each in found.values()} == {1}
    entry = found["delay_ms"]
    assert (entry.from_tier, entry.to_tier) == ("edge", "endpoint")
    assert (entry.from_machine, entry.to_machine) == ("edge-1", "endpoint-1")
    assert entry.low is not None
    assert entry.high is not None
    assert 9 < entry.low < 10 < entry.high < 11
    assert entry.n is not None
    assert entry.n > 100


def test_what_is_not_does_not_hold() -> None:
    cases: list[tuple[InfrastructurePlan, dict[str, Any], str]] = [
        (plan_of(), {"delay": 12.0}, "delay_ms"),
        (plan_of(), {"delay": 12.0}, "stream_delay_ms"),
        (plan_of(), {"delay": 8.0}, "delay_ms"),
        (plan_of(), {"rate": 9.4}, "rate_mbit"),
        (plan_of(), {"rate": 11.0}, "rate_mbit"),
        (plan_of(jitter_ms=4.0), {}, "jitter_ms"),
        (plan_of(loss_percent=1.0), {"received": 0.96}, "loss_percent"),
        (plan_of(loss_percent=1.0), {}, "loss_percent"),
        (plan_of(), {"received": 0.99}, "loss_percent"),
    ]
    for plan, values, quantity in cases:
        found = measured(plan, **values)[quantity]
        assert (found.verdict, found.ok, found.attempt) == ("does not hold", False, 2)
    assert measured(plan_of(loss_percent=1.0), received=0.99)["loss_percent"].ok


def test_a_link_of_1_ms_that_has_no_delay_does_not_hold() -> None:
    plan = plan_of(delay_ms=1.0, jitter_ms=0.0)
    assert measured(plan, delay=0.0)["delay_ms"].verdict == "does not hold"


def test_the_rate_is_that_before_losses() -> None:
    plan = plan_of(loss_percent=20.0)
    # Of 10 Mbit/s a fifth does not arrive; 9.3 that arrive were 11.6.
    assert measured(plan, received=0.8, rate=8.0)["rate_mbit"].verdict == "holds"
    assert not measured(plan, received=0.8, rate=9.3)["rate_mbit"].ok


def test_without_a_common_clock_round_trips_count() -> None:
    found = measured(plan_of(), check.Clocks(one=False), offset=5000.0)
    assert found["delay_ms"].measured == pytest.approx(10.0, abs=0.01)
    assert found["stream_delay_ms"].measured == pytest.approx(10.0, abs=0.05)
    assert found["jitter_ms"].measured == pytest.approx(2.0, abs=0.1)
    # One direction 4 ms longer than asked for: each is blamed for half.
    longer = measured(plan_of(), check.Clocks(one=False), delay=14.0)
    assert longer["delay_ms"].measured == pytest.approx(12.0, abs=0.01)


def test_what_machines_take_to_answer_may_come_on_top_and_not_be_missing() -> None:
    slow = check.Clocks(answer_ms={"edge-1": 0.4, "endpoint-1": 0.8})
    later = measured(plan_of(), slow, delay=11.5)["delay_ms"]
    assert later.ok
    assert later.tolerance == pytest.approx(measured(plan_of())["delay_ms"].tolerance + 1.2)
    assert not measured(plan_of(), slow, delay=12.5)["delay_ms"].ok
    assert not measured(plan_of(), slow, delay=8.5)["delay_ms"].ok


def test_what_is_measured_again_goes_few_at_a_time() -> None:
    pairs = check.choose_pairs(plan_of(), all_pairs=True)

    def probes(sizes: check.Sizes) -> list[Task]:
        return [task for task in check.schedule(pairs, sizes=sizes) if task.kind == "stream"]

    together, gently = probes(check.Sizes()), probes(check.Sizes(most=0))
    assert len(together) > 1
    assert max(task.at_ms for task in together) < min(task.end_ms for task in together)
    for earlier, later in itertools.pairwise(sorted(gently, key=lambda task: task.at_ms)):
        assert earlier.end_ms < later.at_ms


def test_nothing_arrived_does_not_hold() -> None:
    plan = plan_of()
    pair = check.choose_pairs(plan, all_pairs=False)[0]
    (wanted,) = check.quantities([pair]).values()
    known = Evidence(pair.ends, pair.link.settings, DEFAULT, Limits(), wanted)
    silent: dict[str, Any] = {
        name: {"received": {}, "echoed": {}} for name in ("edge-1", "endpoint-1")
    }
    check.attempts({pair: known}, check.Sizes(), lambda _: silent)
    found = check.deciding(known.measurements)
    assert [each.measured for each in found] == [None, None, None, 100, None]
    assert {each.verdict for each in found} == {"does not hold"}
    assert check.outside(known.measurements) == found


def test_what_was_due_before_both_ends_were_ready_does_not_count() -> None:
    plan = plan_of(jitter_ms=0.0)
    pair = check.choose_pairs(plan, all_pairs=False)[0]
    tasks = check.schedule([pair], {pair: {"delay_ms"}})
    said = results(plan, tasks)
    said["endpoint-1"]["late_ms"] = 200.0
    here = said["endpoint-1"]["received"]["0"]
    # Of those before, some reached a program that was not there yet.
    for name in ("sent_ns", "delays_ns"):
        here[name] = here[name][7:]
    found = check.gather(pair, tasks, said, plan.network.links)
    assert found.sent == found.received == tasks[0].count - 21
    assert found.delay is not None
    assert found.delay.delays.size == tasks[0].count - 20


def test_a_link_that_loses_all_is_measured_by_that() -> None:
    found = measured(plan_of(loss_percent=100.0), received=0.0)
    assert list(found) == ["loss_percent"]
    assert found["loss_percent"].ok


def test_a_rate_beyond_the_host_is_told_and_matters_only_to_much_traffic() -> None:
    plan = plan_of(rate_mbit=1000.0)

    def rate(**known: Any) -> check.LinkMeasurement:
        return measured(plan, rate=800.0, **known)["rate_mbit"]

    assert rate().verdict == "does not hold"
    assert rate(host_mbit=2000.0).verdict == "does not hold"
    assert (rate(host_mbit=820.0).verdict, rate(host_mbit=820.0).ok) == ("host limit", False)
    assert rate(host_mbit=820.0, traffic_mbit=2.7).ok
    assert not rate(host_mbit=820.0, traffic_mbit=90.0).ok


def test_probes_in_a_stall_of_the_host_are_told_apart() -> None:
    plan = plan_of(jitter_ms=0.0)
    pair = check.choose_pairs(plan, all_pairs=False)[0]
    count = 200
    sent = np.arange(count) * 10_000_000
    delays = np.full(count, 10.0)
    # The host stands still for 200 ms: twenty probes that were under way arrive at its end.
    stalled = (sent >= 500_000_000) & (sent < 700_000_000)
    delays[stalled] = (700_000_000 - sent[stalled]) / 1e6
    probed = Probed(sent, delays)

    def judge(stalls: Sequence[tuple[int, int]]) -> check.LinkMeasurement:
        known = Evidence(pair.ends, pair.link.settings, DEFAULT, Limits(), {"delay_ms"})
        known.add(Attempt(delay=probed, stalls=stalls), 1)
        return known.measurements[0]

    assert judge(()).verdict != "holds"
    found = judge([(100, 200), (495_000_000, 700_000_000)])
    assert found.verdict == "holds"
    assert found.measured == pytest.approx(10.0)
    assert 20 <= found.stalled <= 23


def test_few_late_packets_are_set_apart_but_never_make_the_difference() -> None:
    values = np.full(1000, 10.0)
    values[::125] = 30.0
    near = in_time(values)
    assert np.count_nonzero(~near) == 8
    values[::50] = 30.0
    assert in_time(values).all()
    # 1 % that come 200 ms late lift the mean of 10 ms by 2.
    plan = plan_of(jitter_ms=0.0)
    pair = check.choose_pairs(plan, all_pairs=False)[0]
    late = np.full(1000, 10.0)
    late[::100] = 210.0
    known = Evidence(pair.ends, pair.link.settings, DEFAULT, Limits(), {"delay_ms"})
    known.add(Attempt(delay=Probed(np.arange(1000) * 10_000_000, late)), 1)
    assert (known.measurements[0].late, known.measurements[0].verdict) == (10, "not shown")


def test_a_thousand_links_that_do_not_hold_are_told_in_a_few_lines() -> None:
    one = measured(plan_of(), delay=12.0)["delay_ms"]
    many = [replace(one, to_machine=f"endpoint-{number}") for number in range(1000)]
    shown = [replace(one, to_machine=f"x-{number}", verdict="not shown") for number in range(5)]
    said = measurement.lines([*shown, *many])
    assert len(said) == measurement.MOST_TOLD + 1
    assert said[0].startswith("edge-1 → endpoint-0 delay_ms: asked 10, measured 12 [")
    assert said[0].endswith("tolerance 9 … 11: does not hold")
    assert said[-1] == "and 999 more: see links.parquet"
    assert measurement.sentence([*shown, *many]) == (
        "1000 of 1005 link measurements are out of tolerance, 5 not shown to hold"
    )
    assert measurement.sentence(shown) == "5 of 5 link measurements are not shown to hold"
    assert measurement.figures(shown)["not_shown"] == 5


class Scripted(Machine):
    """Answers like the program on a machine, with delays that change from run to run."""

    runs = 0

    def __init__(self, name: str, plan: InfrastructurePlan, delays: list[float]) -> None:
        self.name = name
        self.plan = plan
        self.delays = delays

    def run(self, command: Command) -> Result:
        assert command.input is not None
        part = json.loads(command.input)
        pairs = check.choose_pairs(self.plan, all_pairs=False)
        again = {pairs[0]: {"delay_ms", "stream_delay_ms"}}
        wanted = check.quantities(pairs) if self.runs == 0 else again
        tasks = check.schedule(pairs, wanted)
        delay = self.delays[min(self.runs, len(self.delays) - 1)]
        self.runs += 1
        said = results(self.plan, tasks, delay=delay)[self.name]
        if self.name == pairs[0].destination.name:
            assert {int(each) for each in part["expected"]} <= {task.number for task in tasks}
        return Result(command, 0, json.dumps(said).encode(), b"", 0.1)

    def stream(self, command: Command) -> Iterator[str]:
        raise NotImplementedError

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        raise NotImplementedError

    def get(self, path: str) -> bytes:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("delays", "verdicts"),
    [
        ([10.0], ["holds"]),
        ([15.0, 10.0], ["does not hold", "holds"]),
        # Wrong twice is wrong: later attempts cannot talk it away.
        ([15.0, 15.0, 10.0], ["does not hold", "does not hold"]),
        # On the bound it is measured longer, and never shown.
        ([11.0], ["not shown"] * 4),
        # What spoils one attempt is added to, or left out where the last alone is enough.
        ([11.0, 10.0], ["not shown", "holds"]),
    ],
)
def test_every_attempt_stays(delays: list[float], verdicts: list[str]) -> None:
    plan = make_plan({"edge": 1, "endpoint": 1}, {("edge", "endpoint"): SETTINGS})
    machines = [Scripted(machine.name, plan, delays) for machine in plan.machines]
    told: list[str] = []
    found = check.check(machines, plan, progress=told.append)
    here = [each for each in found if each.quantity == "delay_ms"]
    assert [each.verdict for each in here] == verdicts
    assert [each.attempt for each in here] == list(range(1, len(verdicts) + 1))
    assert len(told) == len(verdicts)
    assert (check.outside(here) == []) is (verdicts[-1] == "holds")
    assert check.deciding(here) == here[-1:]


def test_no_links_need_no_machines() -> None:
    assert check.check([], make_plan({"edge": 2}, {})) == []
