"""Wait until SSH answers on many machines at once."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Mapping

from continuum import interruption

_PORT = 22
_AGAIN = 0.03
_CONNECT_LIMIT = 3.0


class _Attempt:
    """One connection under way."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)  # noqa: FBT003  the standard library's own signature
        self.until = time.monotonic() + _CONNECT_LIMIT
        self.said = b""
        self.socket.connect_ex((address, _PORT))


def wait_for_banners(
    machines: Mapping[str, str],
    limit: float,
    *,
    progress: Callable[[int], None] = lambda _: None,
    give_up: Callable[[set[str]], set[str]] = lambda _: set(),
) -> set[str]:
    """Names of the machines whose SSH server did not greet within `limit` seconds.

    Args:
        machines: addresses by name.
        limit: seconds.
        progress: told the number of machines that answer, whenever it grows.
        give_up: asked about twice a second which of the machines that do not answer never will.
    """
    waiting = set(machines)
    lost: set[str] = set()
    deadline = time.monotonic() + limit
    next_look = time.monotonic() + 0.5
    due = dict.fromkeys(machines, 0.0)
    under_way: dict[str, _Attempt] = {}
    with selectors.DefaultSelector() as selector:
        while waiting and (now := time.monotonic()) < deadline:
            for name in waiting - under_way.keys():
                if due[name] <= now:
                    attempt = under_way[name] = _Attempt(name, machines[name])
                    selector.register(attempt.socket, selectors.EVENT_READ, attempt)
            interruption.check()
            for key, _ in selector.select(_AGAIN):
                attempt = key.data
                ended, greeted = _read(attempt)
                if greeted:
                    waiting.discard(attempt.name)
                    progress(len(machines) - len(waiting))
                if ended or greeted:
                    _close(selector, under_way, attempt)
                    due[attempt.name] = time.monotonic() + _AGAIN
            for attempt in [each for each in under_way.values() if each.until < now]:
                _close(selector, under_way, attempt)
            if waiting and now > next_look:
                lost |= give_up(set(waiting))
                waiting -= lost
                next_look = now + 0.5
        for attempt in list(under_way.values()):
            _close(selector, under_way, attempt)
    return waiting | lost


def _read(attempt: _Attempt) -> tuple[bool, bool]:
    """(the connection has ended, the server has greeted)."""
    try:
        received = attempt.socket.recv(256)
    except BlockingIOError:
        return False, False
    except OSError:
        return True, False
    attempt.said += received
    return not received, b"SSH-" in attempt.said


def _close(
    selector: selectors.BaseSelector, under_way: dict[str, _Attempt], attempt: _Attempt
) -> None:
    with contextlib.suppress(KeyError):
        selector.unregister(attempt.socket)
    attempt.socket.close()
    under_way.pop(attempt.name, None)
