"""The page for a browser: one file, on loopback, that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import sys
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import TYPE_CHECKING

from continuum import folders
from continuum.errors import ContinuumError, NotPossibleHere
from continuum.watch.token import REFUSAL, Token, wants_page

if TYPE_CHECKING:
    import socket

ADDRESS = "127.0.0.1"
_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
_CLIENT_SECONDS = 15
"""A client that says nothing for so long is left."""

Look = Callable[[], object]
"""Gives what JSON can hold: a snapshot.

Raises:
    ContinuumError, OSError: there is none now; the browser is told, and asks again.
"""
Say = Callable[[str], None]
"""Tells a line to the person at the terminal."""


class Server(ThreadingHTTPServer):
    """Serves the page and the snapshot that it draws. A context: its end closes the port."""

    daemon_threads = True

    def __init__(self, look: Look, port: int, say: Say) -> None:
        """Listen on a port, 0 for a free one.

        Raises:
            OSError: it cannot be had.
        """
        self.look = look
        self._say = say
        super().__init__((ADDRESS, port), _Handler)
        self.token = Token.kept(self.server_port, folders.state_folder().parent / "watch-token")

    @property
    def address(self) -> str:
        """Address of the page for a browser; with the token."""
        return f"http://{ADDRESS}:{self.server_port}/{self.token.value}/"

    def handle_error(
        self,
        request: socket.socket | tuple[bytes, socket.socket],  # noqa: ARG002  the library's
        client_address: object,  # noqa: ARG002
    ) -> None:
        """Tell of an answer that failed, in one line: a person reads this terminal.

        A browser that goes away in the middle of an answer is no failure.
        """
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            self._say(f"the page was not answered: {type(error).__name__}: {error}")


def listen(look: Look, port: int | None, usual: int, say: Say) -> Server:
    """A server on the port that was asked for; else on the usual one, or any that is free.

    Raises:
        NotPossibleHere: the port that was asked for cannot be had.
    """
    try:
        return Server(look, usual if port is None else port, say)
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return Server(look, 0, say)
        raise NotPossibleHere(
            f"port {port} cannot be had: {error.strerror}",
            where=f"{ADDRESS}:{port}",
            hint="leave --port out, and a free one is taken",
        ) from error


@cache
def page() -> tuple[bytes, str]:
    """The page, and what the browser may do with it: run what is in it, and ask this server."""
    folder = resources.files("continuum.watch")
    style, script = ((folder / name).read_text("utf-8") for name in ("page.css", "page.js"))
    whole = (folder / "page.html").read_text("utf-8")
    whole = whole.replace("{{style}}", style).replace("{{script}}", script)
    policy = (
        f"default-src 'none'; style-src {_named(style)}; script-src {_named(script)}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return whole.encode(), policy


def _named(text: str) -> str:
    """What is in the page itself, as the policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = _CLIENT_SECONDS
    server_version = "continuum"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a browser on this host."""
        # A page from elsewhere whose name was made to lead here must not read what is here.
        host = self.headers.get("Host", "").rpartition(":")
        name = host[0] if host[2].isdecimal() else self.headers.get("Host", "")
        if name.lower() not in _HOSTS:
            self._answer(HTTPStatus.FORBIDDEN, b"not a name of this host\n", "text/plain")
            return
        token, headers = self.server.token, {k.lower(): v for k, v in self.headers.items()}
        path = token.without(self.path)
        if path is not None and wants_page(headers):
            self._send_on(path)
            return
        if path is None and not token.is_in(headers.get("cookie", "")):
            self._answer(HTTPStatus.FORBIDDEN, REFUSAL, "text/plain")
            return
        match (path or self.path).partition("?")[0]:
            case "/":
                content, policy = page()
                self._answer(HTTPStatus.OK, content, "text/html; charset=utf-8", policy)
            case "/snapshot.json":
                self._answer_snapshot()
            case _:
                self._answer(HTTPStatus.NOT_FOUND, b"there is only one page here\n", "text/plain")

    def _answer_snapshot(self) -> None:
        try:
            seen = self.server.look()
        except (ContinuumError, OSError) as error:
            content = f"{error}\n".encode("utf-8", "backslashreplace")
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, content, "text/plain; charset=utf-8")
            return
        content = json.dumps(seen, allow_nan=False).encode()
        self._answer(HTTPStatus.OK, content, "application/json")

    def _send_on(self, path: str) -> None:
        """Give a browser its cookie, and an address without the token."""
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", path)
        self.send_header("Set-Cookie", self.server.token.set_cookie())
        self.send_header("Content-Length", "0")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()

    def _answer(self, status: HTTPStatus, content: bytes, kind: str, policy: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", policy or "default-src 'none'")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Say nothing: a person reads this terminal."""
