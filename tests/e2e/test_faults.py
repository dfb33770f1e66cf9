"""What breaks in mid-run is said, costs no time beyond its bound, and leaves nothing behind."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from run_reasons import sentences
from waiting import await_load

pytestmark = pytest.mark.e2e

NAME = "faults"
EXPERIMENT = f"""
name = "{NAME}"
[tiers.edge]
cores = 2
memory = "1 GiB"
[tiers.endpoint]
machines = 2
memory = "512 MiB"
[network]
[[network.links]]
between = ["edge", "endpoint"]
delay = "5 ms"
[benchmark]
application = "image_classification"
warmup = "1 s"
duration = "8 s"
answer_timeout = "2 s"
"""


def break_in_mid_run(
    shared: Any, file: Path, results: str, *breaking: str, code: int | None = 0
) -> dict[str, Any]:
    """A run, and a command in the middle of its load, which ends so; what `run.json` says."""
    process = shared.start("run", file, "--results", results, "--accept-links")
    shared.until_step(process, NAME, "repetition 1")
    await_load(shared.state, NAME)
    shared("exec", NAME, *breaking, code=code)
    began = time.monotonic()
    ended = shared.end(process)
    assert time.monotonic() - began < 45
    run: dict[str, Any] = json.loads((shared.folder / results / "run.json").read_text())
    assert (ended.code, run["status"]) == (1, "degraded"), ended.err
    assert run["table"][0]["samples"] == 80
    return run


KILL = ("edge-1", "--", "systemctl", "kill", "-s", "KILL")


def test_a_killed_broker_degrades_the_run(shared: Any, file: Path) -> None:
    run = break_in_mid_run(shared, file, "no-broker", *KILL, "--kill-whom=main", "mosquitto")
    assert 0 < run["table"][0]["ok"] < 80


def test_a_killed_worker_degrades_the_run(shared: Any, file: Path) -> None:
    run = break_in_mid_run(shared, file, "no-worker", *KILL, "continuum-worker-1")
    assert any("worker-1" in reason for reason in sentences(run))
    assert run["table"][0]["lost"] > 0


@pytest.mark.parametrize("machine", ["endpoint-2", "edge-1"])
def test_a_killed_machine_degrades_the_run_and_up_heals_it(
    shared: Any, file: Path, machine: str
) -> None:
    halt = (machine, "--", "systemctl", "halt", "--force", "--force")
    run = break_in_mid_run(shared, file, f"no-{machine}", *halt, code=None)
    assert any(machine in reason for reason in sentences(run))
    healed = shared("up", file)
    assert machine in healed.err
    shared("exec", NAME, machine, "--", "true")


@pytest.mark.parametrize(
    ("step", "sent"),
    [
        ("network", signal.SIGKILL),
        ("machines", signal.SIGINT),
        ("configure machines", signal.SIGKILL),
        ("links", signal.SIGINT),
        ("repetition 1", signal.SIGKILL),
    ],
)
def test_killed_at_a_step_it_resumes_and_goes(
    continuum: Any, write: Any, results: Any, step: str, sent: signal.Signals
) -> None:
    file = write(EXPERIMENT)
    process = continuum.start("run", file, "--results", "first", "--accept-links")
    continuum.until_step(process, NAME, step)
    process.send_signal(sent)
    ended = continuum.end(process)
    # Python ends by SIGINT itself where that came while a module made a class from text; shells say
    # 130 of both.
    assert ended.code in ({130, -signal.SIGINT} if sent == signal.SIGINT else {-signal.SIGKILL})
    assert "Traceback" not in ended.err
    if step == "machines":
        return  # `down`, by the fixture, has to clean what was half made.
    again = ("--results", "out", "--accept-links", "--set", "benchmark.duration=2s")
    continuum("run", file, *again)
    assert results()["status"] == "done"
