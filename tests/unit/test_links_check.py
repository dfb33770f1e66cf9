"""When the link check sends what, and what it makes of what arrives."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from continuum.infrastructure.links import check
from continuum.infrastructure.links.check import Task
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
        assert task.count >= 20


def test_three_tiers_take_three_seconds() -> None:
    plan = make_plan(
        {"cloud": 1, "edge": 1, "endpoint": 1},
        {
            (source, destination): LinkSettings(45, 5, 0, 7.21)
            for source, destination in itertools.permutations(("cloud", "edge", "endpoint"), 2)
        },
    )
    tasks = check.schedule(check.choose_pairs(plan, all_pairs=False))
    assert max(task.end_ms for task in tasks) < 2500


def results(
    plan: InfrastructurePlan,
    tasks: list[Task],
    *,
    delay: float = 10.0,
    rate: float = 10.0,
    received: int = 1000,
    offset: float = 0.0,
) -> dict[str, Any]:
    """What the program on the receiver would say; the source hears its echoes."""
    said: dict[str, Any] = {
        machine.name: {"late_ms": 0, "received": {}, "echoed": {}} for machine in plan.machines
    }
    spread = statistics.NormalDist(delay, 2.0)
    for task in tasks:
        got: dict[str, Any] = {"packets": received}
        if task.kind == "delay":
            exact = [spread.inv_cdf((place + 0.5) / task.count) for place in range(task.count)]
            own = check.sending_ms(check.PROBE_FRAME, task.pair.link.settings)
            got["delays_ns"] = [round((each + own + offset) * 1e6) for each in exact]
            back = 10.0 + own
            said[task.pair.source.name]["echoed"][str(task.number)] = [
                round((each + own + back) * 1e6) for each in exact
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
    plan: InfrastructurePlan, clocks: check.Clocks = check.ONE_CLOCK, **values: Any
) -> dict[str, check.LinkMeasurement]:
    pair = check.choose_pairs(plan, all_pairs=False)[0]
    tasks = check.schedule([pair])
    found = check.measurements(pair, tasks, results(plan, tasks, **values), plan, clocks)
    return {each.quantity: each for each in found}


def test_what_is_as_asked_for_is_ok() -> None:
    found = measured(plan_of())
    assert list(found) == ["delay_ms", "jitter_ms", "rate_mbit"]
    assert found["delay_ms"].measured == pytest.approx(10.0, abs=0.01)
    assert found["jitter_ms"].measured == pytest.approx(2.0, abs=0.1)
    assert found["rate_mbit"].measured == pytest.approx(10.0, rel=0.001)
    assert check.outside(list(found.values())) == []
    entry = found["delay_ms"]
    assert (entry.from_tier, entry.to_tier) == ("edge", "endpoint")
    assert (entry.from_machine, entry.to_machine) == ("edge-1", "endpoint-1")


def test_what_is_not_is_not() -> None:
    assert not measured(plan_of(), delay=12.0)["delay_ms"].ok
    assert not measured(plan_of(), delay=8.0)["delay_ms"].ok
    assert not measured(plan_of(), rate=9.4)["rate_mbit"].ok
    assert not measured(plan_of(jitter_ms=4.0))["jitter_ms"].ok
    assert not measured(plan_of(loss_percent=1.0), received=960)["loss_percent"].ok
    assert measured(plan_of(loss_percent=1.0), received=993)["loss_percent"].ok


def test_without_a_common_clock_round_trips_count() -> None:
    found = measured(plan_of(), check.Clocks(one=False), offset=5000.0)
    assert found["delay_ms"].measured == pytest.approx(10.0, abs=0.01)
    assert found["jitter_ms"].measured == pytest.approx(2.0, abs=0.1)
    # One direction 4 ms longer than asked for: each is blamed for half.
    longer = measured(plan_of(), check.Clocks(one=False), delay=14.0)
    assert longer["delay_ms"].measured == pytest.approx(12.0, abs=0.01)


def test_what_machines_take_to_answer_may_come_on_top_and_not_be_missing() -> None:
    slow = check.Clocks(answer_ms={"edge-1": 0.4, "endpoint-1": 0.8})
    later = measured(plan_of(), slow, delay=12.0)["delay_ms"]
    assert later.ok
    assert later.tolerance == pytest.approx(measured(plan_of())["delay_ms"].tolerance + 1.2)
    assert not measured(plan_of(), slow, delay=12.5)["delay_ms"].ok
    assert not measured(plan_of(), slow, delay=8.5)["delay_ms"].ok


def test_what_is_measured_again_goes_few_at_a_time() -> None:
    pairs = check.choose_pairs(plan_of(), all_pairs=True)
    together = [task for task in check.schedule(pairs) if task.kind == "delay"]
    gently = [task for task in check.schedule(pairs, most=0) if task.kind == "delay"]
    assert len(together) > 1
    assert max(task.at_ms for task in together) < min(task.end_ms for task in together)
    for earlier, later in itertools.pairwise(sorted(gently, key=lambda task: task.at_ms)):
        assert earlier.end_ms < later.at_ms


def test_nothing_arrived_is_outside() -> None:
    plan = plan_of()
    pair = check.choose_pairs(plan, all_pairs=False)[0]
    silent: dict[str, Any] = {
        name: {"received": {}, "echoed": {}} for name in ("edge-1", "endpoint-1")
    }
    found = check.measurements(pair, check.schedule([pair]), silent, plan, check.ONE_CLOCK)
    assert [each.measured for each in found] == [None, None, None]
    assert check.outside(found) == found


def test_a_link_that_loses_all_is_measured_by_that() -> None:
    found = measured(plan_of(loss_percent=100.0), received=0)
    assert list(found) == ["loss_percent"]
    assert found["loss_percent"].ok


def test_a_few_late_packets_are_no_jitter() -> None:
    spread = statistics.NormalDist(10, 2)
    values = [spread.inv_cdf((place + 0.5) / 100) for place in range(100)]
    assert check.deviation([*values, 80.0, 90.0]) == pytest.approx(2.0, abs=0.1)
    assert check.deviation([*values[:50], *[80.0] * 50]) > 20


def test_truncation_leaves_less_jitter() -> None:
    assert check.rectified_deviation(45, 5) == pytest.approx(5)
    # Of a normal distribution cut at its mean: sqrt(1/2 − 1/(2π)).
    assert check.rectified_deviation(0, 1) == pytest.approx(0.5838, abs=1e-4)
    assert check.rectified_deviation(3, 0) == 0


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
        tasks = check.schedule(pairs)
        delay = self.delays[min(self.runs, len(self.delays) - 1)]
        self.runs += 1
        said = results(self.plan, tasks, delay=delay)[self.name]
        assert part["expected"].keys() == said["received"].keys()
        return Result(command, 0, json.dumps(said).encode(), b"", 0.1)

    def stream(self, command: Command) -> Iterator[str]:
        raise NotImplementedError

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        raise NotImplementedError

    def get(self, path: str) -> bytes:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("delays", "ok", "times"),
    [
        ([10.0], True, 1),
        ([15.0, 10.0], True, 2),
        ([15.0, 15.0, 15.0, 10.0], True, 4),
        ([15.0, 15.0, 15.0, 15.0, 10.0], False, 4),
    ],
)
def test_the_last_measurement_decides(delays: list[float], ok: bool, times: int) -> None:
    plan = make_plan({"edge": 1, "endpoint": 1}, {("edge", "endpoint"): SETTINGS})
    machines = [Scripted(machine.name, plan, delays) for machine in plan.machines]
    told: list[str] = []
    found = check.check(machines, plan, progress=told.append)
    assert (check.outside(found) == []) is ok
    assert len(told) == times


def test_no_links_need_no_machines() -> None:
    assert check.check([], make_plan({"edge": 2}, {})) == []
