"""`continuum watch`: before, during and after a run, in the terminal and in a browser."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from browser import NARROW, WIDE, Tab, tab
from command_line import Cli, Process, Write, started
from continuum import live
from continuum.deployment import Deployment
from waiting import within

LOAD = """
[benchmark]
application = "image_classification"
frequency = "20 Hz"
warmup = "0.5 s"
duration = "{seconds} s"
repetitions = {repetitions}
"""


def load(seconds: float, repetitions: int = 1) -> str:
    return LOAD.format(seconds=seconds, repetitions=repetitions)


@contextmanager
def running(write: Write, folder: Path, rest: str, name: str = "paper") -> Iterator[Process]:
    """A run whose first repetition has begun."""
    path = write(name, rest=rest)
    with started(folder, "run", path, "--results", folder / "results") as process:

        def has_begun() -> bool:
            assert process.process.poll() is None
            run = live.read(Deployment.named(name).folder)
            return run is not None and bool(run.streams)

        assert within(60, has_begun)
        yield process


@contextmanager
def page_served(folder: Path, *options: object) -> Iterator[tuple[Process, str]]:
    """The page's address, while `watch --web` serves it."""
    with started(folder, "watch", "--web", *options) as process:
        out = folder / "stdout"
        assert within(30, lambda: out.read_text().endswith("/\n"))
        yield process, out.read_text().strip()


def test_before_any_run_it_says_what_to_do(cli: Cli) -> None:
    ending = cli("watch", "--once")
    assert ending.code == 0
    assert "continuum run FILE" in ending.stdout
    assert cli("watch", "--json").json["stage"] == "nothing"


def test_an_unknown_deployment_is_refused(cli: Cli) -> None:
    assert cli("watch", "nonesuch").code == 5


@pytest.mark.parametrize(
    "options",
    [["--port", "80"], ["--web", "--once"], ["--web", "--json"], ["--web", "--port", "-1"]],
)
def test_options_that_do_not_go_together(cli: Cli, options: list[str]) -> None:
    assert cli("watch", *options).code == 2


def test_a_deployment_without_a_run(cli: Cli, write: Write) -> None:
    cli("up", write())
    seen = cli("watch", "--json").json
    assert seen["stage"] == "up"
    assert [machine["state"] for machine in seen["machines"]] == ["running"] * 3
    assert all(machine["used"] is not None for machine in seen["machines"])
    assert {link["ok"] for link in seen["links"]} == {None}
    assert seen["requests"] is None


def test_a_run_is_seen_while_it_lasts_and_after(cli: Cli, write: Write, tmp_path: Path) -> None:
    with running(write, tmp_path / "run", load(8)) as run:
        seen: dict[str, Any] = {}

        def answers_are_seen() -> bool:
            seen.update(cli("watch", "paper", "--json").json)
            return bool(seen["requests"] and seen["requests"]["answered"] > 120)

        assert within(20, answers_are_seen)
        requests = seen["requests"]
        assert seen["stage"] == "running"
        assert seen["source"] == "samples"
        assert requests["expected"] == 320
        assert requests["answered"] < 320
        assert requests["median_ms"] > 10
        assert seen["timeline"]
        assert all(link["ok"] for link in seen["links"])
        assert run.ends().code == 0
    seen = cli("watch", "--json").json
    assert seen["stage"] == "ended"
    assert seen["run"]["status"] == "done"
    assert Path(seen["run"]["report"]).exists()
    requests = seen["requests"]
    assert requests["answered"] == 320
    assert requests["waiting"] == 0


def test_losses_are_seen(cli: Cli, write: Write, tmp_path: Path) -> None:
    path = write(rest=load(1), fake="loss = 50")
    assert cli("run", path, "--results", tmp_path / "results").code == 1
    assert within(30, lambda: cli("watch", "--json").json["requests"]["lost"] > 5)


