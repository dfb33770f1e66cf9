"""A connection whose network is slow, against a broker that a test can stop reading."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from continuum_runtime import broker
from continuum_runtime.broker import Connection

CONNACK = b"\x20\x02\x00\x00"
PUBLISH = 3


class SlowBroker:
    """Takes one client after the other, and reads only while `reads` is set."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.server.getsockname()[1]
        self.reads = threading.Event()
        self.reads.set()
        self.payloads: list[bytes] = []
        self.client: socket.socket | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def hang_up(self) -> None:
        assert self.client is not None
        self.client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.reads.set()
        self.server.close()
        if self.client is not None:
            self.client.close()

    def _serve(self) -> None:
        while True:
            try:
                self.client, _ = self.server.accept()
                with self.client, self.client.makefile("rb") as stream:
                    while self._packet(stream.read):
                        pass
            except OSError:
                if self.server.fileno() < 0:
                    return

    def _packet(self, read: Callable[[int], bytes]) -> bool:
        self.reads.wait()
        first = read(1)
        if not first:
            return False
        length, shift = 0, 0
        while True:
            (byte,) = read(1)
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        body = read(length)
        assert self.client is not None
        kind = first[0] >> 4
        if kind == 1:
            self.client.sendall(CONNACK)
        elif kind == 8:
            self.client.sendall(b"\x90\x03" + body[:2] + b"\x00")
        elif kind == PUBLISH:
            topic = int.from_bytes(body[:2])
            self.payloads.append(body[2 + topic :])
        return True


@contextmanager
def connected() -> Iterator[tuple[SlowBroker, Connection]]:
    slow = SlowBroker()
    connection = Connection("127.0.0.1", slow.port, "test", "answers", lambda _: None)
    try:
        assert connection.subscribed.wait(10)
        yield slow, connection
    finally:
        slow.close()
        connection.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_what_the_network_does_not_take_at_once_follows_whole_and_in_order() -> None:
    messages = [bytes([number]) * 400_000 for number in range(40)]
    with connected() as (slow, connection):
        slow.reads.clear()
        assert all(connection.publish("requests", message) for message in messages)
        slow.reads.set()
        until(lambda: len(slow.payloads) == len(messages))
        assert slow.payloads == messages


def test_several_threads_may_publish() -> None:
    with connected() as (slow, connection):

        def publish(number: int) -> None:
            for _ in range(20):
                assert connection.publish("requests", bytes([number]) * 100_000)

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: len(slow.payloads) == 80)
        assert all(len(set(payload)) == 1 and len(payload) == 100_000 for payload in slow.payloads)


def test_a_network_that_takes_nothing_fills_memory_only_so_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broker, "UNSENT_LIMIT", 8_000_000)
    with connected() as (slow, connection):
        slow.reads.clear()
        taken = [connection.publish("requests", bytes(500_000)) for _ in range(60)]
        assert taken[:16] == [True] * 16
        assert taken[-1] is False
        slow.reads.set()
        until(lambda: len(slow.payloads) == sum(taken))
        until(lambda: connection.publish("requests", bytes(500_000)))


def test_it_comes_back_after_the_broker_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_RECONNECT_SECONDS", 0.05)
    with connected() as (slow, connection):
        slow.hang_up()
        until(lambda: not connection.subscribed.is_set() or not connection.publish("a", b"x"))
        until(lambda: connection.publish("requests", b"again"))
        until(lambda: b"again" in slow.payloads)


def test_without_a_broker_nothing_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    connection = Connection("127.0.0.1", port, "test", "answers", lambda _: None)
    assert connection.publish("requests", b"x") is False
    assert not connection.subscribed.is_set()
    connection.close()
