"""Waiting for what comes to pass outside of the test."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether something is so before so many seconds are over; asked again and again."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def await_load(state: Path, name: str) -> None:
    """Wait until both endpoints are in the middle of their load.

    `state` is the state folder of the tests' command line. A look at the files costs the run nothing.
    """
    machines = state / "continuum" / "deployments" / name / "machines"

    def under_way() -> bool:
        files = machines.glob("*-endpoint-*/upper/var/lib/continuum/run/*/samples.jsonl")
        return sum(file.read_bytes().count(b"\n") > 12 for file in files) == 2

    assert within(60, under_way), "no samples"
