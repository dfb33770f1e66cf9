"""The endpoint of `image_classification`: sends photos at their times and notes the answers.

Started as `python3 -m continuum_runtime.endpoint CONFIG`; CONFIG is a JSON file with the fields of
`Config`. How it starts, and where its samples go: see `continuum_runtime.open_loop`. It ends after
the last request's time and the time for its answer, whatever happens.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from continuum_runtime import message as layout
from continuum_runtime.open_loop import (
    SampleFile,
    Schedule,
    announce_ready,
    await_start,
    clear,
    read_offsets,
)
from continuum_runtime.steady_clock import SteadyClock
from continuum_runtime.way import Way

if TYPE_CHECKING:
    from continuum_runtime.metrics import EndpointMetrics

_LAST_LOOK_SECONDS = 0.25
"""After the last request's time is up, so that an answer that is just late still counts as late."""


@dataclass(frozen=True)
class Config:
    """What the endpoint is told.

    Attributes:
        folder: its own folder.
        name, number: the endpoint's.
        frequency: requests per second.
        warmup, requests: numbers of requests; those of the warm-up come first.
        seed: decides the order of the photos.
        answer_timeout: seconds from when a request is due; `start_timeout` seconds as well.
        arrivals: the file that holds when requests are due; "" where they come at fixed intervals.
        photos: folder with the photos.
        broker: host, port, request_topic and answer_topic of a worker behind a broker.
        gateway: host, port and path of one that is a function. With neither it classifies itself.
        data: folder with the model and the labels, for one that classifies itself.
        threads, processes, passes: as a worker's, for one that classifies itself.
        metrics_port: where it tells figures of itself; None for nowhere.
    """

    folder: str
    name: str
    number: int
    frequency: float
    warmup: int
    requests: int
    seed: int
    answer_timeout: float
    start_timeout: float
    photos: str
    broker: dict[str, Any] | None
    data: str
    threads: int
    gateway: dict[str, Any] | None = None
    metrics_port: int | None = None
    processes: int = 1
    passes: int = 1
    arrivals: str = ""


def photo_order(names: list[str], seed: int) -> Iterator[str]:
    """Endless: every photo once in an order of its own, then all again in another."""
    source = random.Random(seed)
    while True:
        yield from source.sample(names, len(names))


class Itself:
    """The endpoint classifies its own photos."""

    def __init__(self, config: Config, book: Book) -> None:
        # Slow to import, and not needed by an endpoint with a worker.
        from continuum_runtime import pool  # noqa: PLC0415  see above

        self._book = book
        self._job = pool.Job
        self._pool = pool.Pool(
            pool.warm_classifiers(
                config.data,
                processes=config.processes,
                threads=config.threads,
                passes=config.passes,
            ),
            failed=book.end,
        )

    def send(self, message: bytearray) -> bool:
        """Put into the queue; received when it was sent, since nothing lies between."""
        request = layout.unpack_request(message)
        self._pool.put(self._job(request, request.sent_ns, self._answered))
        return True

    def _answered(self, found: layout.Answer) -> None:
        self._book.answered(found, time.time_ns(), len(layout.pack_answer(found)))


