"""The page's server: what it answers, whom, and on which port."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator

import pytest

from continuum.errors import NotPossibleHere
from continuum.watch.web import Server, listen, page

SEEN = {"deployment": "paper"}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(lambda: SEEN, 0) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def get(
    server: Server, path: str, host: str | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest("GET", path, skip_host=True)
    if host != "":
        connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def test_it_listens_on_loopback_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_the_page_and_the_snapshot(server: Server) -> None:
    status, headers, content = get(server, "/")
    assert (status, content) == (200, page()[0])
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    status, headers, content = get(server, "/snapshot.json?1")
    assert (status, json.loads(content)) == (200, SEEN)
    assert headers["Cache-Control"] == "no-store"
    assert get(server, "/etc/passwd")[0] == 404


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1", "LOCALHOST", "[::1]:80"])
def test_names_of_this_host_are_answered_whatever_the_tunnels_port(
    server: Server, host: str
) -> None:
    assert get(server, "/snapshot.json", host)[0] == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:8321", "127.0.0.1.evil.example"]
)
def test_other_names_are_refused(server: Server, host: str) -> None:
    for path in ("/", "/snapshot.json"):
        status, _, content = get(server, path, host)
        assert status == 403
        assert b"paper" not in content


def test_nothing_in_the_page_comes_from_elsewhere() -> None:
    content = page()[0].decode().replace("http://www.w3.org/2000/svg", "")
    for word in ("http://", "https://", "@import", "src=", "url("):
        assert word not in content
    assert "{{" not in content


def test_where_the_usual_port_is_taken_another_is_had(server: Server) -> None:
    with listen(lambda: SEEN, None, server.server_port) as other:
        assert other.server_port not in {0, server.server_port}
    with pytest.raises(NotPossibleHere) as refused:
        listen(lambda: SEEN, server.server_port, 0)
    assert str(server.server_port) in refused.value.message
