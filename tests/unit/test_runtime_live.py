"""The program that tells what a machine does, as a process and part by part."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from continuum_runtime import live


def data(read: dict[str, Any] | None) -> bytes:
    assert read is not None
    return base64.b64decode(read["data"])


def test_whole_lines_are_read_on_from_the_offset(tmp_path: Path) -> None:
    path = tmp_path / "samples"
    path.write_bytes(b"one\ntwo\nthr")
    first = live.read_on(path, 0)
    assert first is not None
    assert (data(first), first["offset"], first["more"]) == (b"one\ntwo\n", 8, False)
    path.write_bytes(b"one\ntwo\nthree\n")
    assert data(live.read_on(path, 8)) == b"three\n"
    assert data(live.read_on(path, 14)) == b""


def test_a_long_file_comes_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "samples"
    path.write_bytes(b"line\n" * 100)
    offset, found = 0, b""
    for _ in range(100):
        read = live.read_on(path, offset, limit=33)
        offset, found = read["offset"] if read else 0, found + data(read)
        if read and not read["more"]:
            break
    assert found == b"line\n" * 100


def test_a_line_without_an_end_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "samples"
    path.write_bytes(b"x" * 50 + b"\nline\n")
    read = live.read_on(path, 0, limit=20)
    assert read is not None
    assert (read["offset"], read["more"]) == (20, True)


def test_a_file_that_became_shorter_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "samples"
    path.write_bytes(b"new\n")
    read = live.read_on(path, 400)
    assert read is not None
    assert (read["from"], data(read)) == (0, b"new\n")
    assert live.read_on(tmp_path / "none", 0) is None


def test_it_answers_each_line_with_one_and_ends_with_its_input(tmp_path: Path) -> None:
    path = tmp_path / "samples"
    path.write_bytes(b"{}\n")
    asked = json.dumps({"files": {str(path): 0, str(tmp_path / "none"): 0}}) + "\n"
    before = time.time_ns()
    ended = subprocess.run(
        [sys.executable, "-m", "continuum_runtime.live"],
        input=asked * 2,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    first, second = map(json.loads, ended.stdout.splitlines())
    assert before < first["at"] < second["at"] < time.time_ns()
    assert second["cpu_ns"] >= first["cpu_ns"] > 0
    assert first["memory_bytes"] > 0
    assert list(first["files"]) == [str(path)]
    assert data(first["files"][str(path)]) == b"{}\n"


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/there"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(b"said")

    def log_message(self, *_: object) -> None:
        pass


def test_pages_of_servers_on_the_machine_are_handed_on() -> None:
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert live.page(f"{address}/there") == {"status": 200, "body": "said"}
        assert live.page(f"{address}/nowhere")["status"] == 404
        server.shutdown()
    assert live.page(f"{address}/there")["status"] == 0
    assert live.page("file:///etc/hostname")["status"] == 0
