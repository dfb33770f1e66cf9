"""The worker of `image_classification`: takes photos from a broker and answers what they show.

Started as `python3 -m continuum_runtime.worker CONFIG`; CONFIG is a JSON file with the fields of
`Config`. It makes the file `ready` in its folder when it takes requests, and runs until it is
stopped. Photos are classified in the order in which they came, as many at a time as it is told.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from continuum_runtime import message as layout
from continuum_runtime.answering import QUEUE_LIMIT, refusal
from continuum_runtime.broker import Connection
from continuum_runtime.open_loop import announce_ready
from continuum_runtime.pool import Job, Pool, warm_classifiers

if TYPE_CHECKING:
    from continuum_runtime.metrics import WorkerMetrics


@dataclass(frozen=True)
class Config:
    """What the worker is told.

    Attributes:
        folder: its own folder.
        name: the worker's name.
        host, port: of the broker.
        request_topic: where requests come in.
        answer_topics: where answers go, by the endpoint's number.
        data: folder with the model and the labels.
        threads: that compute one photo.
        processes: photos that are classified at a time.
        passes: how often each photo is computed.
        metrics_port: where it tells figures of itself; None for nowhere.
    """

    folder: str
    name: str
    host: str
    port: int
    request_topic: str
    answer_topics: dict[str, str]
    data: str
    threads: int
    processes: int = 1
    passes: int = 1
    metrics_port: int | None = None


class Worker:
    """Between the network's thread and those that compute."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._pool = Pool(
            warm_classifiers(
                config.data,
                processes=config.processes,
                threads=config.threads,
                passes=config.passes,
            )
        )
        self._metrics = None if config.metrics_port is None else self._tell(config.metrics_port)
        self._connection = Connection(
            config.host,
            config.port,
            f"{config.name}-{uuid.uuid4().hex[:8]}",
            config.request_topic,
            self._received,
        )

    def run(self) -> None:
        """Answer requests until the process is stopped."""
        self._connection.subscribed.wait()
        gc.collect()
        gc.freeze()
        announce_ready(Path(self._config.folder))
        while True:
            signal.pause()

    def _tell(self, port: int) -> WorkerMetrics:
        """Begin to tell figures."""
        # Only a machine where they are collected has what it takes.
        from continuum_runtime import metrics  # noqa: PLC0415  see above

        told = metrics.WorkerMetrics()
        told.queue.set_function(lambda: self._pool.waiting)
        metrics.serve(told.registry, port)
        return told

    def _received(self, payload: bytes | bytearray) -> None:
        received_ns = time.time_ns()
        try:
            request = layout.unpack_request(payload)
        except layout.Malformed as error:
            print(f"not a request: {error}", file=sys.stderr, flush=True)
            return
        if self._pool.waiting >= QUEUE_LIMIT:
            self._send(refusal(request, received_ns, f"{QUEUE_LIMIT} requests wait already"))
        else:
            self._pool.put(Job(request, received_ns, self._send))

    def _send(self, found: layout.Answer) -> None:
        topic = self._config.answer_topics.get(str(found.endpoint))
        if topic is None:
            print(f"request of an unknown endpoint {found.endpoint}", file=sys.stderr, flush=True)
            return
        # Without a connection the answer is lost, and the endpoint's sample says so.
        self._connection.publish(topic, layout.pack_answer(found))
        if self._metrics is not None:
            self._metrics.answered(
                ok=found.status == layout.OK, processing_ns=found.finished_ns - found.started_ns
            )


def main(arguments: list[str]) -> None:
    """Run the worker that a file describes."""
    Worker(Config(**json.loads(Path(arguments[0]).read_bytes()))).run()


if __name__ == "__main__":
    main(sys.argv[1:])
