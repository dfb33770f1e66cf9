"""A connection to a broker: it comes back by itself, and nothing waits for it."""

from __future__ import annotations

import collections
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

UNSENT_LIMIT = 64 * 2**20
"""Bytes that may wait for the network; above it nothing more is taken."""

_KEEP_ALIVE_SECONDS = 30
_RECONNECT_SECONDS = 1.0
_LOOK_SECONDS = 1.0
"""Between looks at whether the broker still lives."""


class Connection:
    """Receives on one topic, publishes on any, at most once each (QoS 0).

    `received` is called in a thread of the connection's own, once for each message. What is
    published is written by whoever publishes it, as far as the network takes it at once: handing it
    to the other thread would cost a change of threads for each message.
    """

    def __init__(
        self,
        host: str,
        port: int,
        name: str,
        topic: str,
        received: Callable[[bytes | bytearray], None],
    ) -> None:
        self.subscribed = threading.Event()
        self._topic = topic
        self._received = received
        # The client is used by two threads, and its callbacks come within its calls.
        self._lock = threading.RLock()
        self._connected = False
        self._closing = threading.Event()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._unsent: collections.deque[int] = collections.deque()
        self._unsent_bytes = 0
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name)
        client.on_socket_open = self._opened
        client.on_connect = self._answered
        client.on_subscribe = self._confirmed
        client.on_disconnect = self._disconnected
        client.on_message = self._message
        client.on_publish = self._written
        client.connect_async(host, port, keepalive=_KEEP_ALIVE_SECONDS)
        self._client = client
        self._thread = threading.Thread(target=self._network, daemon=True)
        self._thread.start()

    def publish(self, topic: str, message: bytes | bytearray) -> bool:
        """Hand a message to the network; False when there is no connection, or it is too slow."""
        size = len(message)
        # Before the lock, which is held while a connection is being made.
        if not self._connected:
            return False
        with self._lock:
            if self._unsent_bytes + size > UNSENT_LIMIT:
                return False
            self._unsent.append(size)
            self._unsent_bytes += size
            if self._client.publish(topic, message).rc != mqtt.MQTT_ERR_SUCCESS:
                self._forget_unsent()
                return False
            if self._client.want_write():
                os.eventfd_write(self._wake, 1)
        return True

    def close(self) -> None:
        """Disconnect, and end the thread."""
        self._closing.set()
        with self._lock:
            self._client.disconnect()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)

    def _network(self) -> None:
        while not self._closing.is_set():
            if self._open():
                while self._transfer():
                    pass
            self._closing.wait(_RECONNECT_SECONDS)

    def _open(self) -> bool:
        try:
            with self._lock:
                self._client.reconnect()
        except OSError:
            return False
        return True

    def _transfer(self) -> bool:
        """Move what can be moved, at the latest after a second; False when there is no connection.

        A socket that the other thread has closed meanwhile is not there any more.
        """
        sock = self._client.socket()
        if sock is None:
            return False
        reading: list[Any] = [sock, self._wake]
        writing: list[Any] = [sock] if self._client.want_write() else []
        try:
            readable, writable, _ = select.select(reading, writing, [], _LOOK_SECONDS)
        except (OSError, ValueError):
            return False
        if self._wake in readable:
            os.eventfd_read(self._wake)
        with self._lock:
            if sock in readable:
                self._client.loop_read()
            if writable:
                self._client.loop_write()
            self._client.loop_misc()
        return self._client.socket() is not None

    def _opened(self, _client: mqtt.Client, _data: Any, sock: Any) -> None:  # noqa: ANN401  paho's
        # The last part of a message must not wait for the receipt of the part before it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _answered(
        self,
        client: mqtt.Client,
        _data: Any,  # noqa: ANN401  paho's
        _flags: mqtt.ConnectFlags,
        reason: Any,  # noqa: ANN401  paho's
        _properties: Any,  # noqa: ANN401  paho's
    ) -> None:
        if not reason.is_failure:
            self._connected = True
            client.subscribe(self._topic)

    def _confirmed(self, *_: object) -> None:
        self.subscribed.set()

    def _disconnected(self, *_: object) -> None:
        self._connected = False
        self.subscribed.clear()
        self._forget_unsent()

    def _forget_unsent(self) -> None:
        self._unsent.clear()
        self._unsent_bytes = 0

    def _message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:  # noqa: ANN401  paho's
        self._received(message.payload)

    def _written(self, *_: object) -> None:
        # Messages are written in the order in which they were published.
        if self._unsent:
            self._unsent_bytes -= self._unsent.popleft()
