"""A broker on the loopback interface, for as long as a test needs it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAM = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


@dataclass
class Broker:
    """A mosquitto of the test's own."""

    configuration: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        assert PROGRAM is not None
        self.process = subprocess.Popen(
            (PROGRAM, "-c", str(self.configuration)), stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 10
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    return
            except OSError:
                assert time.monotonic() < end, "mosquitto does not start"
                assert self.process.poll() is None, "mosquitto ended"
                time.sleep(0.01)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """A running broker on a free port."""
    if PROGRAM is None:
        pytest.skip("mosquitto is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        "set_tcp_nodelay true\n"
    )
    running = Broker(configuration, port)
    running.start()
    try:
        yield running
    finally:
        running.kill()
