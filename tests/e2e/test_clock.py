"""Clocks of machines, on containers that stand for machines with clocks of their own: the true offset
of each is 0."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from continuum import existing, plugins, workflow
from continuum.benchmark.results import Run
from continuum.events import Events
from continuum.experiment.load import load
from continuum.infrastructure import time_source
from continuum.infrastructure.links import process
from continuum.machine import Command, Machine
from continuum.report import format as show
from continuum.report import table
from continuum.report.clocks import Clocks
from continuum.software.services.clock import Clock
from own_clocks import NAME
from run_reasons import OF_THE_HOST
from side_by_side import nothing_left

pytestmark = pytest.mark.e2e

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own-application" / "experiment.toml"
SETTINGS = (
    'name="e2e-clock"',
    "benchmark.repetitions=2",
    "benchmark.warmup=0s",
    "benchmark.duration=2s",
    "tiers.endpoint.machines=1",
    "network.links=[{between=['edge','endpoint'],delay='10 ms'}]",
)
MILLISECOND = 1_000_000


class Ran:
    """A run, whose deployment stays up for all tests here."""

    def __init__(self, folder: Path) -> None:
        self.loaded = load(EXAMPLE, settings=SETTINGS, provider=NAME)
        accept = sorted(OF_THE_HOST)
        self.outcome = workflow.run(self.loaded, Events(), results=folder, accept=accept)
        self.record: Run = self.outcome.record
        self.deployment = self.outcome.deployment

    @property
    def machines(self) -> list[Machine]:
        return existing.machines(self.deployment.name, (), Events())

    @property
    def sources(self) -> list[int]:
        """Processes that tell this host's time to the deployment."""
        return process.find(self.deployment.identity, time_source.MODULE)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    with nothing_left(), pytest.MonkeyPatch.context() as patch:
        state = tmp_path_factory.mktemp("state")
        patch.setenv("XDG_STATE_HOME", str(state))
        patch.setitem(plugins._BUILT_IN["providers"], NAME, "own_clocks:OwnClocks")
        try:
            ran = Ran(tmp_path_factory.mktemp("results"))
            yield ran
        finally:
            patch.setenv("XDG_STATE_HOME", str(state))
            workflow.down((), Events(), all_=True)
        assert ran.sources == []


@pytest.fixture
def ran(deployed: Ran, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """The run, in its own state folder and not in the test's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(deployed.deployment.root.parents[1]))
    return deployed


def test_clocks_are_read_around_each_repetition_and_the_truth_is_within_the_bound(
    ran: Ran,
) -> None:
    assert ran.record.status == "done" or ran.record.accepted, ran.record.reasons
    readings = ran.record.clock.readings
    assert not ran.record.clock.one_clock
    assert [(each.machine, each.repetition, each.when) for each in readings] == [
        (machine, repetition, when)
        for repetition in (1, 2)
        for when in ("before", "after")
        for machine in ("edge-1", "endpoint-1")
    ]
    for each in readings:
        assert each.datagrams
        assert abs(each.offset_ns) <= each.bound_ns < MILLISECOND


def test_what_clocks_add_stands_beside_the_forward_delay(ran: Ran) -> None:
    error = Clocks(ran.record).error("forward_ms", "all", "all")
    assert error is not None
    assert error.low <= 0 <= error.high
    page = (ran.outcome.folder / "report.html").read_text()
    assert str(error) in page
    forward = ran.record.all.statistic("forward_ms") if ran.record.all else None
    assert forward is not None
    assert forward.mean.value > 9
    assert f"{table.cell(forward.mean).value} {show.DOUBTFUL}" not in page


def test_chrony_follows_this_host_and_in_a_container_only_looks(ran: Ran) -> None:
    for machine in ran.machines:
        assert Clock().ready(machine)
        shown = machine.run(Command(("pgrep", "--full", "--list-full", "chronyd"))).check().text
        assert " -x " in shown
        sources = machine.run(Command(("chronyc", "-c", "-n", "sources"))).check().text
        mode, state, address, stratum, *_ = sources.split(",")
        assert (mode, state, stratum) == ("^", "*", "10")
        assert address.endswith(".1")


def test_a_second_time_changes_nothing_and_a_source_that_died_comes_back(ran: Ran) -> None:
    first = ran.sources
    assert len(first) == 1
    assert workflow.up(ran.loaded, Events()).changes == ()
    assert ran.sources == first
    time_source.stop(ran.deployment.identity)
    workflow.up(ran.loaded, Events())
    assert len(ran.sources) == 1
