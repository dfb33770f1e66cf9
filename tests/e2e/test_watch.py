"""Watching a real run, in a browser and beside it; and the logs of what took part."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from browser import NARROW, WIDE, tab
from continuum import plugins
from continuum.deployment import Deployment
from continuum.events import Events
from continuum.infrastructure.providers.contract import Provider
from continuum.infrastructure.ssh_machine import SshMachine
from continuum.watch import watcher
from waiting import within

pytestmark = pytest.mark.e2e

NAME = "e2e-watch"
EXPERIMENT = """\
name = "e2e-watch"

[tiers.edge]
machines = 1
memory = "512 MiB"

[tiers.endpoint]
machines = 2
quota = 0.5
memory = "512 MiB"

[network]
preset = "4g"

[benchmark]
application = "image_classification"
workers = "edge"
frequency = "5 Hz"
warmup = "1 s"
duration = "14 s"
answer_timeout = "3 s"
"""


@pytest.fixture(scope="module")
def continuum(shared: Any) -> Any:
    (shared.folder / "experiment.toml").write_text(EXPERIMENT)
    shared("up", "experiment.toml")
    return shared


def seen(continuum: Any, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(continuum("watch", NAME, "--json", *arguments).out)
    return found


@contextmanager
def run(continuum: Any, results: str) -> Iterator[subprocess.Popen[str]]:
    """A run whose load is under way."""
    process = continuum.start("run", "experiment.toml", "--results", results, "--accept-links")
    continuum.until_step(process, NAME, "repetition 1")
    path = continuum.state / "continuum/deployments" / NAME / "live.json"
    assert within(30, lambda: bool(json.loads(path.read_text())["streams"]))
    yield process


@contextmanager
def page(continuum: Any) -> Iterator[str]:
    process = continuum.start("watch", NAME, "--web", "--port", "0")
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    assert continuum.end(process).code == 0


def test_a_run_in_a_browser_and_its_logs(continuum: Any) -> None:
    with page(continuum) as address, tab(WIDE) as opened:
        opened.page.goto(address)
        with run(continuum, "results") as process:
            opened.wait("text=/Repetition 1 of 1: load/")
            opened.wait("#latency-plot polyline.l2")
            opened.wait("#rate-plot polyline.l1")
            opened.wait(".machine:nth-child(3) .bar")
            assert opened.page.locator("td.measured", has_text="Mbit/s").count() == 2
            for width in (WIDE, NARROW):
                opened.page.set_viewport_size({"width": width, "height": 900})
                assert opened.faults() == []
            shown = seen(continuum)
            assert shown["source"] == "samples"
            assert 60 < shown["requests"]["median_ms"] < 400
            assert {machine["state"] for machine in shown["machines"]} == {"running"}
            assert all(machine["used"] is not None for machine in shown["machines"])
            assert all(machine["memory"] > 2**23 for machine in shown["machines"])
            ended = continuum.end(process)
            assert ended.code == 0, ended.err
        opened.wait("#status.done, #status.degraded")
        assert opened.complaints == []
    record = json.loads((continuum.folder / "results/run.json").read_text())
    after = seen(continuum)["requests"]
    whole = record["table"][0]
    assert (after["answered"], after["lost"]) == (whole["ok"], 0)
    assert after["expected"] == whole["samples"]
    _logs_of_a_run(continuum, record)


def _logs_of_a_run(continuum: Any, record: dict[str, Any]) -> None:
    assert {f"logs/machines/{name}.log" for name in ("edge-1", "endpoint-1", "endpoint-2")} < set(
        record["logs"]
    )
    text = (continuum.folder / "results/logs/machines/edge-1.log").read_text()
    assert "continuum-worker-1.service" in text
    listed = json.loads(continuum("logs", NAME, "--list", "--json").out)
    assert listed["problems"] == {}
    names = {(log["name"], log["machine"]) for log in listed["logs"]}
    assert {("mosquitto", "edge-1"), ("worker-1", "edge-1"), ("endpoint-1", "endpoint-1")} < names
    assert "Client" in continuum("logs", NAME, "mosquitto").out
    assert "continuum-worker-1.service" in continuum("logs", NAME, "worker-1").out
    several = continuum("logs", NAME, "ssh.service").out.splitlines()
    assert {re.split(r" *\|", line)[0] for line in several} >= {"edge-1/ssh", "endpoint-2/ssh"}
    assert continuum("logs", NAME, "nonesuch", code=5).out == ""


def test_a_log_is_followed(continuum: Any) -> None:
    process = continuum.start("logs", NAME, "edge-1", "--follow", "--lines", "1")
    assert process.stdout is not None
    assert process.stdout.readline()
    continuum("exec", NAME, "edge-1", "--", "logger", "a word for who follows")
    assert "a word for who follows" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert continuum.end(process).code == 0


def test_a_machine_that_goes_is_seen_and_the_others_logs_come_home(continuum: Any) -> None:
    with run(continuum, "degraded") as process:
        continuum("exec", NAME, "endpoint-2", "--", "systemctl", "poweroff", code=None)

        def is_seen() -> bool:
            machines = {each["name"]: each for each in seen(continuum)["machines"]}
            return bool(machines["endpoint-2"]["state"] != "running")

        assert within(20, is_seen)
        ended = continuum.end(process)
        assert ended.code == 1
    logs = continuum.folder / "degraded/logs/machines"
    assert "continuum-endpoint-1" in (logs / "endpoint-1.log").read_text()
    assert (logs / "endpoint-2.log").read_text().startswith("no log: ")
    shown = seen(continuum)
    assert shown["run"]["status"] == "degraded"
    assert shown["run"]["reasons"]
    continuum("up", "experiment.toml")


def test_who_is_not_root_looks_by_ssh(continuum: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(continuum.state))
    kind: type[Provider] = plugins.load("providers", "lxc")
    monkeypatch.setattr(kind, "may_act", lambda _: False)
    used: list[type] = []
    reachable = watcher.reachable

    def noted(*arguments: Any) -> Any:
        found = reachable(*arguments)
        used.extend(map(type, found))
        return found

    monkeypatch.setattr(watcher, "reachable", noted)
    with watcher.Watcher(NAME, lambda _: kind(kind.settings_type(), Events())) as looking:
        assert within(
            30, lambda: all(machine.used is not None for machine in looking.look().machines)
        )
    assert set(used) == {SshMachine}


def test_a_deployment_that_is_removed_stays_as_it_was_seen_last(
    continuum: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(continuum.state))
    assert Deployment.existing(NAME)
    with page(continuum) as address, tab() as opened:
        opened.page.goto(address)
        opened.wait("text=/The run has ended/")
        continuum("down", NAME)
        opened.wait(".machine .state.removed")
        assert opened.complaints == []
    assert not Path(continuum.state / "continuum/deployments" / NAME).exists()
