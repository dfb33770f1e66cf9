"""Tests in lanes: files side by side on pytest's workers, on one host.

- A test marked `quiet` has the host for itself while it runs: it measures, or it changes what the
  whole host shares. One that measures only after long preparations says `alone()` when it does.
- What a test on real machines leaves is found by comparing the host before and after. What belongs
  to another lane is told by its labels, and left out; what is between two labels for a moment, as a
  machine that is just going, is looked at again.
- Who gets which file, `lane_order` says.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import IO

import pytest

from continuum.deployment import Deployment
from continuum.infrastructure.host.network import FORWARDING
from continuum.testing import host_state

_LOOK_AGAIN = 30.0
_INTERFACES = Path("/sys/class/net")
_LANE = re.compile(r"popen-(gw\d+)")
_WORKER = re.compile(r" of (gw\d+)$")
_PROCESS = re.compile(r"(\d+) ")
_NAMESPACE_OF = re.compile(r"ctmtest-(\d+)-")
_OURS = re.compile(r"ctm|continuum|lxc|popen-gw")

Difference = dict[str, dict[str, list[str]]]
"""What `host_state.difference` finds."""


class Lane:
    """One of pytest's workers: its tests by files, its own folder for temporary files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = os.environ[host_state.WORKER]
        self.process, self.parent = os.getpid(), os.getppid()
        self.foreign: set[str] = set()
        self._running: IO[str] | None = None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Files with real machines first, then slow ones; small ones fill the end.

        Those that measure come beside small ones, for whose ends they do not wait long.
        """

        def place(item: pytest.Item) -> tuple[bool, ...]:
            e2e, slow, measures = (
                item.get_closest_marker(name) is not None for name in ("e2e", "slow", "measures")
            )
            return (measures or not e2e, not slow, not measures)

        items.sort(key=place)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """One test, beside those of the other lanes or alone."""
        with self._turn(alone=item.get_closest_marker("quiet") is not None):
            return (yield)

    @contextmanager
    def _turn(self, *, alone: bool) -> Iterator[None]:
        with ExitStack() as held:
            # Who waits to be alone holds the first lock, so that no other test begins meanwhile.
            with _locked(self.folder / "next", fcntl.LOCK_EX):
                lock = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
                self._running = held.enter_context(_locked(self.folder / "running", lock))
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The same for a part of a test that runs beside others."""
        assert self._running is not None
        # Two that wait for each other to end would wait for ever.
        fcntl.flock(self._running, fcntl.LOCK_UN)
        with _locked(self.folder / "next", fcntl.LOCK_EX):
            fcntl.flock(self._running, fcntl.LOCK_EX)
        yield
        fcntl.flock(self._running, fcntl.LOCK_SH)

    def own(self, difference: Difference) -> Difference:
        """The part of a difference that is not other lanes'."""
        self._learn()
        kept = {
            kind: {
                "added": [each for each in changes["added"] if not self._is_foreign(each)],
                "gone": [each for each in changes["gone"] if not _OURS.search(each)],
            }
            for kind, changes in difference.items()
            if kind != "forwarding" or _must_be_taken_back(changes)
        }
        return {kind: each for kind, each in kept.items() if each["added"] or each["gone"]}

    def _learn(self) -> None:
        """Remember the identities of other lanes' deployments: by their folders, and by bridges."""
        for folder in self.folder.glob("popen-gw*/*/state/continuum/deployments/*"):
            lane = _LANE.search(str(folder.relative_to(self.folder)))
            if lane is not None and lane[1] != self.name:
                self.foreign.add(Deployment(folder.name, folder.parent).identity)
        for alias in _INTERFACES.glob("ctm*/ifalias"):
            lane = _LANE.search(alias.read_text())
            if lane is not None and lane[1] != self.name:
                self.foreign.add(alias.parent.name.removeprefix("ctm"))

    def _is_foreign(self, entry: str) -> bool:
        """Whether something on the host belongs to another lane."""
        lanes = {*_LANE.findall(entry), *_WORKER.findall(entry)}
        if lanes - {self.name} or any(each in entry for each in self.foreign):
            return True
        owner = _NAMESPACE_OF.search(entry)
        if owner is not None:
            return int(owner[1]) != self.process
        # A fork of another worker has the variables which that worker began with: no name of it.
        process = _PROCESS.match(entry)
        line = set() if process is None else {*host_state.ancestors(int(process[1]))}
        return self.parent in line and self.process not in line


def _must_be_taken_back(changes: dict[str, list[str]]) -> bool:
    """Whether the host forwards and should not: the last deployment that goes takes it back."""
    others = FORWARDING.exists() and any(_INTERFACES.glob("ctm*"))
    return "1" in changes["added"] and not others


@contextmanager
def _locked(path: Path, how: int) -> Iterator[IO[str]]:
    with path.open("w") as file:
        fcntl.flock(file, how)
        yield file


_lane: Lane | None = None


def begin(config: pytest.Config) -> None:
    """Make this worker of pytest a lane; nothing where pytest has no workers."""
    global _lane  # noqa: PLW0603  a process is one worker
    if not hasattr(config, "workerinput"):
        return
    own = Path(config.getoption("basetemp"))
    temporary = own.parent / f"temporary-{own.name}"
    temporary.mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    _lane = Lane(own.parent)
    config.pluginmanager.register(_lane)


@contextmanager
def alone() -> Iterator[None]:
    """No other test runs meanwhile."""
    with nullcontext() if _lane is None else _lane.alone():
        yield


@contextmanager
def nothing_left() -> Iterator[None]:
    """The host must be as it was before; what other lanes have on it does not count."""
    before = host_state.snapshot()
    yield
    until = time.monotonic() + _LOOK_AGAIN
    while left := _left(before):
        if _lane is None or time.monotonic() > until:
            raise AssertionError(f"left on the host: {json.dumps(left, indent=1)}")
        time.sleep(0.5)


def _left(before: host_state.State) -> Difference:
    found = host_state.difference(before, host_state.snapshot())
    return found if _lane is None else _lane.own(found)
