"""What `image_classification` costs by itself: latency minus processing, without any network.

    benchmarks/run harness_overhead [--seconds 20]

An endpoint, a worker and Debian's mosquitto on the loopback interface; 5 Hz, photos of 68 kB on
average. The floor beside it is what a message of that size costs through the same broker between
two bare sockets' worth of work: publishing it and receiving it in one process.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from continuum.benchmark.applications.image_classification import ImageClassification
from continuum.benchmark.applications.image_classification.application import (
    ImageClassificationSettings,
)
from continuum.benchmark.contract import RUN_FOLDER, Endpoint, Load, Worker
from continuum.testing.local import LocalHost, run_repetition
from continuum_runtime.broker import Connection

FREQUENCY = 5.0
TARGET_MS = 3.0
LOCAL = "127.0.0.1"


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    """The port of a mosquitto that runs meanwhile."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin")
    if program is None:
        sys.exit("mosquitto is not installed: apt-get install mosquitto")
    with socket.create_server((LOCAL, 0)) as free:
        port: int = free.getsockname()[1]
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} {LOCAL}\nallow_anonymous true\nset_tcp_nodelay true\n"
    )
    with subprocess.Popen((program, "-c", configuration), stderr=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.terminate()


def floor(port: int, count: int, size: int) -> list[float]:
    """Milliseconds of a message of `size` bytes through the broker, and of a short one."""
    came = threading.Event()
    connection = Connection(LOCAL, port, "floor", "floor", lambda _: came.set())
    if not connection.subscribed.wait(10):
        sys.exit("no answer from the broker")
    found = []
    for _ in range(count):
        began = time.perf_counter()
        for message in (bytes(size), bytes(72)):
            came.clear()
            connection.publish("floor", message)
            came.wait(5)
        found.append((time.perf_counter() - began) * 1000)
        time.sleep(1 / FREQUENCY)
    connection.close()
    return found


def overhead(folder: Path, port: int, seconds: float) -> list[float]:
    """Milliseconds of latency minus processing, for each request."""
    application = ImageClassification(ImageClassificationSettings())
    application.port = port
    worker = Worker("worker-1", 1, "here", LOCAL, 1, 2**30)
    endpoint = Endpoint("endpoint-1", 1, "here", LOCAL, 1, 2**30, worker)
    load = Load(1, 1, FREQUENCY, 2.0, seconds, 10.0, f"{RUN_FOLDER}/endpoint-1-1")
    with LocalHost(folder) as host:
        host.install(application.install())
        samples = run_repetition(host, application, {endpoint: load})["endpoint-1"]
    measured = [each for each in samples if not each["warmup"]]
    if any(each["status"] != "ok" for each in measured):
        sys.exit("not every request was answered")
    return [
        (each["answered_ns"] - each["intended_ns"] - (each["finished_ns"] - each["started_ns"]))
        / 1e6
        for each in measured
    ]


def show(name: str, values: list[float]) -> None:
    """One line of figures."""
    ordered = sorted(values)
    p95 = ordered[int(0.95 * len(ordered))]
    print(
        f"{name:32} n {len(values):4}  median {statistics.median(values):6.3f} ms  p95 {p95:6.3f}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds: float = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with broker(folder) as port:
            least = floor(port, round(seconds * FREQUENCY / 2), 68_000)
            found = overhead(folder, port, seconds)
    show("the broker alone, there and back", least)
    show("latency minus processing", found)
    median = statistics.median(found)
    verdict = "reached" if median < TARGET_MS else "missed"
    print(
        f"{median / statistics.median(least):.2f} × the broker alone; below {TARGET_MS:g} ms: {verdict}"
    )


if __name__ == "__main__":
    main()
