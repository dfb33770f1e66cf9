"""Pages for Prometheus, by path, over HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class _Quiet(WSGIRequestHandler):
    """Does not write a line for each request."""

    def log_message(self, *_: object) -> None:
        """Nothing: Prometheus itself knows when it asked."""


def pages(registries: Mapping[str, CollectorRegistry]) -> WSGIApplication:
    """What answers at each path with the figures of its registry."""
    known = {path: make_wsgi_app(registry) for path, registry in registries.items()}

    def answer(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        page = known.get(environment["PATH_INFO"])
        if page is None:
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"not here\n"]
        body: Iterable[bytes] = page(environment, start)
        return body

    return answer


def server(address: str, port: int, registries: Mapping[str, CollectorRegistry]) -> WSGIServer:
    """A server that listens, and does not answer yet; "" is every address.

    Raises:
        OSError: the port is taken.
    """
    return make_server(
        address,
        port,
        pages(registries),
        server_class=ThreadingWSGIServer,
        handler_class=_Quiet,
    )
