"""How an endpoint's requests reach a worker: what all ways have in common.

The ways themselves: `continuum_runtime.by_mqtt`, `continuum_runtime.by_http`, and the endpoint that
answers itself.
"""

from __future__ import annotations

from typing import Literal, Protocol

from continuum_runtime import message as layout


class Notes(Protocol):
    """Where a way tells what became of requests; may be called from any thread."""

    def sent(self, sequence: int, sent_ns: int) -> None:
        """A request that `Way.send` has taken was handed to the network only now."""

    def answered(self, answer: layout.Answer, answered_ns: int, size: int) -> None:
        """An answer of `size` bytes came."""

    def failed(self, sequence: int, status: Literal["lost", "timeout", "error"], why: str) -> None:
        """A request that was sent gets no answer any more, or none that counts."""

    def seconds_left(self, intended_ns: int) -> float:
        """Until the time of a request is up that is due then, however clocks are set meanwhile."""

    def refused(self, sequence: int, why: str) -> None:
        """A request that `Way.send` has taken could not be sent after all."""


class Way(Protocol):
    """How requests reach a worker."""

    def send(self, message: bytearray) -> bool:
        """Take a message that is stamped, without waiting for anything; False when it cannot be."""
