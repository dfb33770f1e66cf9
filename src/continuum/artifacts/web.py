"""Downloads that give up within seconds where nobody answers, and go on where they were cut."""

from __future__ import annotations

import contextlib
import http.client
import queue
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from continuum.artifacts.attempt import Unavailable
from continuum.machine import refuse_when_stopped

CONNECT_LIMIT = 3.0
"""Seconds for one connection to a server to be made."""

ANSWER_LIMIT = 6.0
"""Seconds for a server to be found and to answer, also where it sends us to another one."""

STALL_LIMIT = 20.0
"""Seconds without a byte until a transfer counts as cut."""

DOWNLOAD_LIMIT = 1800.0
_CHUNK = 2**20
_TEXT_LIMIT = 2**20

Progress = Callable[[str, float | None], None]


class _Plain(http.client.HTTPConnection):
    def connect(self) -> None:
        self.timeout = CONNECT_LIMIT
        super().connect()
        self.sock.settimeout(STALL_LIMIT)


class _Secure(http.client.HTTPSConnection):
    def connect(self) -> None:
        self.timeout = CONNECT_LIMIT
        super().connect()
        self.sock.settimeout(STALL_LIMIT)


class _Opener(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Plain, req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Secure, req)


class Web:
    """Web servers as one command sees them: one that did not answer is not asked again."""

    def __init__(self, answer_limit: float = ANSWER_LIMIT) -> None:
        self._limit = answer_limit
        self._opener = urllib.request.build_opener(_Opener())
        self._silent: dict[str, str] = {}

    def reach(self, address: str) -> None:
        """Find out whether a server answers, whatever it says.

        Raises:
            Unavailable: it does not.
        """
        try:
            with self._opened(address, {}):
                pass
        except urllib.error.HTTPError as error:
            error.close()

    def text(self, address: str) -> str:
        """A small file.

        Raises:
            Unavailable: it cannot be had.
        """
        with self._file(address, {}) as answer:
            return b"".join(_pieces(address, answer, _TEXT_LIMIT)).decode("utf-8", "replace")

    def download(self, address: str, target: Path, progress: Progress) -> bool:
        """Load a file, or what is missing of it when a part is there already.

        Returns:
            Whether it went on from such a part: then the whole is only as good as that part.

        Raises:
            Unavailable: it cannot be had, or the transfer was cut; what came stays there.
        """
        there = target.stat().st_size if target.exists() else 0
        try:
            return self._download(address, target, there, progress)
        except _NothingMore:
            target.unlink()
            return self._download(address, target, 0, progress)

    def _download(self, address: str, target: Path, there: int, progress: Progress) -> bool:
        name = urlsplit(address).path.rpartition("/")[2]
        headers = {"Range": f"bytes={there}-"} if there else {}
        with self._file(address, headers) as answer:
            resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT and there > 0
            done = there if resumed else 0
            length = answer.headers.get("Content-Length")
            total = done + int(length) if length else None
            with target.open("ab" if resumed else "wb") as file:
                for piece in _pieces(address, answer):
                    file.write(piece)
                    done += len(piece)
                    progress(f"downloading {name}", done / total if total else None)
        if total is not None and done < total:
            raise Unavailable(f"{address}: cut after {done} of {total} bytes")
        return resumed

    @contextlib.contextmanager
    def _file(self, address: str, headers: dict[str, str]) -> Iterator[Any]:
        """An answer that is a file.

        Raises:
            _NothingMore: the part that is there is not shorter than the file.
            Unavailable: the server has no such file.
        """
        try:
            with self._opened(address, headers) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and headers:
                raise _NothingMore from error
            raise Unavailable(f"{address}: the server says {error.code} {error.reason}") from error

    @contextlib.contextmanager
    def _opened(self, address: str, headers: dict[str, str]) -> Iterator[Any]:
        server = urlsplit(address).netloc
        if server in self._silent:
            raise Unavailable(self._silent[server])
        answer = self._answer(urllib.request.Request(address, headers=headers))  # noqa: S310  addresses of the catalogue and of the host's settings
        if isinstance(answer, urllib.error.HTTPError):
            raise answer
        if isinstance(answer, (OSError, http.client.HTTPException, ValueError)):
            self._silent[server] = f"{server} cannot be reached: {_why(answer)}"
            raise Unavailable(self._silent[server])
        with answer:
            yield answer

    def _answer(self, request: urllib.request.Request) -> Any:  # noqa: ANN401  an answer or an error
        """Ask in a thread of its own: no limit covers the search for a server's address."""
        answers: queue.SimpleQueue[object] = queue.SimpleQueue()
        late = threading.Event()

        def ask() -> None:
            try:
                answer = self._opener.open(request)
            except (OSError, http.client.HTTPException, ValueError) as error:
                answers.put(error)
                return
            answers.put(answer)
            if late.is_set():
                answer.close()

        threading.Thread(target=ask, daemon=True).start()
        try:
            return answers.get(timeout=self._limit)
        except queue.Empty:
            late.set()
            with contextlib.suppress(queue.Empty):
                left = answers.get_nowait()
                if hasattr(left, "close"):
                    left.close()
            return TimeoutError(f"no answer within {self._limit:g} s")


class _NothingMore(Exception):
    """The part that is there is as long as the file, or longer."""


def _why(error: Exception) -> str:
    """In words, without the number that Python puts before them."""
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason)


def _pieces(
    address: str, answer: http.client.HTTPResponse, most: int = sys.maxsize
) -> Iterator[bytes]:
    """What comes, as it comes, `most` bytes at most: a slow transfer too is stopped, and ends in time.

    Raises:
        Unavailable: the transfer was cut, stopped, or took too long.
    """
    got = 0
    deadline = time.monotonic() + DOWNLOAD_LIMIT
    while got < most:
        try:
            piece = answer.read1(min(_CHUNK, most - got))
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the transfer was cut: {error or type(error).__name__}") from error
        if not piece:
            return
        refuse_when_stopped(address)
        if time.monotonic() > deadline:
            raise Unavailable(f"{address}: no end within {DOWNLOAD_LIMIT:g} s")
        got += len(piece)
        yield piece