def test_a_run_that_was_killed_is_not_taken_for_one_that_lasts(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    with running(write, tmp_path / "run", load(30)) as run:
        run.signal(signal.SIGKILL)
        run.process.wait(timeout=30)
        seen = cli("watch", "--json").json
    assert (seen["stage"], seen["run"]["status"], seen["steps"]) == ("ended", "killed", [])


def test_without_a_terminal_it_writes_lines_until_it_is_interrupted(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    cli("up", write())
    with started(tmp_path / "watch", "watch") as watch:
        assert within(30, lambda: "paper" in (tmp_path / "watch/stdout").read_text())
        watch.signal(signal.SIGINT)
        ended = watch.ends(15)
    assert ended.code == 0
    assert "no run yet" in ended.stdout


def drawn(opened: Tab) -> None:
    """Every figure of a run is there, and nothing is out of place."""
    opened.wait("#latency-plot polyline.l1")
    opened.wait("#latency-plot polyline.l2")
    opened.wait("#rate-plot polyline.l1")
    opened.wait(".machine:nth-child(3) .bar")
    opened.wait(".machine svg")
    opened.wait("td.measured")
    for name in ("answered", "rate", "median", "p95", "failed", "waiting"):
        text = opened.page.inner_text(f"#{name}")
        assert text[0].isdecimal(), (name, text)
    assert opened.page.locator("td.holds", has_text="holds").count() == 2
    assert opened.faults() == []


@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (NARROW, False), (NARROW, True)])
def test_the_page_draws_every_figure(
    write: Write, tmp_path: Path, width: int, *, dark: bool
) -> None:
    with (
        running(write, tmp_path / "run", load(25)),
        page_served(tmp_path / "watch", "--port", 0) as (_, address),
        tab(width, dark=dark) as opened,
    ):
        opened.page.goto(address)
        drawn(opened)
        opened.wait("text=/Repetition 1 of 1: load/")
        assert opened.page.inner_text("#status") == "running"
        assert opened.complaints == []
        place = address[: -len(urlsplit(address).path)]
        assert {each for each in opened.asked if not each.startswith(f"{place}/")} == set()
        # What is shown in the browser can be shown to others.
        assert opened.page.url == f"{place}/"


def test_a_browser_that_comes_back_sees_the_next_run(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    with page_served(tmp_path / "watch", "--port", 0) as (watch, address):
        with tab() as opened:
            opened.page.goto(address)
            opened.wait("text=/continuum run FILE/")
            assert opened.faults() == []
            with running(write, tmp_path / "one", load(5), "first") as run:
                opened.wait("#latency-plot polyline.l1")
                assert opened.page.inner_text("#name") == "first"
                assert run.ends().code == 0
            opened.wait("#status.done")
            opened.wait("text=/report.html/")
            assert opened.complaints == []
        # Nobody looks; another run of another deployment begins.
        with running(write, tmp_path / "two", load(20), "second"), tab(NARROW) as again:
            again.page.goto(address)
            again.wait("#status.running")
            assert again.page.inner_text("#name") == "second"
            drawn(again)
            assert again.complaints == []
        watch.signal(signal.SIGINT)
        assert watch.ends(15).code == 0
    cli("down", "--all")


def test_a_page_whose_server_went_says_so_and_goes_on_with_the_next(tmp_path: Path) -> None:
    with tab() as opened:
        with page_served(tmp_path / "one", "--port", 0) as (watch, address):
            port = urlsplit(address).port
            opened.page.goto(address)
            opened.wait("body[data-drawn]")
            watch.signal(signal.SIGTERM)
            assert watch.ends(15).code == 0
        opened.wait("#cut:not([hidden])")
        with page_served(tmp_path / "two", "--port", port):
            opened.page.wait_for_selector("#cut", state="hidden", timeout=20_000)


def test_a_port_that_is_taken(cli: Cli, tmp_path: Path) -> None:
    with page_served(tmp_path / "one", "--port", 0) as (_, address):
        port = urlsplit(address).port
        assert cli("watch", "--web", "--port", port).code == 3


def test_what_the_terminal_shows_is_left_as_it_was(cli: Cli, write: Write, tmp_path: Path) -> None:
    cli("up", write())
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "continuum", "watch"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm"},
        cwd=tmp_path,
    )
    os.close(slave)
    said = b""
    try:
        while b"endpoint-2" not in said:
            said += os.read(master, 65536)
        process.send_signal(signal.SIGINT)
        try:
            while chunk := os.read(master, 65536):
                said += chunk
        except OSError:
            pass  # The terminal has nobody at its other end any more.
        assert process.wait(timeout=15) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    # The screen that it drew on is given back, and the cursor is to be seen.
    assert said.index(b"\x1b[?1049h") < said.index(b"\x1b[?1049l")
    assert said.rindex(b"\x1b[?25h") > said.rindex(b"\x1b[?25l")
    assert b"Traceback" not in said
    assert json.loads(cli("watch", "--json").stdout)["stage"] == "up"
