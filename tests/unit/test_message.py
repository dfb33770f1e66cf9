from __future__ import annotations

import struct

import pytest

from continuum_runtime import message as layout

REQUEST = layout.Request(7, 2**64 - 1, 2**40, b"photo", 11, 22, 33, 44)
ANSWER = layout.Answer(7, 9, 5, 1, 2, 3, layout.ERROR, -1, 0.25, "no café")


def test_request_lies_where_the_documentation_says() -> None:
    message = bytes(layout.pack_request(REQUEST))
    assert message[:4] == b"CTNM"
    assert message[4:8] == bytes([1, 1, 0, 0])
    assert struct.unpack_from(">I", message, 8) == (7,)
    assert struct.unpack_from(">QQ", message, 12) == (2**64 - 1, 2**40)
    assert struct.unpack_from(">4q", message, 28) == (11, 22, 33, 44)
    assert message[60:] == b"photo"


def test_answer_lies_where_the_documentation_says() -> None:
    message = layout.pack_answer(ANSWER)
    assert message[:8] == b"CTNM" + bytes([1, 2, 1, 0])
    assert struct.unpack_from(">IQQ", message, 8) == (7, 9, 5)
    assert struct.unpack_from(">3q", message, 28) == (1, 2, 3)
    assert struct.unpack_from(">id", message, 52) == (-1, 0.25)
    assert message[64:].decode() == "no café"


def test_stamps_change_their_field_only() -> None:
    message = layout.pack_request(REQUEST)
    layout.stamp_prepared(message, 333)
    layout.stamp_sent(message, 444)
    read = layout.unpack_request(message)
    assert (read.intended_ns, read.prepare_started_ns) == (11, 22)
    assert (read.prepare_finished_ns, read.sent_ns) == (333, 444)
    assert bytes(read.content) == b"photo"


def changed(message: bytes, offset: int, value: int) -> bytes:
    return message[:offset] + bytes([value]) + message[offset + 1 :]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "too few"),
        (b"CTNM", "too few"),
        (b"x" * 200, "first bytes"),
        (changed(layout.pack_answer(ANSWER), 4, 2), "version 2"),
        (bytes(layout.pack_request(REQUEST)), "kind 1"),
        (layout.pack_answer(ANSWER)[:63], "header"),
    ],
)
def test_what_is_no_answer_is_refused_with_a_reason(message: bytes, reason: str) -> None:
    with pytest.raises(layout.Malformed, match=reason):
        layout.unpack_answer(message)


def test_an_answer_is_no_request() -> None:
    with pytest.raises(layout.Malformed, match="kind 2"):
        layout.unpack_request(layout.pack_answer(ANSWER))


def test_text_that_is_not_utf8_is_read_all_the_same() -> None:
    read = layout.unpack_answer(layout.pack_answer(ANSWER)[:64] + b"\xff")
    assert read.text == "�"
