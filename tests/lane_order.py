"""Which lane gets which file of tests: see `side_by_side` for what lanes are.

Tests on real machines wait much and fill a core at other times, so two lanes take their files, and a
third one, which gives way to them, takes small files, and when none is left of the others those that
do not measure.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

from side_by_side import gives_way

_MOST_AHEAD = 1
"""Tests that a lane still has when it gets a file more; a worker of pytest begins none without
knowing the next, so it cannot be less."""


class LaneOrder(LoadFileScheduling):  # type: ignore[misc]  # a class without types
    """Files in their order; to a lane that gives way small ones, last ones first, then long ones."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        self._root = config.rootpath
        self.workqueue: OrderedDict[str, dict[str, bool]]

    def _assign_work_unit(self, node: WorkerController) -> None:
        file = self._next(node)
        if file is None:
            node.shutdown()
            return
        self.workqueue.move_to_end(file, last=False)
        super()._assign_work_unit(node)

    def _next(self, node: WorkerController) -> str | None:
        if not gives_way(node.gateway.id):
            return next(iter(self.workqueue))
        files = [*reversed(self.workqueue)]
        small = [each for each in files if is_small(self._root / each)]
        others = [each for each in files if not measures(self._root / each)]
        return next(iter(small or others), None)

    def _reschedule(self, node: WorkerController) -> None:
        """Files are long, so no lane has one ahead that another could begin."""
        if node.shutting_down or self._pending_of(self.assigned_work[node]) <= _MOST_AHEAD:
            super()._reschedule(node)


def is_small(file: Path) -> bool:
    """Whether no test of a file makes real machines, or takes long, or minds to be slow."""
    return not marks(file) & {"e2e", "slow", "measures"}


def measures(file: Path) -> bool:
    """Whether a test of a file measures."""
    return "measures" in marks(file)


@cache
def marks(file: Path) -> frozenset[str]:
    """The names of all marks in a file."""
    return frozenset(re.findall(r"pytest\.mark\.(\w+)", file.read_text()))
