"""A bound on how long a block may take, for what must never hang."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def time_limit(seconds: float, subject: str) -> Iterator[None]:
    """Fail when the block lasts longer; `subject` is what is said to hang."""

    def ends(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"{subject} hangs: {number}, {frame}")

    before = signal.signal(signal.SIGALRM, ends)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
