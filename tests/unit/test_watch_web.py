"""The page's server: what it answers, whom, and on which port."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from continuum.errors import NotFound, NotPossibleHere
from continuum.watch.web import Look, Server, listen, page

SEEN = {"deployment": "paper"}


@contextmanager
def serving(look: Look, said: list[str]) -> Iterator[Server]:
    with Server(look, 0, said.append) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


@pytest.fixture
def server(_state: None) -> Iterator[Server]:
    said: list[str] = []
    with serving(lambda: SEEN, said) as made:
        yield made
    assert said == []


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def get(
    server: Server, path: str, host: str | None = None, cookie: str | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Answer of the server; with its token as a cookie unless told."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest("GET", path, skip_host=True)
    if host != "":
        connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    token = server.token
    connection.putheader("Cookie", f"{token.cookie}={token.value}" if cookie is None else cookie)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def test_it_listens_on_loopback_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "path", ["/", "/snapshot.json", "/nowhere", "//", "/%2e/", "/x/snapshot.json", "/?token=x"]
)
@pytest.mark.parametrize("cookie", ["", "continuum-1=x", "=", "a=b; c", "\xff"])
def test_without_the_token_nothing_is_answered(server: Server, path: str, cookie: str) -> None:
    status, _, content = get(server, path, cookie=cookie)
    assert status == 403
    assert b"paper" not in content
    near = f"{server.token.cookie}={server.token.value[:-1]}"
    assert get(server, path, cookie=near)[0] == 403


def test_a_browser_comes_by_the_address_and_stays_by_a_cookie(server: Server) -> None:
    path = server.address.removeprefix(f"http://127.0.0.1:{server.server_port}")
    status, headers, _ = get(server, path, cookie="", Accept="text/html,*/*")
    assert (status, headers["Location"]) == (303, "/")
    given = headers["Set-Cookie"]
    assert "HttpOnly" in given
    assert "SameSite=Strict" in given
    assert get(server, "/snapshot.json", cookie=given.partition(";")[0])[0] == 200
    # A path behind the token leads to no other host.
    _, headers, _ = get(server, f"{path}/evil.example", cookie="", Accept="text/html")
    assert headers["Location"] == "/evil.example"


def test_a_program_puts_the_address_before_a_path(server: Server) -> None:
    path = server.address.removeprefix(f"http://127.0.0.1:{server.server_port}")
    status, _, content = get(server, f"{path}snapshot.json", cookie="")
    assert (status, json.loads(content)) == (200, SEEN)


def test_the_token_is_kept_for_the_next_server_in_a_private_file(
    server: Server, tmp_path: Path
) -> None:
    (file,) = (tmp_path / "continuum").glob("watch-token")
    assert file.stat().st_mode & 0o777 == 0o600
    with serving(lambda: SEEN, []) as other:
        assert other.token.value == server.token.value
    # What others could have read, or is none, is replaced.
    file.chmod(0o644)
    with serving(lambda: SEEN, []) as other:
        assert other.token.value != server.token.value
    file.write_text("short\n")
    with serving(lambda: SEEN, []) as other:
        assert len(other.token.value) >= 32


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


@pytest.mark.parametrize("error", [NotFound("it is gone"), PermissionError("it is gone")])
def test_where_nothing_can_be_seen_the_browser_is_told(error: Exception) -> None:
    def look() -> object:
        raise error

    said: list[str] = []
    with serving(look, said) as server:
        status, _, content = get(server, "/snapshot.json")
        assert (status, content) == (503, b"it is gone\n")
        assert get(server, "/")[0] == 200
    assert said == []


def test_a_browser_that_goes_away_in_the_middle_of_an_answer_is_not_told_of(
    capfd: pytest.CaptureFixture[str],
) -> None:
    begun, gone = threading.Event(), threading.Event()
    before = threading.enumerate()

    def look() -> object:
        begun.set()
        gone.wait(10)
        return {"much": "x" * 10_000_000}

    said: list[str] = []
    with serving(look, said) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        connection.request("GET", f"/{server.token.value}/snapshot.json")
        assert begun.wait(10)
        connection.close()
        gone.set()
        wait_for_the_answers_to_end(before)
    assert said == []
    assert capfd.readouterr().err == ""


def test_what_is_wrong_in_an_answer_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    before = threading.enumerate()
    with serving(lambda: {1: object()}, said) as server:
        with pytest.raises(http.client.RemoteDisconnected):
            get(server, "/snapshot.json")
        wait_for_the_answers_to_end(before)
    assert len(said) == 1
    assert "TypeError" in said[0]
    assert capfd.readouterr().err == ""


def wait_for_the_answers_to_end(before: list[threading.Thread]) -> None:
    """Threads of answers that are not of other servers, which were there before."""
    end = time.monotonic() + 10
    while any(
        "process_request_thread" in each.name
        for each in threading.enumerate()
        if each not in before
    ):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_nothing_in_the_page_comes_from_elsewhere() -> None:
    content = page()[0].decode().replace("http://www.w3.org/2000/svg", "")
    for word in ("http://", "https://", "@import", "src=", "url("):
        assert word not in content
    assert "{{" not in content


def test_where_the_usual_port_is_taken_another_is_had(server: Server) -> None:
    with listen(lambda: SEEN, None, server.server_port, print) as other:
        assert other.server_port not in {0, server.server_port}
    with pytest.raises(NotPossibleHere) as refused:
        listen(lambda: SEEN, server.server_port, 0, print)
    assert str(server.server_port) in refused.value.message
