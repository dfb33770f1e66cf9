from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import continuum_runtime

SOURCES = str(Path(continuum_runtime.__file__).parents[1])
LOAD = {
    "frequency": 10.0,
    "warmup": 0,
    "requests": 2,
    "answer_timeout": 0.1,
    "start_timeout": 10.0,
}


@contextmanager
def launched(folder: Path, code: str, **config: Any) -> Iterator[subprocess.Popen[str]]:
    """Our launcher, with a Python program as what it runs."""
    path = folder / "config.json"
    arguments = config.pop("arguments", [sys.executable, "-c", code])
    path.write_text(json.dumps({"folder": str(folder), "arguments": arguments, **config}))
    process = subprocess.Popen(
        (sys.executable, "-m", "continuum_runtime.launch", str(path)),
        env={**os.environ, "PYTHONPATH": SOURCES, "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def await_file(path: Path) -> None:
    end = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.01)


def start(folder: Path) -> int:
    await_file(folder / "ready")
    now = time.time_ns()
    (folder / "new").write_text(str(now))
    (folder / "new").rename(folder / "start")
    return now


def gone(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    # What was ended but not yet waited for counts as gone.
    return " Z " in Path(f"/proc/{process_id}/stat").read_text()


def await_gone(process_id: int) -> None:
    end = time.monotonic() + 10
    while not gone(process_id):
        assert time.monotonic() < end, f"process {process_id} still runs"
        time.sleep(0.01)


def test_an_endpoint_is_started_with_the_time_and_its_output_are_the_samples(
    tmp_path: Path,
) -> None:
    code = "import os; print(os.environ['CONTINUUM_START_NS'])"
    with launched(tmp_path, code, load=LOAD) as process:
        await_file(tmp_path / "ready")
        time.sleep(0.05)
        assert (tmp_path / "samples.jsonl").read_text() == ""
        began = start(tmp_path)
        assert process.wait(10) == 0
    assert (tmp_path / "samples.jsonl").read_text() == f"{began}\n"


def test_a_program_finds_when_its_requests_are_due(tmp_path: Path) -> None:
    code = f"print(open({str(tmp_path / 'arrivals.txt')!r}).read())"
    with launched(tmp_path, code, load=LOAD) as process:
        start(tmp_path)
        assert process.wait(10) == 0
    assert (tmp_path / "samples.jsonl").read_text().split() == ["0", "100000000"]


def test_the_time_for_a_program_is_that_of_its_own_arrivals(tmp_path: Path) -> None:
    (tmp_path / "arrivals.txt").write_text("0\n700000000\n")
    load = {**LOAD, "arrivals": str(tmp_path / "arrivals.txt")}
    with launched(tmp_path, "import time; time.sleep(60)", load=load) as process:
        began = start(tmp_path)
        assert process.wait(20) == 1
    # The last one's time, its time-out, and the grace.
    assert time.time_ns() - began >= 2.8e9


def test_an_earlier_start_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "start").write_text("5")
    code = "import os; print(os.environ['CONTINUUM_START_NS'])"
    with launched(tmp_path, code, load=LOAD) as process:
        began = start(tmp_path)
        assert process.wait(10) == 0
    assert (tmp_path / "samples.jsonl").read_text() == f"{began}\n"


def test_the_status_of_an_endpoint_is_handed_on(tmp_path: Path) -> None:
    with launched(tmp_path, "raise SystemExit(3)", load=LOAD) as process:
        start(tmp_path)
        assert process.wait(10) == 3


def test_an_endpoint_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid)\n"
        "time.sleep(60)\n"
    )
    with launched(tmp_path, code, load=LOAD) as process:
        start(tmp_path)
        assert process.wait(20) == 1
        assert process.stderr is not None
        assert "did not end in time" in process.stderr.read()
    await_gone(int((tmp_path / "samples.jsonl").read_text()))


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with launched(tmp_path, "", arguments=["/no/such/program"], load=LOAD) as process:
        start(tmp_path)
        assert process.wait(10) == 127
        assert process.stderr is not None
        assert "cannot start /no/such/program" in process.stderr.read()


def test_a_worker_is_ready_once_started(tmp_path: Path) -> None:
    with launched(tmp_path, "import time; time.sleep(60)", ready="started") as process:
        await_file(tmp_path / "ready")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM


def test_a_worker_is_ready_once_its_port_takes_connections(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = (
        "import os, pathlib, socket, time\n"
        f"pathlib.Path({str(tmp_path)!r}, 'pid').write_text(str(os.getpid()))\n"
        f"while not pathlib.Path({str(tmp_path)!r}, 'go').exists(): time.sleep(0.01)\n"
        f"s = socket.create_server(('127.0.0.1', {port}))\n"
        "time.sleep(60)\n"
    )
    with launched(tmp_path, code, ready="port", port=port, address="127.0.0.1") as process:
        await_file(tmp_path / "pid")
        time.sleep(0.1)
        assert not (tmp_path / "ready").exists()
        (tmp_path / "go").touch()
        await_file(tmp_path / "ready")
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    await_gone(int((tmp_path / "pid").read_text()))


def test_a_worker_that_says_itself_when_it_is_ready(tmp_path: Path) -> None:
    code = f"import pathlib; pathlib.Path({str(tmp_path)!r}, 'ran').touch()"
    with launched(tmp_path, code, ready="file") as process:
        await_file(tmp_path / "ran")
        assert process.wait(10) == 0
    assert not (tmp_path / "ready").exists()


def test_a_worker_that_ends_is_not_ready_any_more(tmp_path: Path) -> None:
    with launched(tmp_path, "raise SystemExit(4)", ready="started") as process:
        assert process.wait(10) == 4
    assert not (tmp_path / "ready").exists()


def test_files_are_made_executable_first(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 5\n")
    assert not os.access(program, os.X_OK)
    with launched(
        tmp_path, "", arguments=[str(program)], executable=[str(program)], ready="started"
    ) as process:
        assert process.wait(10) == 5


def test_an_endpoint_can_wait_for_its_workers_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = {"load": LOAD, "ready": "port", "address": "127.0.0.1", "port": port}
    with launched(tmp_path, "print('{}')", **told) as endpoint:
        assert endpoint.stderr is not None
        assert endpoint.stderr.readline() == (
            f"the worker takes no connections on 127.0.0.1 port {port} yet\n"
        )
        assert not (tmp_path / "ready").exists()
        with socket.create_server(("127.0.0.1", port)):
            start(tmp_path)
            assert endpoint.wait(20) == 0
    assert (tmp_path / "samples.jsonl").read_text() == "{}\n"


def test_an_endpoint_whose_worker_never_listens_fails_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    load = {**LOAD, "start_timeout": 0.1}
    told = {"load": load, "ready": "port", "address": "127.0.0.1", "port": port}
    with launched(tmp_path, "print('{}')", **told) as endpoint:
        assert endpoint.wait(20) == 1
    assert not (tmp_path / "ready").exists()


def test_a_worker_may_listen_where_its_endpoints_cannot_reach_it_by_that_address(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = f"import socket, time; s = socket.create_server(('', {port})); time.sleep(60)"
    # An address of nobody here, as a pod's machine has one.
    with launched(tmp_path, code, ready="port", address="192.0.2.1", port=port):
        await_file(tmp_path / "ready")
