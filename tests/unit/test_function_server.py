"""The worker of `image_classification` as an HTTP function, without its network."""

from __future__ import annotations

import http.client
import io
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any, cast

import pytest

from continuum_runtime import function
from continuum_runtime import message as layout
from continuum_runtime.classifier import CannotClassify, Classifier
from continuum_runtime.function import BadBody, Server, read_body
from continuum_runtime.pool import Pool


class Names:
    """In place of the network: takes 10 ms, and knows one photo."""

    labels = ("espresso",)

    def classify(self, photo: bytes | memoryview) -> tuple[int, float]:
        time.sleep(0.01)
        if bytes(photo) != b"photo":
            raise CannotClassify("not a photo")
        return 0, 0.5


@pytest.fixture
def server() -> Iterator[Server]:
    pool = Pool([cast("Classifier", Names())])
    made = Server(("127.0.0.1", 0), pool)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()
    pool.close()


@pytest.fixture
def connection(server: Server) -> Iterator[http.client.HTTPConnection]:
    made = http.client.HTTPConnection("127.0.0.1", int(server.server_address[1]), timeout=5)
    yield made
    made.close()


def ask(
    connection: http.client.HTTPConnection, body: Any, method: str = "POST", path: str = "/"
) -> tuple[int, bytes]:
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.read()


def request(content: bytes) -> bytes:
    return bytes(layout.pack_request(layout.Request(3, 77, 9, content)))


def test_it_lives(connection: http.client.HTTPConnection) -> None:
    assert ask(connection, None, "GET", "/_/health") == (200, b"OK")
    assert ask(connection, None, "GET", "/else")[0] == 404


def test_a_request_gets_an_answer_with_the_workers_times(
    connection: http.client.HTTPConnection,
) -> None:
    before = time.time_ns()
    status, body = ask(connection, request(b"photo"))
    found = layout.unpack_answer(body)
    assert status == 200
    assert (found.endpoint, found.session, found.sequence) == (3, 77, 9)
    assert (found.status, found.text) == (layout.OK, "espresso")
    assert before <= found.received_ns <= found.started_ns
    assert found.finished_ns - found.started_ns >= 10_000_000


def test_what_is_no_photo_is_an_error_over_the_same_connection(
    connection: http.client.HTTPConnection,
) -> None:
    status, body = ask(connection, request(b"else"))
    assert (status, layout.unpack_answer(body).text) == (422, "not a photo")
    assert ask(connection, request(b"photo"))[0] == 200


def test_a_photo_alone_is_answered_in_text(connection: http.client.HTTPConnection) -> None:
    status, body = ask(connection, b"photo")
    assert (status, json.loads(body)) == (200, {"label": "espresso", "probability": 0.5})
    status, body = ask(connection, b"else")
    assert (status, json.loads(body)) == (422, {"error": "not a photo"})


def test_a_body_in_chunks_is_read_whole(connection: http.client.HTTPConnection) -> None:
    whole = request(b"photo")
    for _ in range(2):
        status, body = ask(connection, iter([whole[:7], whole[7:30], whole[30:]]))
        assert (status, layout.unpack_answer(body).text) == (200, "espresso")


def test_by_one_model_photos_are_classified_one_after_the_other(server: Server) -> None:
    found: list[layout.Answer] = []

    def one() -> None:
        connection = http.client.HTTPConnection(
            "127.0.0.1", int(server.server_address[1]), timeout=5
        )
        found.append(layout.unpack_answer(ask(connection, request(b"photo"))[1]))
        connection.close()

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.sort(key=lambda each: each.started_ns)
    for earlier, later in itertools.pairwise(found):
        assert earlier.finished_ns <= later.started_ns


def test_more_than_may_wait_is_refused(
    connection: http.client.HTTPConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(function, "QUEUE_LIMIT", 0)
    status, body = ask(connection, request(b"photo"))
    assert status == 503
    assert layout.unpack_answer(body).text == "0 requests wait already"


@pytest.mark.parametrize(
    ("headers", "content", "said"),
    [
        ({"Content-Length": "9"}, b"short", "ends after 5 of 9"),
        ({"Content-Length": "x"}, b"", "no number"),
        ({"Content-Length": str(2**40)}, b"", "are the most"),
        ({"Content-Length": "-1"}, b"", "are the most"),
        ({"Transfer-Encoding": "chunked"}, b"zz\r\n", "no number"),
        ({"Transfer-Encoding": "chunked"}, b"5\r\nab", "ends after 2 of 5"),
        ({"Transfer-Encoding": "chunked"}, b"ffffffffff\r\n", "more than"),
    ],
)
def test_a_body_that_cannot_be_read_is_told(
    headers: dict[str, str], content: bytes, said: str
) -> None:
    known = Message()
    for name, value in headers.items():
        known[name] = value
    with pytest.raises(BadBody, match=said):
        read_body(known, io.BytesIO(content))


def test_who_is_told_to_end_while_it_is_imported_ends_at_once(tmp_path: Path) -> None:
    """Its imports are held up by a module of that name, which comes before the real one."""
    (tmp_path / "onnxruntime.py").write_text(
        "import sys, time\nprint('held', flush=True)\ntime.sleep(60)\n"
    )
    source = str(Path(function.__file__).parents[1])
    with subprocess.Popen(
        (sys.executable, "-m", "continuum_runtime.serve_function"),
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": f"{tmp_path}:{source}", "CONTINUUM_DATA": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.terminate()
        assert process.wait(5) == 0
