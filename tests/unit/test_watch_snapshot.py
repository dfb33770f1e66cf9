"""One snapshot, of whatever is known."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from continuum import live
from continuum.cli import output, watch_terminal
from continuum.infrastructure.links.check import LinkMeasurement
from continuum.infrastructure.plan import Link, LinkSettings
from continuum.journal import Entry
from continuum.live import LiveRun, Teller
from continuum.watch.snapshot import Known, Requests, Usage, open_steps, snapshot
from made_up_plans import PLAN as WITHOUT_LINKS
from watched_runs import START, stream

AT = START / 1e9
LINK = Link("cloud", "edge", (), (), LinkSettings(45, 5, 0.0, 7.21))
PLAN = replace(WITHOUT_LINKS, network=replace(WITHOUT_LINKS.network, links=(LINK,)))
RUN = LiveRun("paper-1", "/results/paper-1", os.getpid(), AT, repetitions=2)


def known(**changes: object) -> Known:
    states = {spec.name: "running" for spec in PLAN.machines}
    basis = Known(at=AT + 5, deployment="paper", provider="fake", plan=PLAN, states=states)
    return replace(basis, **changes)  # type: ignore[arg-type]


def entry(step: str, state: str, process: int = 1, at: float = AT) -> Entry:
    return Entry(at, "infrastructure", step, state, "", process)


def test_before_anything_it_says_what_to_do() -> None:
    seen = snapshot(Known(at=AT))
    assert seen.stage == "nothing"
    assert "continuum run FILE" in seen.advice[0]
    assert watch_terminal.line(seen).endswith(seen.advice[0])


def test_a_deployment_without_a_run_is_up() -> None:
    seen = snapshot(known())
    assert (seen.stage, seen.run) == ("up", None)
    assert any("continuum run" in line for line in seen.advice)


def test_a_run_tells_how_far_it_is() -> None:
    run = replace(RUN, streams=(stream(),))
    for seconds, words in ((0.4, "warm-up, 0 of 1 s"), (5, "load, 4 of 10 s"), (12, "waiting")):
        seen = snapshot(known(live=run, run_lasts=True, at=AT + seconds))
        assert seen.stage == "running"
        assert seen.run is not None
        assert seen.run.load.startswith(words)
        assert seen.run.repetition == 1
        assert seen.run.fraction == pytest.approx(min(1.0, max(0.0, (seconds - 1) / 10)))


def test_a_run_whose_process_is_gone_was_killed() -> None:
    seen = snapshot(known(live=RUN))
    assert seen.run is not None
    assert (seen.stage, seen.run.status, seen.run.report) == ("ended", "killed", "")


def test_a_run_that_ended_names_its_report() -> None:
    seen = snapshot(known(live=replace(RUN, status="degraded", reasons=("3 were lost",))))
    assert seen.run is not None
    assert seen.run.report == "/results/paper-1/report.html"
    assert seen.run.reasons == ("3 were lost",)
    assert "report.html" in seen.advice[0]


def test_what_is_gone_has_no_figures_and_needs_no_removal() -> None:
    seen = snapshot(known(live=replace(RUN, status="done"), gone=True))
    assert {machine.state for machine in seen.machines} == {"removed"}
    assert not any("continuum down" in line for line in seen.advice)


def test_steps_that_have_not_ended_are_under_way() -> None:
    entries = [
        entry("machines", "started", process=7),
        entry("image", "started"),
        entry("image", "finished"),
        entry("machines", "started"),
        entry("links", "started"),
        entry("links", "failed"),
    ]
    assert [step.name for step in open_steps(entries)] == ["machines"]
    assert open_steps([]) == ()
    assert snapshot(known(entries=entries)).steps == ()
    assert [step.name for step in snapshot(known(entries=entries, changing=True)).steps] == [
        "machines"
    ]


def test_links_stand_beside_what_was_measured() -> None:
    assert {each.ok for each in snapshot(known()).links} == {None}
    measured = [
        LinkMeasurement("cloud", "edge", "a", f"b-{number}", "delay_ms", 45, value, 1, ok=ok)
        for number, value, ok in ((1, 44.0, True), (2, 50.0, False), (3, None, False))
    ]
    seen = snapshot(known(live=replace(RUN, links=tuple(measured))))
    (view,) = seen.links
    assert view.measured == {"delay_ms": 47.0}
    assert view.ok is False
    assert view.asked["delay_ms"] == 45


def test_a_machine_that_does_not_run_has_no_figures_of_now() -> None:
    first, second = PLAN.machines
    usage = {spec.name: Usage(0.5, 2.0**20, (0.4, 0.5)) for spec in PLAN.machines}
    seen = snapshot(
        known(
            usage=usage,
            states={first.name: "running"},
            problems={second.name: "does not run"},
        )
    )
    views = {machine.name: machine for machine in seen.machines}
    assert views[first.name].used == 0.5
    assert views[second.name].used is None
    assert views[second.name].problem == "does not run"
    assert views[second.name].state == "missing"


@pytest.mark.parametrize("width", [80, 40])
def test_the_terminal_draws_any_snapshot(width: int) -> None:
    from rich.console import Console

    run = replace(RUN, streams=(stream(),), reasons=("[red]odd\x1b[2J",))
    for seen in (
        snapshot(Known(at=AT)),
        snapshot(known(live=run, run_lasts=True)),
        snapshot(known(live=replace(run, status="failed"))),
    ):
        console = Console(width=width, record=True, file=None, force_terminal=False)
        with console.capture() as drawn:
            console.print(watch_terminal.draw(seen))
        assert "\x1b" not in drawn.get()
        assert "\n" not in watch_terminal.line(seen)
        json.dumps(output.plain(seen), allow_nan=False)


@pytest.mark.parametrize("width", [120, 80, 60, 40])
def test_the_terminal_shows_figures_whole_or_not_at_all(width: int) -> None:
    from rich.console import Console

    usage = {spec.name: Usage(0.5, 2.0**28, (0.1, 0.5) * 20) for spec in PLAN.machines}
    links = tuple(
        LinkMeasurement("cloud", "edge", "a", "b", quantity, 45, value, 1, ok=False)
        for quantity, value in (("delay_ms", 45.25), ("jitter_ms", 5.125), ("rate_mbit", 7.195))
    )
    run = replace(RUN, streams=(stream(),), links=links)
    seen = snapshot(known(live=run, run_lasts=True, usage=usage))
    seen = replace(
        seen,
        requests=Requests(400, 160, 0, 0, 0, 20, 1, 20.0, 1066.6, 1127.5, 5, 5),
    )
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as drawn:
        console.print(watch_terminal.draw(seen))
    text = drawn.get()
    assert max(map(len, text.splitlines())) <= width
    for whole in ("0.50 of 1.5", "45.25 ± 5.125 ms", "7.195 Mbit/s", "1066.6 ms", "1127.5 ms"):
        assert whole in text
    assert ("256 MiB of 1 GiB" in text) is ("memory" in text.partition("not shown")[0])
    assert "out of" in text


def test_bars_reach_from_nothing_to_the_largest() -> None:
    assert watch_terminal.sparkline([0.0, None, 1.0, 2.0]) == "▁ ▅█"
    assert watch_terminal.sparkline([]) == ""
    assert watch_terminal.sparkline([0.0, 0.0]) == "▁▁"


def test_a_run_tells_and_is_read(tmp_path: Path) -> None:
    teller = Teller(tmp_path, RUN)
    teller.begins((stream(),))
    teller.begins((stream(repetition=2),))
    found = live.read(tmp_path)
    assert found == replace(RUN, streams=(stream(), stream(repetition=2)))
    assert found is not None
    assert found.lasts
    teller.tell(status="done")
    ended = live.read(tmp_path)
    assert ended is not None
    assert not ended.lasts


def test_what_cannot_be_written_or_read_hinders_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Teller(tmp_path / "file", RUN).tell(status="done")
    assert live.read(tmp_path) is None
    (tmp_path / live.FILE).write_text('{"run": ')
    assert live.read(tmp_path) is None
