"""The binary layout of requests and answers.

Big-endian, without padding that is not named. Both kinds begin with the same head of 28 bytes:

| offset | type | field |
|---|---|---|
| 0 | 4 bytes | magic, `CTNM` |
| 4 | u8 | version of this layout, 1 |
| 5 | u8 | kind: 1 request, 2 answer |
| 6 | u8 | status: 0 ok, 1 error; 0 in requests |
| 7 | u8 | 0 |
| 8 | u32 | number of the endpoint |
| 12 | u64 | session: drawn by the endpoint when it starts; an answer carries its request's |
| 20 | u64 | sequence |

A request goes on with four times (i64, Unix time in nanoseconds): intended (28), preparation begun
(36) and ended (44), sent (52); from offset 60 to the end it is the content, here a JPEG photo.

An answer goes on with three times: received (28), processing begun (36) and ended (44); an i32 at
52, the index of the label, -1 without one; an f64 at 56, its probability; from offset 64 to the
end UTF-8 text: the label, or what went wrong.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"CTNM"
VERSION = 1
REQUEST = 1
ANSWER = 2
OK = 0
ERROR = 1

_HEAD = struct.Struct(">4sBBBxIQQ")
_REQUEST = struct.Struct(">4sBBBxIQQqqqq")
_ANSWER = struct.Struct(">4sBBBxIQQqqqid")
_TIME = struct.Struct(">q")
_PREPARED_OFFSET = 44
_SENT_OFFSET = 52

REQUEST_HEADER_BYTES = _REQUEST.size
ANSWER_HEADER_BYTES = _ANSWER.size


class Malformed(ValueError):
    """Bytes that are not a message of this layout."""


@dataclass(frozen=True)
class Request:
    """A request. As it is read, `content` is a view of the message's bytes."""

    endpoint: int
    session: int
    sequence: int
    content: bytes | memoryview
    intended_ns: int = 0
    prepare_started_ns: int = 0
    prepare_finished_ns: int = 0
    sent_ns: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer. `text` is the label, or what went wrong when `status` is `ERROR`."""

    endpoint: int
    session: int
    sequence: int
    received_ns: int
    started_ns: int
    finished_ns: int
    status: int = OK
    label: int = -1
    probability: float = 0.0
    text: str = ""


def pack_request(request: Request) -> bytearray:
    """A request's bytes; times that are not known yet are stamped into them later."""
    message = bytearray(_REQUEST.size + len(request.content))
    _REQUEST.pack_into(
        message,
        0,
        MAGIC,
        VERSION,
        REQUEST,
        OK,
        request.endpoint,
        request.session,
        request.sequence,
        request.intended_ns,
        request.prepare_started_ns,
        request.prepare_finished_ns,
        request.sent_ns,
    )
    message[_REQUEST.size :] = request.content
    return message


def stamp_prepared(message: bytearray, time_ns: int) -> None:
    """Write when the preparation ended."""
    _TIME.pack_into(message, _PREPARED_OFFSET, time_ns)


def stamp_sent(message: bytearray, time_ns: int) -> None:
    """Write when the request was sent: the last thing before it is."""
    _TIME.pack_into(message, _SENT_OFFSET, time_ns)


def unpack_request(message: bytes | bytearray | memoryview) -> Request:
    """Read a request.

    Raises:
        Malformed: not a request of this version.
    """
    _check(message, REQUEST, _REQUEST.size)
    _, _, _, _, endpoint, session, sequence, *times = _REQUEST.unpack_from(message)
    return Request(endpoint, session, sequence, memoryview(message)[_REQUEST.size :], *times)


def pack_answer(answer: Answer) -> bytes:
    """An answer's bytes."""
    head = _ANSWER.pack(
        MAGIC,
        VERSION,
        ANSWER,
        answer.status,
        answer.endpoint,
        answer.session,
        answer.sequence,
        answer.received_ns,
        answer.started_ns,
        answer.finished_ns,
        answer.label,
        answer.probability,
    )
    return head + answer.text.encode()


def unpack_answer(message: bytes | bytearray | memoryview) -> Answer:
    """Read an answer.

    Raises:
        Malformed: not an answer of this version.
    """
    _check(message, ANSWER, _ANSWER.size)
    _, _, _, status, *fields = _ANSWER.unpack_from(message)
    endpoint, session, sequence, received, started, finished, label, probability = fields
    text = bytes(memoryview(message)[_ANSWER.size :])
    return Answer(
        endpoint=endpoint,
        session=session,
        sequence=sequence,
        received_ns=received,
        started_ns=started,
        finished_ns=finished,
        status=status,
        label=label,
        probability=probability,
        text=text.decode("utf-8", "replace"),
    )


def _check(message: bytes | bytearray | memoryview, kind: int, size: int) -> None:
    if len(message) < _HEAD.size:
        raise Malformed(f"{len(message)} bytes are too few for a message")
    magic, version, found, *_ = _HEAD.unpack_from(message)
    if magic != MAGIC:
        raise Malformed("the first bytes are not those of a message")
    if version != VERSION:
        raise Malformed(f"layout version {version}; known: {VERSION}")
    if found != kind:
        raise Malformed(f"kind {found} where {kind} was expected")
    if len(message) < size:
        raise Malformed(f"{len(message)} bytes; the header alone has {size}")
