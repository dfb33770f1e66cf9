"""Requests and answers as messages over a broker."""

from __future__ import annotations

import os
import sys
import time

from continuum_runtime import message as layout
from continuum_runtime.broker import Connection
from continuum_runtime.way import Notes


class Broker:
    """The way to a worker that takes its requests from a broker.

    Raises:
        TimeoutError: the broker does not answer within `start_timeout` seconds.
    """

    def __init__(  # noqa: PLR0913  as the endpoint's configuration has them
        self,
        host: str,
        port: int,
        request_topic: str,
        answer_topic: str,
        *,
        name: str,
        start_timeout: float,
        notes: Notes,
    ) -> None:
        self._notes = notes
        self._topic = request_topic
        self._connection = Connection(
            host, port, f"{name}-{os.urandom(4).hex()}", answer_topic, self._received
        )
        if not self._connection.subscribed.wait(start_timeout):
            raise TimeoutError(f"no answer from the broker within {start_timeout:g} s")

    def send(self, message: bytearray) -> bool:
        """Publish; False without a connection, or when too much waits for it."""
        return self._connection.publish(self._topic, message)

    def _received(self, payload: bytes | bytearray) -> None:
        answered_ns = time.time_ns()
        try:
            answer = layout.unpack_answer(payload)
        except layout.Malformed as error:
            print(f"not an answer: {error}", file=sys.stderr, flush=True)
            return
        self._notes.answered(answer, answered_ns, len(payload))