@dataclass
class Book:
    """Requests that wait for their answers, and the file for those that do not any more.

    `timeout`: so many seconds after a request was due its answer is late. Limits, and the times by
    `CLOCK_MONOTONIC` in samples, are by `clock`, which counts from the start of the load.
    """

    session: int
    timeout: float
    file: SampleFile
    waiting: dict[int, dict[str, Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    none_waits: threading.Event = field(default_factory=threading.Event)
    clock: SteadyClock = field(default_factory=SteadyClock)
    metrics: EndpointMetrics | None = None

    def open(self, sample: dict[str, Any]) -> None:
        """Note a request before it is sent."""
        with self.lock:
            self.waiting[sample["sequence"]] = sample
            self.none_waits.clear()

    def not_sent(self, sample: dict[str, Any]) -> None:
        """A request that could not be sent, or was too late to be."""
        with self.lock:
            sample["sent_ns"] = sample["sent_monotonic_ns"] = None
            self.waiting[sample["sequence"]] = sample
            self._close(sample, "error", error="could not be sent")

    def answered(self, answer: layout.Answer, answered_ns: int, size: int) -> None:
        """Complete a sample; answers to others' requests, and second answers, are dropped."""
        if answer.session != self.session:
            return
        steady_ns = self.clock.monotonic_of_ns(answered_ns)
        with self.lock:
            sample = self.waiting.get(answer.sequence)
            if sample is None:
                return
            due_ns = self.clock.monotonic_ns(sample["intended_ns"])
            sample.update(
                received_ns=answer.received_ns,
                started_ns=answer.started_ns,
                finished_ns=answer.finished_ns,
                answered_ns=answered_ns,
                answered_monotonic_ns=steady_ns,
                answer_bytes=size,
            )
            if answer.status != layout.OK:
                self._close(sample, "error", error=answer.text)
            elif steady_ns - due_ns > self.timeout * 1e9:
                self._close(sample, "timeout", result=answer.text)
            else:
                self._close(sample, "ok", result=answer.text)

    def sent(self, sequence: int, sent_ns: int) -> None:
        """A request left later than it was handed over."""
        with self.lock:
            sample = self.waiting.get(sequence)
            if sample is not None:
                sample["sent_ns"] = sent_ns
                sample["sent_monotonic_ns"] = self.clock.monotonic_of_ns(sent_ns)

    def seconds_left(self, intended_ns: int) -> float:
        """Until an answer to a request that is due then would be late."""
        passed_ns = time.monotonic_ns() - self.clock.monotonic_ns(intended_ns)
        return self.timeout - passed_ns / 1e9

    def refused(self, sequence: int, why: str) -> None:
        """A request that was handed over could not be sent."""
        with self.lock:
            sample = self.waiting.get(sequence)
            if sample is not None:
                sample["sent_ns"] = sample["sent_monotonic_ns"] = None
                self._close(sample, "error", error=f"could not be sent: {why}")

    def failed(self, sequence: int, status: str, why: str) -> None:
        """A request gets no answer any more, or none that counts."""
        with self.lock:
            sample = self.waiting.get(sequence)
            if sample is not None:
                self._close(sample, status, error=why)

    def end(self) -> None:
        """What still waits is lost."""
        with self.lock:
            for sample in list(self.waiting.values()):
                self._close(sample, "lost")

    def _close(self, sample: dict[str, Any], status: str, **more: str) -> None:
        del self.waiting[sample["sequence"]]
        due_ns = self.clock.monotonic_ns(sample["intended_ns"])
        whole = {**sample, "intended_monotonic_ns": due_ns, "status": status, **more}
        self.file.write(whole)
        if self.metrics is not None:
            answered_ns = sample["answered_monotonic_ns"] if status == "ok" else None
            self.metrics.ended(status, answered_ns and answered_ns - due_ns)
        if not self.waiting:
            self.none_waits.set()


class Stopped(Exception):
    """SIGTERM came."""


def _stop(*_: object) -> None:
    raise Stopped


def send_all(config: Config, schedule: Schedule, way: Way, book: Book) -> None:
    """Prepare and send every request at its time."""
    folder = Path(config.photos)
    names = sorted(path.name for path in folder.iterdir())
    order = photo_order(names, config.seed)
    sequence = -1
    for sequence, intended_ns in schedule.arrivals(book.clock):
        started_ns = time.time_ns()
        name = next(order)
        photo = (folder / name).read_bytes()
        message = layout.pack_request(
            layout.Request(config.number, book.session, sequence, photo, intended_ns, started_ns)
        )
        prepared_ns = time.time_ns()
        layout.stamp_prepared(message, prepared_ns)
        sample: dict[str, Any] = {
            "sequence": sequence,
            "warmup": sequence < schedule.warmup,
            "intended_ns": intended_ns,
            "prepare_started_ns": started_ns,
            "prepare_finished_ns": prepared_ns,
            "request_bytes": len(message),
            "input": name,
        }
        book.open(sample)
        sample["sent_ns"] = time.time_ns()
        sample["sent_monotonic_ns"] = book.clock.monotonic_of_ns(sample["sent_ns"])
        layout.stamp_sent(message, sample["sent_ns"])
        if not way.send(message):
            book.not_sent(sample)
    for left in range(sequence + 1, schedule.count):
        book.not_sent(
            {
                "sequence": left,
                "warmup": left < schedule.warmup,
                "intended_ns": schedule.due_ns(left),
            }
        )


def _way(config: Config, book: Book) -> Way:
    # Each needs packages that the others do without, and whose import takes time.
    if config.broker is not None:
        from continuum_runtime.by_mqtt import Broker  # noqa: PLC0415  see above

        return Broker(
            **config.broker, name=config.name, start_timeout=config.start_timeout, notes=book
        )
    if config.gateway is not None:
        from continuum_runtime.by_http import Gateway, Target  # noqa: PLC0415  see above

        return Gateway(
            Target(**config.gateway),
            answer_timeout=config.answer_timeout,
            start_timeout=config.start_timeout,
            notes=book,
        )
    return Itself(config, book)


def run(config: Config) -> None:
    """The endpoint's whole life."""
    folder = Path(config.folder)
    clear(folder)
    session = int.from_bytes(os.urandom(8))
    book = Book(session, config.answer_timeout, SampleFile(folder))
    if config.metrics_port is not None:
        # Only a machine where they are collected has what it takes.
        from continuum_runtime import metrics  # noqa: PLC0415  see above

        book.metrics = metrics.EndpointMetrics()
        book.metrics.waiting.set_function(lambda: len(book.waiting))
        metrics.serve(book.metrics.registry, config.metrics_port)
    way = _way(config, book)
    gc.collect()
    gc.freeze()
    announce_ready(folder)
    schedule = Schedule(
        await_start(folder, config.start_timeout),
        config.frequency,
        config.warmup,
        config.requests,
        config.answer_timeout,
        read_offsets(config.arrivals),
    )
    book.clock = SteadyClock()
    try:
        send_all(config, schedule, way, book)
        left = (schedule.end_ns - book.clock.time_ns()) / 1e9 + _LAST_LOOK_SECONDS
        book.none_waits.wait(max(0.0, left))
    finally:
        book.end()


def main(arguments: list[str]) -> None:
    """Run the endpoint that a file describes."""
    signal.signal(signal.SIGTERM, _stop)
    config = Config(**json.loads(Path(arguments[0]).read_bytes()))
    try:
        run(config)
    except Stopped:
        print("stopped", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
