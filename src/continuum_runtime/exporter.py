"""What Prometheus asks a machine beside node-exporter: its own use, and its broker's figures.

    python3 -m continuum_runtime.exporter CONFIG

CONFIG is a JSON file with the fields of `Config`. `/metrics` tells what the machine as a whole takes
of processor and memory: node-exporter reads that from `/proc`, where a machine that is a container
sees its host's figures. `/broker` tells what mosquitto publishes of itself.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from continuum_runtime.metrics_pages import server
from continuum_runtime.resources import Usage, machine_reader

BROKER_COUNTERS = {
    "messages/received": "messages_received",
    "messages/sent": "messages_sent",
    "publish/messages/received": "publish_messages_received",
    "publish/messages/sent": "publish_messages_sent",
    "publish/messages/dropped": "publish_messages_dropped",
    "bytes/received": "bytes_received",
    "bytes/sent": "bytes_sent",
}
BROKER_GAUGES = {
    "clients/connected": "clients_connected",
    "subscriptions/count": "subscriptions",
    "store/messages/count": "stored_messages",
    "store/messages/bytes": "stored_bytes",
    "heap/current": "heap_bytes",
}
"""What is told of a broker: names of our metrics by the ends of its topics."""

_TOPICS = "$SYS/broker/"


@dataclass(frozen=True)
class Config:
    """What the exporter is told.

    Attributes:
        address, port: where it listens.
        cores, memory: what the machine may use, memory in bytes.
        broker: address and port of the broker on this machine; None when it has none.
    """

    address: str
    port: int
    cores: float
    memory: int
    broker: tuple[str, int] | None


class MachineCollector(Collector):
    """What the machine takes, and what it may take."""

    def __init__(self, config: Config, read: Callable[[], Usage]) -> None:
        self._config = config
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """The figures of this moment."""
        usage = self._read()
        yield CounterMetricFamily(
            "continuum_machine_cpu_seconds",
            "Processor time that the machine has taken.",
            value=usage.cpu_ns / 1e9,
        )
        for name, told, value in (
            ("memory_bytes", "Memory in use, without files that can be dropped.", usage[1]),
            ("cores", "Cores that the machine may use.", self._config.cores),
            ("memory_limit_bytes", "Memory that the machine may use.", self._config.memory),
        ):
            yield GaugeMetricFamily(f"continuum_machine_{name}", told, value=value)


class BrokerCollector(Collector):
    """The last figures that a broker published of itself; none while it is away."""

    def __init__(self, host: str, port: int) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, float] = {}
        self._connected = False
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.on_connect = self._opened
        client.on_disconnect = self._closed
        client.on_message = self._message
        client.reconnect_delay_set(1, 5)
        client.connect_async(host, port)
        client.loop_start()

    def collect(self) -> Iterator[Metric]:
        """What is known now."""
        with self._lock:
            values, connected = dict(self._values), self._connected
        yield GaugeMetricFamily(
            "mosquitto_up", "Whether the broker answers.", value=float(connected)
        )
        for topic, name in BROKER_COUNTERS.items() if connected else ():
            if topic in values:
                yield CounterMetricFamily(f"mosquitto_{name}", topic, value=values[topic])
        for topic, name in BROKER_GAUGES.items() if connected else ():
            if topic in values:
                yield GaugeMetricFamily(f"mosquitto_{name}", topic, value=values[topic])

    def _opened(self, client: mqtt.Client, *_: Any) -> None:  # noqa: ANN401  paho's
        with self._lock:
            self._connected = True
            self._values.clear()
        client.subscribe([(_TOPICS + topic, 0) for topic in (*BROKER_COUNTERS, *BROKER_GAUGES)])

    def _closed(self, *_: object) -> None:
        with self._lock:
            self._connected = False

    def _message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:  # noqa: ANN401  paho's
        try:
            value = float(message.payload)
        except ValueError:
            return
        with self._lock:
            self._values[message.topic.removeprefix(_TOPICS)] = value


def registry(collector: Collector) -> CollectorRegistry:
    """A registry of one collector."""
    found = CollectorRegistry()
    found.register(collector)
    return found


def main(arguments: list[str]) -> None:
    """Answer until stopped."""
    config = Config(**json.loads(Path(arguments[0]).read_bytes()))
    pages = {"/metrics": registry(MachineCollector(config, machine_reader()))}
    if config.broker is not None:
        host, port = config.broker
        pages["/broker"] = registry(BrokerCollector(host, port))
    with server(config.address, config.port, pages) as listening:
        listening.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
