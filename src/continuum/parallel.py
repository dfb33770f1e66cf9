"""The same work over many machines, in a bounded pool of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from continuum import interruption
from continuum.errors import ContinuumError, StepFailed
from continuum.machine import commands_stopped

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16
LOOK_INTERVAL = 0.2


def for_each(work: Callable[[T], R], items: Iterable[T], *, threads: int = THREADS) -> list[R]:
    """Results in the order of the items.

    All items are tried. When one fails its error is raised; when several do, the first one's
    class with all messages, one a line. An interruption stops the commands of all threads, and is
    raised when these have ended.
    """
    todo = list(items)
    if not todo:
        return []
    if len(todo) == 1:
        return [work(todo[0])]
    with ThreadPoolExecutor(max_workers=min(threads, len(todo))) as pool:
        try:
            futures = [pool.submit(work, item) for item in todo]
            # In short waits: a signal that comes just before one begins does not wake it.
            with interruption.waiting():
                while wait(futures, timeout=LOOK_INTERVAL).not_done:
                    interruption.check()
        except BaseException:
            with commands_stopped():
                pool.shutdown(cancel_futures=True)
            raise
    errors = [error for future in futures if (error := future.exception()) is not None]
    defects = [error for error in errors if not isinstance(error, ContinuumError)]
    if defects:
        raise defects[0]
    expected = [error for error in errors if isinstance(error, ContinuumError)]
    if len(expected) == 1:
        raise expected[0]
    if expected:
        first = expected[0]
        kind = type(first) if type(first).__init__ is ContinuumError.__init__ else StepFailed
        raise kind(
            "\n".join(dict.fromkeys(error.message for error in expected)),
            where=first.where,
            output=first.output,
            hint=first.hint,
        )
    return [future.result() for future in futures]
