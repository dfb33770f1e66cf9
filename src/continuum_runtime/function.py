"""The worker of `image_classification` as a function: an HTTP server on port 8080.

Started as `python3 -m continuum_runtime.serve_function`; what it needs is in its environment:
`CONTINUUM_DATA`, the folder with the model and the labels; `CONTINUUM_PROCESSES`, photos that are
classified at a time; `CONTINUUM_THREADS` and `CONTINUUM_PASSES`, those that compute one photo, and
how often. It listens when the models are loaded.

`GET /_/health` answers that it lives. `POST` to any path classifies: a body that begins as a
request of `continuum_runtime.message` is answered by one of its answers, with the worker's times;
any other body is taken for a photo, and answered by a line of text, so that `curl` can ask too.
Photos are classified in the order in which they came.
"""

from __future__ import annotations

import contextlib
import gc
import http.server
import json
import os
import signal
import socketserver
import sys
import threading
import time
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any

from continuum_runtime import message as layout
from continuum_runtime.answering import QUEUE_LIMIT, refusal
from continuum_runtime.pool import Job, Pool, warm_classifiers

PORT = 8080
HEALTH_PATH = "/_/health"
BODY_LIMIT = 64 * 2**20

_IDLE_SECONDS = 300.0
_DRAIN_SECONDS = 5.0
_CHUNK_LINE = 1024


class BadBody(ValueError):
    """A request's body cannot be read."""


def read_body(headers: Any, stream: Any) -> bytes:  # noqa: ANN401  as http.server has them
    """The body of an HTTP request, whole, by its length or in chunks: gateways send the latter.

    Raises:
        BadBody: it ends too early, is too large, or is not as HTTP has it.
    """
    if headers.get("Transfer-Encoding", "").lower() == "chunked":
        return b"".join(_chunks(stream))
    try:
        size = int(headers.get("Content-Length", 0))
    except ValueError as error:
        raise BadBody("the length of the body is no number") from error
    return _read(stream, size)


def _chunks(stream: Any) -> list[bytes]:  # noqa: ANN401  as above
    chunks: list[bytes] = []
    size = 0
    while True:
        line = stream.readline(_CHUNK_LINE)
        try:
            length = int(line.partition(b";")[0], 16)
        except ValueError as error:
            raise BadBody("the length of a chunk is no number") from error
        size += length
        if size > BODY_LIMIT:
            raise BadBody(f"more than {BODY_LIMIT} bytes")
        if length == 0:
            while stream.readline(_CHUNK_LINE).strip():
                pass  # Trailing headers, which nobody here reads.
            return chunks
        chunks.append(_read(stream, length))
        stream.readline(_CHUNK_LINE)


def _read(stream: Any, size: int) -> bytes:  # noqa: ANN401  as above
    if not 0 <= size <= BODY_LIMIT:
        raise BadBody(f"{size} bytes, where {BODY_LIMIT} are the most")
    content: bytes = stream.read(size)
    if len(content) < size:
        raise BadBody(f"it ends after {len(content)} of {size} bytes")
    return content


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Takes connections in threads of their own; those of a pool compute."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], pool: Pool) -> None:
        super().__init__(address, Handler)
        self._pool = pool
        self._lock = threading.Condition()
        self._waiting = 0

    def classify(self, request: layout.Request, received_ns: int) -> tuple[HTTPStatus, Any]:
        """The answer to a request, and the HTTP status that goes with it."""
        with self._lock:
            if self._waiting >= QUEUE_LIMIT:
                full = f"{QUEUE_LIMIT} requests wait already"
                return HTTPStatus.SERVICE_UNAVAILABLE, refusal(request, received_ns, full)
            self._waiting += 1
        try:
            answered: Future[layout.Answer] = Future()
            self._pool.put(Job(request, received_ns, answered.set_result))
            found = answered.result()
        finally:
            with self._lock:
                self._waiting -= 1
                self._lock.notify_all()
        good = found.status == layout.OK
        return (HTTPStatus.OK if good else HTTPStatus.UNPROCESSABLE_ENTITY), found

    def drain(self, seconds: float) -> None:
        """Wait until no request is being answered, at most so long."""
        with self._lock:
            self._lock.wait_for(lambda: self._waiting == 0, seconds)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  as above
        """Who has gone away is no error of ours."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection, over which many requests may come."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _IDLE_SECONDS
    # Head and body of an answer leave together.
    wbufsize = 2**16
    server: Server

    def do_GET(self) -> None:
        """Tell that the function lives."""
        there = self.path == HEALTH_PATH
        self._reply(HTTPStatus.OK if there else HTTPStatus.NOT_FOUND, b"OK" if there else b"")

    def do_POST(self) -> None:
        """Classify."""
        try:
            body = read_body(self.headers, self.rfile)
        except BadBody as error:
            self.close_connection = True
            self._reply(HTTPStatus.BAD_REQUEST, f"{error}\n".encode())
            return
        received_ns = time.time_ns()
        try:
            request = layout.unpack_request(body)
        except layout.Malformed:
            request = layout.Request(0, 0, 0, memoryview(body))
            status, found = self.server.classify(request, received_ns)
            self._reply(status, _as_text(found), "application/json")
        else:
            status, found = self.server.classify(request, received_ns)
            self._reply(status, layout.pack_answer(found), "application/octet-stream")

    def log_message(self, *_: object) -> None:
        """A line for each request would be most of what the function does."""

    def _reply(self, status: HTTPStatus, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _as_text(found: layout.Answer) -> bytes:
    if found.status != layout.OK:
        return json.dumps({"error": found.text}).encode() + b"\n"
    known = {"label": found.text, "probability": round(found.probability, 4)}
    return json.dumps(known).encode() + b"\n"


class Stopped(Exception):
    """SIGTERM came."""


def _stop(*_: object) -> None:
    raise Stopped


def main() -> None:
    """Serve until SIGTERM; requests that are being answered then are answered."""
    signal.signal(signal.SIGTERM, _stop)
    with contextlib.suppress(Stopped):
        threads, processes, passes = (
            int(os.environ.get(f"CONTINUUM_{name}", "1"))
            for name in ("THREADS", "PROCESSES", "PASSES")
        )
        classifiers = warm_classifiers(
            os.environ["CONTINUUM_DATA"], processes=processes, threads=threads, passes=passes
        )
        server = Server(("", PORT), Pool(classifiers))
        gc.collect()
        gc.freeze()
        print(f"takes requests on port {PORT}", file=sys.stderr, flush=True)
        try:
            server.serve_forever()
        except Stopped:
            server.drain(_DRAIN_SECONDS)
    # Threads that wait for requests would be waited for.
    os._exit(0)
