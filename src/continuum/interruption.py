"""SIGINT, SIGTERM and SIGHUP: a flag that steps look at, raised where this process only waits.

The first signal is raised as `KeyboardInterrupt` in the main thread, at the next step or in the
place where it waits; whoever catches it ends in order, within `END_LIMIT` seconds where machines do
not answer. While results are written it waits, but not for ever. A second signal is raised wherever it comes.

Outside of `handled` nothing of this is in force: Python raises `KeyboardInterrupt` anywhere.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
END_LIMIT = 6.0
"""Seconds after the first signal that all further commands together may take."""
COMMAND_LIMIT = 4.0
"""Seconds that one of them may take, so that a machine that hangs leaves time for the others."""
LEAST_LIMIT = 0.4
"""Seconds that each has, however late it is: what still answers does so at once."""
HOLD_LIMIT = 10.0
"""Seconds that a signal waits for what is not to be broken off, should that hang."""
_SAME = 0.1
"""Seconds within which the same signal comes once: to a process, and to the group that it is in."""
_UNHEARD = 0.5
"""Seconds without a look after which the main thread is taken to wait."""
_SLICE = 0.5
_IMPORT = "<frozen importlib._bootstrap>"


class _State:
    """The signals of one call. Only the main thread changes it."""

    def __init__(self) -> None:
        self.first_at: float | None = None
        self.insisted = False
        self.alarm: Any = None
        self.last: tuple[int, float] = (0, 0.0)
        self.pending = False
        self.waiting = 0
        self.held = 0


_state = _State()
_handled = False


@contextmanager
def handled() -> Iterator[None]:
    """Answer signals as this module says, in the block. Those that are ignored stay ignored."""
    global _state, _handled
    if _handled or threading.current_thread() is not threading.main_thread():
        yield
        return
    _state, _handled = _State(), True
    numbers = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    before: dict[int, Any] = {each: signal.signal(each, _on_signal) for each in numbers}
    hook = sys.unraisablehook

    def unraisable(args: UnraisableHookArgs, /) -> None:
        """Raise again later what came where nothing can be raised, as in `__del__`."""
        if args.exc_type is KeyboardInterrupt and _state.first_at is not None:
            _state.pending = True
            _look_again()
        else:
            hook(args)

    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        if _state.alarm is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, _state.alarm)
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
        _state, _handled = _State(), False


def check() -> None:
    """Raise a signal that came, as `KeyboardInterrupt`; in other threads than the main one never."""
    if _state.pending and not _state.held and threading.current_thread() is threading.main_thread():
        _raise()


def take() -> bool:
    """Tell whether a signal came that was not raised yet; it is not raised any more."""
    was, _state.pending = _state.pending, False
    return was


def came() -> bool:
    """Tell whether a signal came: only what ends in order is done now."""
    return _state.first_at is not None


def insisted() -> bool:
    """Tell whether a second signal came: nothing but the end is wanted."""
    return _state.insisted


@contextmanager
def waiting() -> Iterator[None]:
    """A place that only waits: a signal is raised in it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.waiting += 1
    try:
        check()
        yield
    finally:
        _state.waiting -= 1


@contextmanager
def held() -> Iterator[None]:
    """Keep the first signal waiting until the block has ended, or for `HOLD_LIMIT` seconds.

    A second one is raised in it.
    """
    _state.held += 1
    try:
        yield
    finally:
        _state.held -= 1


def pause(seconds: float) -> None:
    """Let time pass; a signal ends it."""
    until = time.monotonic() + seconds
    nothing = threading.Event()
    with waiting():
        while (left := until - time.monotonic()) > 0:
            nothing.wait(min(left, _SLICE))
            check()


def allowance(seconds: float) -> float:
    """The seconds that a command has which would have so many: fewer once a signal came."""
    if _state.first_at is None:
        return seconds
    left = _state.first_at + END_LIMIT - time.monotonic()
    return min(seconds, max(LEAST_LIMIT, min(COMMAND_LIMIT, left)))


def _on_signal(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    before, _state.last = _state.last, (number, now)
    if _state.first_at is None:
        _state.first_at = now
    elif before[0] == number and now - before[1] < _SAME:
        return
    else:
        _state.insisted = True
        _raise()
    _state.pending = True
    if _state.waiting and not _state.held and not _imports(frame):
        _raise()
    _look_again()


def _on_alarm(number: int, frame: FrameType | None) -> None:
    """Nobody looked: this place waits, though it does not say so; but never break off an import."""
    del number
    if not _state.pending:
        return
    assert _state.first_at is not None
    held = _state.held and time.monotonic() - _state.first_at < HOLD_LIMIT
    if not held and not _imports(frame):
        _raise()
    _look_again()


def _look_again() -> None:
    if _state.alarm is None:
        _state.alarm = signal.signal(signal.SIGALRM, _on_alarm) or signal.SIG_DFL
    signal.setitimer(signal.ITIMER_REAL, _UNHEARD)


def _raise() -> None:
    _state.pending = False
    raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    """Tell whether a module is being imported: a half imported one would fail whoever uses it later."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            return True
        frame = frame.f_back
    return False
