"""A connection to a broker: it comes back by itself, and nothing waits for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

UNSENT_LIMIT = 64 * 2**20
"""Bytes that may wait for the network; above it nothing more is taken."""

_KEEP_ALIVE_SECONDS = 30
_RECONNECT_SECONDS = 1


class Connection:
    """Receives on one topic, publishes on any, at most once each (QoS 0).

    A thread of its own does the network. `received` is called in it, once for each message.
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
        self._lock = threading.Lock()
        self._unsent: dict[int, int] = {}
        self._unsent_bytes = 0
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name)
        client.reconnect_delay_set(_RECONNECT_SECONDS, _RECONNECT_SECONDS)
        client.on_socket_open = self._opened
        client.on_connect = self._connected
        client.on_subscribe = self._confirmed
        client.on_disconnect = self._disconnected
        client.on_message = self._message
        client.on_publish = self._written
        self._client = client
        client.connect_async(host, port, keepalive=_KEEP_ALIVE_SECONDS)
        client.loop_start()

    def publish(self, topic: str, message: bytes | bytearray) -> bool:
        """Hand a message to the network; False when there is no connection, or it is too slow."""
        size = len(message)
        with self._lock:
            if self._unsent_bytes + size > UNSENT_LIMIT:
                return False
            # Under the lock, so that `_written` cannot come before its message is noted.
            info = self._client.publish(topic, message)
            if info.rc != mqtt.MQTT_ERR_SUCCESS:
                return False
            self._unsent[info.mid] = size
            self._unsent_bytes += size
        return True

    def close(self) -> None:
        """Disconnect, and end the thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def _opened(self, _client: mqtt.Client, _data: Any, sock: Any) -> None:  # noqa: ANN401  paho's
        # The last part of a message must not wait for the receipt of the part before it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _connected(
        self,
        client: mqtt.Client,
        _data: Any,  # noqa: ANN401  paho's
        _flags: mqtt.ConnectFlags,
        reason: Any,  # noqa: ANN401  paho's
        _properties: Any,  # noqa: ANN401  paho's
    ) -> None:
        if not reason.is_failure:
            client.subscribe(self._topic)

    def _confirmed(self, *_: object) -> None:
        self.subscribed.set()

    def _disconnected(self, *_: object) -> None:
        self.subscribed.clear()
        with self._lock:
            self._unsent.clear()
            self._unsent_bytes = 0

    def _message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:  # noqa: ANN401  paho's
        self._received(message.payload)

    def _written(self, _client: mqtt.Client, _data: Any, mid: int, *_: object) -> None:  # noqa: ANN401  paho's
        with self._lock:
            self._unsent_bytes -= self._unsent.pop(mid, 0)
