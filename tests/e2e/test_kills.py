"""Signals at twelve points of `up`, `run` and `down` on real machines; then they go on, or go.

Minutes, so only when asked for: CONTINUUM_TEST_KILLS=1 ./test tests/e2e/test_kills.py. Five of these
points are always tried, in `test_faults.py`.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from asked_for import KILLS, number
from run_reasons import defects

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not number(KILLS, 0), reason=f"takes minutes: {KILLS}=1 asks for it"),
]

NAME = "kills"
EXPERIMENT = f"""
name = "{NAME}"
[tiers.edge]
cores = 2
memory = "1 GiB"
[tiers.endpoint]
memory = "512 MiB"
[network]
[[network.links]]
between = ["edge", "endpoint"]
delay = "5 ms"
rate = "100 Mbit/s"
[software]
services = ["mqtt"]
[benchmark]
application = "image_classification"
warmup = "1 s"
duration = "3 s"
answer_timeout = "2 s"
"""
POINTS = [
    ("network", signal.SIGTERM),
    ("machines", signal.SIGKILL),
    ("limits", signal.SIGTERM),
    ("configure machines", signal.SIGINT),
    ("start services", signal.SIGKILL),
    ("links", signal.SIGTERM),
    ("link check", signal.SIGKILL),
    ("workers", signal.SIGTERM),
    ("repetition 1", signal.SIGTERM),
    ("results", signal.SIGTERM),
]


def _ends(continuum: Any, process: Any, sent: signal.Signals) -> None:
    process.send_signal(sent)
    ended = continuum.end(process, limit=60)
    assert ended.code == (-sent if sent == signal.SIGKILL else 130), ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(("step", "sent"), POINTS)
def test_a_run_that_was_killed_goes_on(
    continuum: Any, write: Any, results: Any, step: str, sent: signal.Signals
) -> None:
    file = write(EXPERIMENT)
    process = continuum.start("run", file, "--results", "first", "--accept-links")
    continuum.until_step(process, NAME, step)
    _ends(continuum, process, sent)
    if step == "results":
        assert (continuum.folder / "first/report.html").exists()
    continuum("run", file, "--results", "out", "--accept-links")
    assert defects(results()) == []


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_down_that_was_killed_goes_on(continuum: Any, write: Any, sent: signal.Signals) -> None:
    file = write(EXPERIMENT)
    continuum("up", file)
    lock = continuum.state / "continuum/deployments" / f".{NAME}.lock"
    process = continuum.start("down", NAME)
    _await(lock.exists)
    _ends(continuum, process, sent)
    if sent == signal.SIGKILL:
        continuum("up", file)
        status = json.loads(continuum("status", NAME, "--json").out)[0]
        assert {each["state"] for each in status["machines"]} == {"running"}
        assert status["links_in_force"] == status["links_asked"]
    continuum("down", NAME)
    assert not lock.exists()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_an_image_build_that_was_killed_begins_anew(
    continuum: Any, write: Any, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals
) -> None:
    cache: Path = continuum.folder / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    file = write(f'name = "{NAME}"\n[tiers.edge]\nmemory = "256 MiB"\n')
    process = continuum.start("up", file)
    _await(lambda: any((cache / "continuum/images").glob(".*building*/*")))
    _ends(continuum, process, sent)
    continuum("up", file)
    assert not list((cache / "continuum/images").glob(".*building*"))


def _await(condition: Any) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)
