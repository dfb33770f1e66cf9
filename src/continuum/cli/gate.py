"""The door of a tunnel on this host: it lets in whoever shows the token, and nobody else.

What comes in by a cookie is passed on as it is, and so is all that follows on its connection. What
has the token in its path is passed on without it, and asked to come on a connection of its own each
time.
"""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from continuum.watch.token import REFUSAL, Token, wants_page

LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_HEAD_LIMIT = 65536
_SECONDS = 15
"""A client that says nothing for so long, before it has said who it is, is left."""

Connect = Callable[[], socket.socket]


class _Server(socketserver.ThreadingTCPServer):
    """Listens at one address of `localhost`."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, family: socket.AddressFamily, address: str, port: int) -> None:
        self.address_family = family
        super().__init__((address, port), _Visitor)
        self.token = Token(int(self.server_address[1]))
        self.connect: Connect = socket.socket

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a connection that breaks is whoever opened it's to tell."""


class Gate:
    """The door on one port, at every address of `localhost` that there is. A context: its end
    closes the port.
    """

    def __init__(self, port: int) -> None:
        """Take the port, 0 for any that is free at all of them; nobody is answered yet.

        Raises:
            OSError: it cannot be had.
        """
        self._servers: list[_Server] = []
        try:
            for family, address in LOOPBACK:
                self._listen(family, address, port)
                port = self.port
        except BaseException:
            self.close()
            raise
        for each in self._servers:
            each.token = self.token

    def _listen(self, family: socket.AddressFamily, address: str, port: int) -> None:
        try:
            self._servers.append(_Server(family, address, port))
        except OSError:
            if self._servers and not _has(family, address):
                return  # Without IPv6 one address is all that there is.
            raise

    @property
    def port(self) -> int:
        """Port on which it listens."""
        return self._servers[0].token.port

    @property
    def token(self) -> Token:
        """Token that lets in."""
        return self._servers[0].token

    @property
    def url(self) -> str:
        """Address where a browser finds what is behind it, which a program puts before a path."""
        return f"http://localhost:{self.port}/{self.token.value}"

    @contextmanager
    def answering(self, connect: Connect) -> Iterator[None]:
        """Let in, until the block ends; `connect` makes a connection to what is behind."""
        with ExitStack() as threads:
            for server in self._servers:
                server.connect = connect
                thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
                thread.start()
                threads.callback(thread.join)
                threads.callback(server.shutdown)
            yield

    def close(self) -> None:
        """Give the port back."""
        for each in self._servers:
            each.server_close()


def _has(family: socket.AddressFamily, address: str) -> bool:
    """Tell whether this host has that address."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as attempt:
            attempt.bind((address, 0))
    except OSError:
        return False
    return True


class _Visitor(socketserver.BaseRequestHandler):
    """One connection."""

    server: _Server
    request: socket.socket

    def handle(self) -> None:
        """Look at the first request, and pass on or refuse."""
        self.request.settimeout(_SECONDS)
        with suppress(OSError):
            head, rest = self._head()
            passed = self._judged(head) if head else None
            if passed is not None:
                with self.server.connect() as far:
                    far.sendall(passed + rest)
                    _copy(self.request, far)

    def _head(self) -> tuple[bytes, bytes]:
        """The first request's lines, and what came behind them."""
        read = b""
        while b"\r\n\r\n" not in read:
            more = self.request.recv(_HEAD_LIMIT)
            if not more or len(read) > _HEAD_LIMIT:
                return b"", b""
            read += more
        head, _, rest = read.partition(b"\r\n\r\n")
        return head, rest

    def _judged(self, head: bytes) -> bytes | None:
        """The request as it is passed on; None where it was answered here."""
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        token = self.server.token
        path = token.without(words[1]) if len(words) == 3 else None
        if path is None and token.is_in(headers.get("cookie", "")):
            return head + b"\r\n\r\n"
        if path is None:
            self._answer("403 Forbidden", REFUSAL, "Content-Type: text/plain")
            return None
        if wants_page(headers):
            self._answer("303 See Other", b"", f"Location: {path}", _cookie(token))
            return None
        kept = [line for line in lines if line.partition(":")[0].strip().lower() != "connection"]
        first = f"{words[0]} {path} {words[2]}"
        return "\r\n".join([first, *kept, "Connection: close", "", ""]).encode("latin-1")

    def _answer(self, status: str, content: bytes, *headers: str) -> None:
        lines = (
            f"HTTP/1.1 {status}",
            *headers,
            f"Content-Length: {len(content)}",
            "Cache-Control: no-store",
            "Referrer-Policy: no-referrer",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
        )
        self.request.sendall("\r\n".join((*lines, "", "")).encode() + content)


def _cookie(token: Token) -> str:
    return f"Set-Cookie: {token.set_cookie()}"


def _copy(one: socket.socket, other: socket.socket) -> None:
    """Pass on both ways what comes, until both ends have said all."""
    one.settimeout(None)
    targets = {one: other, other: one}
    while targets:
        ready, _, _ = select.select(list(targets), [], [])
        for source in ready:
            data = source.recv(65536)
            if data:
                targets[source].sendall(data)
            else:
                with suppress(OSError):
                    targets[source].shutdown(socket.SHUT_WR)
                del targets[source]
