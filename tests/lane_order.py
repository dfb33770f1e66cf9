"""Which lane gets which file of tests: see `side_by_side` for what lanes are."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

_MOST_AHEAD = 1
"""Tests that a lane still has when it gets a file more; a worker of pytest begins none without
knowing the next, so it cannot be less."""


class LaneOrder(LoadFileScheduling):  # type: ignore[misc]  # a class without types
    """Files in their order, which are long: no lane has one ahead that another could begin."""

    def _reschedule(self, node: WorkerController) -> None:
        if node.shutting_down or self._pending_of(self.assigned_work[node]) <= _MOST_AHEAD:
            super()._reschedule(node)
