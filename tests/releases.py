"""A project's release server on this host, and a catalogue that names it."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from continuum.artifacts import catalogue

CATALOGUE = """
[tool]
about = "a tool"
version = "v1.2.3"
programs = ["saw", "axe"]
sources = ["release", "pypi"]

[tool.release]
file = "{server}/{version}/{program}{suffix}"
checksum = "{server}/{version}/{program}{suffix}.sum"
newest = "{server}/newest-{minor}"

[tool.pypi]
package = "tool-bin"
programs = ["saw", "axe"]
"""


@dataclass
class Server:
    """Files by path; a path in `cut` ends after so many bytes, once."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""

    def publish(self, path: str, content: bytes, digest: str | None = None) -> None:
        """Put a file there, with a checksum: the right one unless told otherwise."""
        self.files[path] = content
        digest = digest or hashlib.sha256(content).hexdigest()
        self.files[f"{path}.sum"] = f"{digest}  {path.rpartition('/')[2]}\n".encode()


class _Handler(BaseHTTPRequestHandler):
    server_of: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server_of.asked.append((self.path, wanted))
        content = self.server_of.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if wanted and begin >= len(content):
            self.send_error(416)
            return
        part = content[begin:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part[: self.server_of.cut.pop(self.path, len(part))])

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of this host."""
    server = Server()
    handler = type("Handler", (_Handler,), {"server_of": server})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        server.address = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        http.shutdown()
        thread.join()


def use_catalogue(patch: pytest.MonkeyPatch, text: str) -> None:
    """Make this catalogue the only one."""
    projects = catalogue.parse(text)
    patch.setattr(catalogue, "projects", lambda: projects)


def tool_catalogue(address: str, suffix: str = "") -> str:
    """The catalogue of one project whose release is at an address."""
    return CATALOGUE.replace("{server}", address).replace("{suffix}", suffix)
