"""Runs a program that knows nothing of the files by which the benchmark talks to processes.

Started as `python3 -m continuum_runtime.launch CONFIG`; CONFIG is a JSON file with the fields of
`Config`. For an endpoint it waits for its worker if it is told to, makes the file `ready`, waits
for the file `start`, and then runs the program with the time that it holds in its environment and its standard output in `samples.jsonl`; a program that does not end in time is
ended. For a worker it runs the program at once, and makes `ready` when the program can take
requests.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from continuum_runtime.open_loop import (
    ARRIVALS_FILE,
    READY_FILE,
    SAMPLES_FILE,
    Schedule,
    announce_ready,
    await_start,
    clear,
    read_offsets,
    write_file,
)

_POLL_SECONDS = 0.02
_CONNECT_SECONDS = 0.5
_GRACE_SECONDS = 2.0
"""Between the end of the load and SIGTERM."""
_END_SECONDS = 3.0
"""Between SIGTERM and SIGKILL."""


@dataclass(frozen=True)
class Load:
    """The schedule of an endpoint's requests; see `continuum_runtime.open_loop.Schedule`.

    `arrivals` is the file that holds it; "" where they come at fixed intervals: then it is written
    before the program is started.
    """

    frequency: float
    warmup: int
    requests: int
    answer_timeout: float
    start_timeout: float
    arrivals: str = ""


@dataclass(frozen=True)
class Config:
    """What to run, and how.

    Attributes:
        folder: the process's own folder.
        arguments: program and arguments.
        executable: files to make executable first.
        load: of an endpoint; None for a worker.
        ready: of a worker: `started`, `file` (it makes the file `ready` itself) or `port`. Of an
            endpoint: `port` when it has to wait until its worker listens.
        port: on which the worker listens, for `port`.
        address: on which it listens.
    """

    folder: str
    arguments: list[str]
    executable: list[str] = field(default_factory=list)
    load: Load | None = None
    ready: str = "started"
    port: int = 0
    address: str = ""


@contextlib.contextmanager
def running(
    config: Config, environment: dict[str, str], output: int | None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process group of its own, which ends with the block, whatever ends that."""
    for path in config.executable:
        Path(path).chmod(0o755)
    process = subprocess.Popen(
        config.arguments,
        stdin=subprocess.DEVNULL,
        stdout=output,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it started: first by SIGTERM, then by SIGKILL."""
    _signal(process, signal.SIGTERM)
    if _wait(process, _END_SECONDS) is None:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Its status when it ends in that time, else None."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def listens(address: str, port: int) -> bool:
    """Whether something takes TCP connections there now."""
    try:
        with socket.create_connection((address, port), _CONNECT_SECONDS):
            return True
    except OSError:
        return False


def run_worker(config: Config) -> int:
    """Run a worker until it ends or is stopped; returns its status."""
    folder = Path(config.folder)
    with running(config, {}, None) as process:
        if config.ready == "started":
            announce_ready(folder)
        # The benchmark stops waiting for `ready` at its own limit, and stops us.
        while config.ready == "port" and process.poll() is None:
            # In a pod the address is the machine's, which it may not reach itself.
            if any(listens(address, config.port) for address in ("127.0.0.1", config.address)):
                announce_ready(folder)
                break
            time.sleep(_POLL_SECONDS)
        status = process.wait()
    (folder / READY_FILE).unlink(missing_ok=True)
    return _as_exit(status)


def _await_worker(config: Config, limit: float) -> bool:
    """Wait until the worker listens; whether it did within so many seconds."""
    deadline = time.monotonic() + limit
    told = False
    while not listens(config.address, config.port):
        if not told:
            place = f"{config.address} port {config.port}"
            print(f"the worker takes no connections on {place} yet", file=sys.stderr, flush=True)
            told = True
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def run_endpoint(config: Config, load: Load) -> int:
    """Run an endpoint from its start to its end; returns its status."""
    folder = Path(config.folder)
    clear(folder)
    offsets = read_offsets(load.arrivals)
    if offsets is None:
        _write_arrivals(folder, load)
    output = os.open(
        folder / SAMPLES_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644
    )
    if config.ready == "port" and not _await_worker(config, load.start_timeout):
        return 1
    announce_ready(folder)
    schedule = Schedule(
        await_start(folder, load.start_timeout),
        load.frequency,
        load.warmup,
        load.requests,
        load.answer_timeout,
        offsets,
    )
    environment = {"CONTINUUM_START_NS": str(schedule.start_ns)}
    with running(config, environment, output) as process:
        os.close(output)
        left = max(0.0, (schedule.end_ns - time.time_ns()) / 1e9)
        status = _wait(process, left + _GRACE_SECONDS)
    if status is None:
        print("did not end in time, and was ended", file=sys.stderr, flush=True)
        return 1
    return _as_exit(status)


def _write_arrivals(folder: Path, load: Load) -> None:
    """Write when periodic requests are due: programs find a file for all kinds of arrivals."""
    schedule = Schedule(0, load.frequency, load.warmup, load.requests, load.answer_timeout)
    lines = (f"{schedule.due_ns(number)}\n" for number in range(schedule.count))
    write_file(folder / ARRIVALS_FILE, "".join(lines))


def _as_exit(status: int) -> int:
    return status if status >= 0 else 128 - status


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(arguments: list[str]) -> int:
    """Run the program that a file describes; returns the status to exit with."""
    signal.signal(signal.SIGTERM, _stop)
    fields = json.loads(Path(arguments[0]).read_bytes())
    load = fields.pop("load", None)
    config = Config(**fields, load=None if load is None else Load(**load))
    try:
        if config.load is None:
            return run_worker(config)
        return run_endpoint(config, config.load)
    except (FileNotFoundError, PermissionError) as error:
        print(f"cannot start {config.arguments[0]}: {error}", file=sys.stderr, flush=True)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
