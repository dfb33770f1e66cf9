"""What every source shares: how it says that it cannot supply something."""

from __future__ import annotations


class Unavailable(Exception):
    """A source cannot supply an artifact, and why; the next source is tried."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
