"""Requests to a function, and its answers, by HTTP/1.1 through a gateway.

Each request that is under way has a connection of its own, kept for the next one. So a connection
that is lost, or an answer that does not come, stalls no other request; there is an end to how many
there are, and what finds none in its time is not sent.
"""

from __future__ import annotations

import http.client
import queue
import select
import socket
import threading
import time
from dataclasses import dataclass

from continuum_runtime import message as layout
from continuum_runtime.way import Notes

CONNECTION_LIMIT = 256
"""Requests that may be under way."""

WAITING_LIMIT = 1000
"""Requests that may wait for a connection; one more is refused, so that memory has an end."""

HEALTH_PATH = "/healthz"
_TYPE = "application/octet-stream"
_PAUSE_SECONDS = 0.1
_SHOWN = 200


@dataclass(frozen=True)
class Target:
    """Where a function is called."""

    host: str
    port: int
    path: str


class Gateway:
    """The way to a worker that is a function.

    `answer_timeout` counts from when a request is due, in seconds; its connection is closed then.

    Raises:
        TimeoutError: the gateway does not answer within `start_timeout` seconds.
    """

    def __init__(
        self, target: Target, *, answer_timeout: float, start_timeout: float, notes: Notes
    ) -> None:
        self._target = target
        self._timeout = answer_timeout
        self._notes = notes
        self._lock = threading.Lock()
        self._handed: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._waiting = 0
        self._threads = 0
        self._free = 0
        # The last one used is used next: the window of a connection in use stays open.
        self._idle: list[http.client.HTTPConnection] = []
        self._await(start_timeout)

    def send(self, message: bytearray) -> bool:
        """Hand over to a thread that has nothing to do; False when too many wait."""
        with self._lock:
            if self._waiting >= WAITING_LIMIT:
                return False
            self._waiting += 1
            if self._waiting > self._free and self._threads < CONNECTION_LIMIT:
                self._threads += 1
                threading.Thread(target=self._work, daemon=True).start()
        self._handed.put(message)
        return True

    def _await(self, limit: float) -> None:
        """Wait until the gateway answers; the connection is kept."""
        end = time.monotonic() + limit
        while True:
            connection = self._new(self._timeout)
            try:
                connection.request("GET", HEALTH_PATH)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                reason = str(error)
            else:
                self._keep(connection, response)
                return
            if time.monotonic() > end:
                raise TimeoutError(f"no answer from the gateway within {limit:g} s: {reason}")
            time.sleep(_PAUSE_SECONDS)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._free += 1
            message = self._handed.get()
            with self._lock:
                self._free -= 1
                self._waiting -= 1
            self._exchange(message)

    def _exchange(self, message: bytearray) -> None:
        request = layout.unpack_request(message)
        sequence, left = request.sequence, self._notes.seconds_left(request.intended_ns)
        del request  # A view of the message: it could not be written to.
        sent_ns = time.time_ns()
        if left <= 0:
            self._notes.refused(sequence, "its time was up before a connection was free")
            return
        layout.stamp_sent(message, sent_ns)
        self._notes.sent(sequence, sent_ns)
        try:
            connection = self._connected(left)
        except OSError as error:
            self._notes.refused(sequence, str(error))
            return
        try:
            connection.request("POST", self._target.path, message, {"Content-Type": _TYPE})
            response = connection.getresponse()
            body = response.read()
        except TimeoutError:
            connection.close()
            self._notes.failed(sequence, "timeout", f"no answer within {self._timeout:g} s")
            return
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._notes.failed(sequence, "lost", f"connection lost: {error}")
            return
        answered_ns = time.time_ns()
        self._keep(connection, response)
        self._tell(sequence, response.status, body, answered_ns)

    def _tell(self, sequence: int, status: int, body: bytes, answered_ns: int) -> None:
        try:
            answer = layout.unpack_answer(body)
        except layout.Malformed:
            text = body[:_SHOWN].decode("utf-8", "replace").strip()
            self._notes.failed(sequence, "error", f"HTTP status {status}: {text}")
            return
        if answer.sequence == sequence:
            self._notes.answered(answer, answered_ns, len(body))
        else:
            self._notes.failed(sequence, "error", f"the answer to request {answer.sequence} came")

    def _new(self, seconds: float) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._target.host, self._target.port, timeout=seconds)

    def _connected(self, seconds: float) -> http.client.HTTPConnection:
        """A connection that is open, as far as can be seen from here, and waits so long."""
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            if kept is None:
                connection = self._new(seconds)
                connection.connect()
                return connection
            if _is_open(kept.sock):
                kept.sock.settimeout(seconds)
                return kept
            kept.close()

    def _keep(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> None:
        if response.will_close:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)


def _is_open(connection: socket.socket | None) -> bool:
    """Whether nothing has come: without a request that is the end, or nothing that we asked for."""
    if connection is None:
        return False
    readable = select.poll()
    readable.register(connection, select.POLLIN)
    return not readable.poll(0)
