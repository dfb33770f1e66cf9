"""Which lane gets which file of tests: see `side_by_side` for what lanes are.

Tests on real machines wait much and fill a core at other times, so two lanes take their files, and a
third one, which gives way to them, takes small files all the while.
"""

from __future__ import annotations

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
    """Files in their order; to a lane that gives way small ones, last ones first."""

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
        files = reversed(self.workqueue)
        return next((each for each in files if is_small(self._root / each)), None)

    def _reschedule(self, node: WorkerController) -> None:
        """Files are long, so no lane has one ahead that another could begin."""
        if node.shutting_down or self._pending_of(self.assigned_work[node]) <= _MOST_AHEAD:
            super()._reschedule(node)


_NOT_SMALL = ("e2e", "slow", "measures")


@cache
def is_small(file: Path) -> bool:
    """Whether no test of a file makes real machines, or takes long, or minds to be slow."""
    text = file.read_text()
    return not any(f"pytest.mark.{name}" in text for name in _NOT_SMALL)
