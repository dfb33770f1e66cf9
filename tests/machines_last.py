"""Tests side by side, a file on each core; then, alone, those on real machines.

What a test on real machines leaves on the host is found by comparing the whole host before and
after, and what it measures is spoilt by whatever else computes. So these tests come last, on one
of pytest's workers, and begin when those of the other workers have ended.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

LIMIT = 500.0
"""Seconds that the first test on real machines waits: less than a test's own limit."""


def is_alone(item: pytest.Item) -> bool:
    """Whether a test must have the host for itself."""
    return item.get_closest_marker("e2e") is not None


class MachinesLast:
    """Orders the tests of one worker, and keeps count of those of all workers."""

    def __init__(self, ended: Path) -> None:
        self.ended = ended
        self.others = 0
        self.are_over = False

    # Before pytest-xdist reads the groups.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """One group for each file, and one for all tests on real machines."""
        items.sort(key=is_alone)
        self.others = sum(not is_alone(item) for item in items)
        for item in items:
            group = "real machines" if is_alone(item) else item.nodeid.partition("::")[0]
            item.add_marker(pytest.mark.xdist_group(group))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Wait until the tests that may run side by side are over."""
        if self.are_over or not is_alone(item):
            return
        deadline = time.monotonic() + LIMIT
        while self._count() < self.others:
            if time.monotonic() > deadline:
                pytest.fail(f"{self.others - self._count()} tests of others do not end")
            time.sleep(0.05)
        self.are_over = True

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Count a test that has ended, whichever worker ran it."""
        del nodeid
        with self.ended.open("ab") as file:
            file.write(b".")

    def _count(self) -> int:
        try:
            return self.ended.stat().st_size
        except FileNotFoundError:
            return 0
