"""What breaks in mid-run is said, costs no time beyond its bound, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from run_reasons import defects, exit_code, sentences
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
rate = "100 Mbit/s"
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
    assert (ended.code, run["status"]) == (exit_code(run), "degraded"), ended.err
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


def test_links_taken_off_from_inside_degrade_the_run_and_up_puts_them_on(
    shared: Any, file: Path
) -> None:
    take_off = ("edge-1", "--", "tc", "qdisc", "delete", "dev", "eth0", "root")
    run = break_in_mid_run(shared, file, "no-links", *take_off)
    (reason,) = (each["sentence"] for each in run["reasons"] if "in force" in each["sentence"])
    assert reason == "links were not in force as declared after repetition 1: edge → endpoint"
    assert run["tcp"]["net.ipv4.tcp_congestion_control"] == "cubic"
    assert "not in force: edge → endpoint" in shared("status", NAME, code=1).out
    shared("up", file)
    shared("status", NAME)


def test_ipv6_switched_on_inside_reaches_nobody(shared: Any, file: Path) -> None:
    shared("up", file)
    for number, machine in enumerate(("edge-1", "endpoint-1"), start=1):
        switch = "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.eth0.disable_ipv6=0"
        shared("exec", NAME, machine, "--", "sysctl", "-q", "-w", *switch)
        address = ("ip", "address", "replace", f"fd00::{number}/64", "dev", "eth0", "nodad")
        shared("exec", NAME, machine, "--", *address)
    ping = ("edge-1", "--", "ping", "-c", "1", "-W", "1")
    assert " 0 received" in shared("exec", NAME, *ping, "fd00::2", code=1).out
    (endpoint,) = (
        each["address"]
        for each in json.loads(shared("status", NAME, "--json").out)[0]["machines"]
        if each["name"] == "endpoint-1"
    )
    assert " 1 received" in shared("exec", NAME, *ping, endpoint).out


def test_programs_that_take_the_host_are_told(shared: Any, file: Path) -> None:
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in os.sched_getaffinity(0)
    ]
    try:
        shorter = ("--set", "benchmark.duration=3s")
        shared("run", file, "--results", "busy", "--accept-links", *shorter, code=None)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    run = json.loads((shared.folder / "busy" / "run.json").read_text())
    busy = [reason["sentence"] for reason in run["reasons"] if reason["code"] == "host-busy"]
    assert any("other programs had" in sentence for sentence in busy), run["reasons"]
    check, repetition = run["host_share"]
    assert (check["repetition"], repetition["repetition"]) == (0, 1)
    assert repetition["crowded_percent"] > 50
    assert repetition["real_time"]
    assert {each["machine"] for each in repetition["throttling"]} == {
        machine["name"] for machine in run["machines"]
    }
    table = pq.read_table(shared.folder / "busy" / "samples.parquet")
    assert table["host_stall_ms"].null_count == table["answered_ns"].null_count


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
    assert defects(results()) == []
