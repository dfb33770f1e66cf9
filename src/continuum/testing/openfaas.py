"""A gateway that answers OpenFaaS' REST API on this host, without a cluster, for tests.

A function is a Python callable, chosen by the name of its image; its replicas are numbers. Deploy,
update, remove, list, scale, logs, and calls with a start from zero replicas are as the API's
specification has them.
"""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from continuum.software.serverless.openfaas import Credentials

Behaviour = Callable[[bytes], tuple[int, bytes]]
"""From the content of a call to the status and the content of its answer."""

_POLL_SECONDS = 0.005
_START_LIMIT = 5.0


@dataclass
class Deployed:
    """A function that is deployed: `there` tells from when on each replica takes calls."""

    asked: dict[str, Any]
    replicas: int = 1
    there: list[float] = field(default_factory=list)
    calls: int = 0

    @property
    def available(self) -> int:
        """Replicas that take calls now."""
        return sum(since <= time.monotonic() for since in self.there)

    def scale(self, replicas: int, seconds: float) -> None:
        """Have so many; each further one takes as many seconds more to be there."""
        new = replicas - len(self.there)
        begun = time.monotonic()
        self.there = self.there[:replicas] + [
            begun + seconds * number for number in range(1, new + 1)
        ]
        self.replicas = replicas

    def status(self) -> dict[str, Any]:
        """As the API tells of it."""
        return {
            "name": self.asked["service"],
            "image": self.asked["image"],
            "namespace": self.asked.get("namespace", "openfaas-fn"),
            "labels": self.asked.get("labels", {}),
            "replicas": self.replicas,
            "availableReplicas": self.available,
            "invocationCount": self.calls,
        }


class FakeGateway:
    """A context in which the gateway answers on `port` of this host.

    Args:
        behaviours: by image.
        start_seconds: until a replica takes calls.
        known: who may use the API.
    """

    def __init__(
        self,
        behaviours: Mapping[str, Behaviour] | None = None,
        *,
        start_seconds: float = 0.0,
        known: Credentials | None = None,
    ) -> None:
        self.behaviours = dict(behaviours or {})
        self.start_seconds = start_seconds
        self.known = known or Credentials("admin", "secret")
        self.functions: dict[str, Deployed] = {}
        self.connections = 0
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.gateway = self
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """TCP port on 127.0.0.1."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def deploy(self, name: str, image: str) -> Deployed:
        """A function with one replica that is there."""
        made = Deployed({"service": name, "image": image})
        made.scale(1, 0.0)
        self.functions[name] = made
        return made


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    gateway: FakeGateway


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 2**16
    server: _Server

    def setup(self) -> None:
        super().setup()
        with self.server.gateway.lock:
            self.server.gateway.connections += 1

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if path == "/healthz":
            self._reply(HTTPStatus.OK, b"")
        elif path.startswith("/function/"):
            self._reply(*self._call(path.split("/")[2], content))
        elif not self._is_known():
            self._reply(HTTPStatus.UNAUTHORIZED, b"invalid credentials")
        else:
            self._reply(*self._manage(path, content))

    def _is_known(self) -> bool:
        known = self.server.gateway.known
        wanted = base64.b64encode(f"{known.user}:{known.password}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def _call(self, name: str, content: bytes) -> tuple[int, bytes]:
        gateway = self.server.gateway
        function = gateway.functions.get(name)
        if function is None:
            return HTTPStatus.NOT_FOUND, b"not found"
        function.calls += 1
        if function.replicas == 0:
            function.scale(1, gateway.start_seconds)
        until = time.monotonic() + _START_LIMIT
        while function.available == 0:
            if time.monotonic() > until:
                return HTTPStatus.SERVICE_UNAVAILABLE, b"no replica"
            time.sleep(_POLL_SECONDS)
        return gateway.behaviours[function.asked["image"]](content)

    def _manage(  # noqa: PLR0911  one for each route
        self, path: str, content: bytes
    ) -> tuple[int, bytes]:
        gateway = self.server.gateway
        asked = json.loads(content) if content else {}
        parts = path.strip("/").split("/")[1:]
        match self.command, parts:
            case "GET", ["functions"]:
                return self._json([each.status() for each in gateway.functions.values()])
            case (("POST" | "PUT"), ["functions"]):
                there = asked["service"] in gateway.functions
                if there == (self.command == "POST"):
                    return HTTPStatus.CONFLICT if there else HTTPStatus.NOT_FOUND, b"refused"
                made = Deployed(asked)
                made.scale(1, gateway.start_seconds)
                gateway.functions[asked["service"]] = made
                return HTTPStatus.ACCEPTED, b""
            case "DELETE", ["functions"]:
                gone = gateway.functions.pop(asked["functionName"], None)
                return (HTTPStatus.ACCEPTED if gone else HTTPStatus.NOT_FOUND), b""
            case "GET", ["function", name] if name in gateway.functions:
                return self._json(gateway.functions[name].status())
            case "POST", ["scale-function", name] if name in gateway.functions:
                gateway.functions[name].scale(asked["replicas"], gateway.start_seconds)
                return HTTPStatus.ACCEPTED, b""
            case "GET", ["logs"]:
                name = parse_qs(urlsplit(self.path).query)["name"][0]
                line = {"name": name, "instance": f"{name}-1", "text": "takes requests"}
                return HTTPStatus.OK, json.dumps(line).encode() + b"\n"
        return HTTPStatus.NOT_FOUND, b"not found"

    def _json(self, value: object) -> tuple[int, bytes]:
        return HTTPStatus.OK, json.dumps(value).encode()

    def _reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
