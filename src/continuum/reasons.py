"""Codes of the reasons for which a run is not `done`. A reader may accept some of them as data."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Code(StrEnum):
    """Kinds of reasons, those that say most about the figures first."""

    EXPECTATION = "expectation"
    LINKS = "links"
    EMULATOR = "emulator"
    HOST_BUSY = "host-busy"
    NOT_STEADY = "not-steady"
    LIMITS = "limits"
    UNANSWERED = "unanswered"
    WRONG_RESULTS = "wrong-results"
    PODS = "pods"
    WORKER = "worker"
    ENDPOINT = "endpoint"
    MACHINE = "machine"
    REPETITION = "repetition"
    STARTS = "starts"
    CLOCK = "clock"
    OBSERVABILITY = "observability"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


MEANINGS = {
    Code.EXPECTATION: "A time differs from what the declared network lets expect.",
    Code.LINKS: "A link did not measure as declared before the run, or that was not shown.",
    Code.EMULATOR: "A link was not emulated as declared during the run.",
    Code.HOST_BUSY: "The host had other work, or was not given its processors.",
    Code.NOT_STEADY: "Latency still grew when a repetition ended, or the warm-up was not over.",
    Code.LIMITS: "A limit of a machine did not measure as declared.",
    Code.UNANSWERED: "Requests got no answer, a late one, or an error.",
    Code.WRONG_RESULTS: "Results are not the right ones.",
    Code.PODS: "Pods or containers did not get ready.",
    Code.WORKER: "A worker failed, or vanished.",
    Code.ENDPOINT: "An endpoint failed, or its samples did not come home.",
    Code.MACHINE: "A machine is gone.",
    Code.REPETITION: "A repetition could not begin.",
    Code.STARTS: "The start of a function was not measured.",
    Code.CLOCK: "A clock was not read, or moved.",
    Code.OBSERVABILITY: "Prometheus missed a part of the run.",
}
"""The meaning of each code, of those that can be accepted."""

ACCEPTABLE = tuple(str(code) for code in MEANINGS)


def unknown(codes: Iterable[str]) -> list[str]:
    """The codes that are none, or that cannot be accepted."""
    return [code for code in codes if code not in ACCEPTABLE]
