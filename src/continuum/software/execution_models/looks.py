"""How execution models look at a cluster: many ask, and few looks are taken."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from continuum.errors import ContinuumError

Seen = TypeVar("Seen")


class SharedLook(Generic[Seen]):
    """What a look shows; who asks at the same time shares one look, or its error."""

    def __init__(self, look: Callable[[], Seen]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._looked = -math.inf
        self._seen: Seen | ContinuumError | None = None

    def __call__(self) -> Seen:
        """What there is now.

        Raises:
            ContinuumError: as the look does.
        """
        asked = time.monotonic()
        with self._lock:
            if self._looked <= asked:
                self._looked = time.monotonic()
                try:
                    self._seen = self._look()
                except ContinuumError as error:
                    self._seen = error
            if isinstance(self._seen, ContinuumError):
                raise self._seen
            assert self._seen is not None
            return self._seen


class Patience:
    """For how long something may be as it is, by name."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[str, float] = {}

    def is_over(self, name: str, holds: bool) -> bool:
        """Whether it has held for too long, without a look at which it did not."""
        if not holds:
            self._since.pop(name, None)
            return False
        now = time.monotonic()
        return self._since.setdefault(name, now) < now - self._seconds
