"""What breaks in mid-run is said, costs no time beyond its bound, and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

EXPERIMENT = """
name = "{name}"
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


def await_samples(continuum: Any, name: str) -> None:
    """Wait until both endpoints are in the middle of their load."""
    samples = "/var/lib/continuum/run/endpoint-{}-1/samples.jsonl"
    deadline = time.monotonic() + 60
    for number in (1, 2):
        asked = ("exec", name, f"endpoint-{number}", "--", "wc", "-l", samples.format(number))
        lines = 0
        while lines < 12:
            assert time.monotonic() < deadline, "no samples"
            found = re.search(r"(\d+) /var/lib", continuum(*asked, code=None).out)
            lines = int(found[1]) if found else 0


def break_in_mid_run(continuum: Any, write: Any, name: str, breaking: Callable[[], object]) -> Any:
    file = write(EXPERIMENT.format(name=name))
    process = continuum.start("run", file, "--results", "out", "--accept-links")
    continuum.until_step(process, name, "repetition 1")
    await_samples(continuum, name)
    breaking()
    began = time.monotonic()
    ended = continuum.end(process)
    assert time.monotonic() - began < 45
    return ended


def test_a_killed_broker_degrades_the_run(continuum: Any, write: Any, results: Any) -> None:
    ended = break_in_mid_run(
        continuum,
        write,
        "no-broker",
        lambda: continuum(
            "exec",
            "no-broker",
            "edge-1",
            "--",
            "systemctl",
            "kill",
            "-s",
            "KILL",
            "--kill-whom=main",
            "mosquitto",
        ),
    )
    run = results()
    assert (ended.code, run["status"]) == (1, "degraded"), ended.err
    everything = run["table"][0]
    assert everything["samples"] == 80
    assert 0 < everything["ok"] < 80


def test_a_killed_worker_degrades_the_run(continuum: Any, write: Any, results: Any) -> None:
    ended = break_in_mid_run(
        continuum,
        write,
        "no-worker",
        lambda: continuum(
            "exec",
            "no-worker",
            "edge-1",
            "--",
            "systemctl",
            "kill",
            "-s",
            "KILL",
            "continuum-worker-1",
        ),
    )
    run = results()
    assert (ended.code, run["status"]) == (1, "degraded"), ended.err
    assert any("worker-1" in reason for reason in run["reasons"])
    assert run["table"][0]["lost"] > 0


@pytest.mark.parametrize("machine", ["endpoint-2", "edge-1"])
def test_a_killed_machine_degrades_the_run_and_up_heals_it(
    continuum: Any, write: Any, results: Any, machine: str
) -> None:
    ended = break_in_mid_run(
        continuum,
        write,
        "no-machine",
        lambda: continuum(
            "exec",
            "no-machine",
            machine,
            "--",
            "systemctl",
            "halt",
            "--force",
            "--force",
            code=None,
        ),
    )
    run = results()
    assert (ended.code, run["status"]) == (1, "degraded"), ended.err
    assert any(machine in reason for reason in run["reasons"])
    assert run["table"][0]["samples"] == 80
    healed = continuum("up", write(EXPERIMENT.format(name="no-machine")))
    assert machine in healed.err
    continuum("exec", "no-machine", machine, "--", "true")


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
    file = write(EXPERIMENT.format(name="killed"))
    process = continuum.start("run", file, "--results", "first", "--accept-links")
    continuum.until_step(process, "killed", step)
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
