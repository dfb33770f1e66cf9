"""This host's time for machines: the protocol, and the process that tells it."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from continuum.errors import CommandFailed
from continuum.infrastructure import time_source
from continuum.infrastructure.links import process
from continuum_runtime import time_server
from continuum_runtime.time_server import answer, stamp
from waiting import within

SECOND = 1_000_000_000
IDENTITY = f"{os.getpid():08x}"


def question(*, version: int = 4, mode: int = 3, sent: int = 0x1234_5678_9ABC_DEF0) -> bytes:
    return struct.pack("!B39xQ", version << 3 | mode, sent)


def test_time_counts_from_1900_in_parts_of_a_second() -> None:
    assert stamp(0) == 2_208_988_800 << 32
    assert stamp(SECOND // 2) == (2_208_988_800 << 32) + 2**31
    assert stamp(2_085_978_496 * SECOND) == 0, "in 2036 it begins anew"


def test_a_client_is_told_when_it_asked_and_when_it_was_answered() -> None:
    arrived, now = 1_790_000_000 * SECOND, 1_790_000_000 * SECOND + SECOND // 4
    told = answer(question(), arrived, now)
    assert told is not None
    first, stratum = told[0], told[1]
    assert (first >> 6, first >> 3 & 7, first & 7) == (0, 4, 4)
    assert stratum == 10
    _, sent, received, answered = struct.unpack("!QQQQ", told[16:])
    assert sent == 0x1234_5678_9ABC_DEF0
    assert received == stamp(arrived)
    assert answered - received == 2**30


@pytest.mark.parametrize(
    "asked",
    [b"", bytes(47), question(mode=4), question(mode=6), question(version=0), question(version=7)],
)
def test_nobody_else_is_answered(asked: bytes) -> None:
    assert answer(asked, 0, 0) is None


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    monkeypatch.setattr(time_source, "TIME_PORT", number)
    yield number
    time_source.stop(IDENTITY)


def ask(port: int, data: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.settimeout(5)
        own.sendto(data, ("127.0.0.1", port))
        return own.recv(100)


def test_it_is_started_once_tells_the_time_and_is_stopped(port: int) -> None:
    assert time_source.ensure(IDENTITY, "127.0.0.1") is True
    running = process.find(IDENTITY, time_source.MODULE)
    assert len(running) == 1
    assert time_source.ensure(IDENTITY, "127.0.0.1") is False
    assert process.find(IDENTITY, time_source.MODULE) == running
    before = stamp(time.time_ns())
    (told,) = struct.unpack("!40xQ", ask(port, question()))
    assert before <= told <= stamp(time.time_ns())
    assert time_source.stop(IDENTITY) is True
    assert time_source.stop(IDENTITY) is False
    assert not time_source.answers("127.0.0.1")


def test_one_that_does_not_answer_is_replaced(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    del port
    monkeypatch.setattr(process, "STOP_TIMEOUT", 0.5)
    time_source.ensure(IDENTITY, "127.0.0.1")
    (first,) = process.find(IDENTITY, time_source.MODULE)
    os.kill(first, signal.SIGSTOP)
    assert within(10, lambda: not time_source.answers("127.0.0.1"))
    assert time_source.ensure(IDENTITY, "127.0.0.1") is True
    assert process.find(IDENTITY, time_source.MODULE) != [first]


def test_a_source_that_cannot_begin_says_why(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port))
        with pytest.raises(CommandFailed, match="cannot be told") as caught:
            time_source.ensure(IDENTITY, "127.0.0.1")
    assert "Address already in use" in caught.value.output


def test_a_source_whose_network_is_gone_ends(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [True, True, False]
    monkeypatch.setattr(time_server, "LOOK_INTERVAL", 0.01)
    monkeypatch.setattr(time_server, "is_here", lambda _: looks.pop(0))
    time_server.main(["", "127.0.0.1", str(port)])
    assert looks == []


@pytest.mark.parametrize(("address", "here"), [("127.0.0.1", True), ("192.0.2.1", False)])
def test_an_address_is_looked_for_by_trying(address: str, *, here: bool) -> None:
    assert time_server.is_here(address) is here
