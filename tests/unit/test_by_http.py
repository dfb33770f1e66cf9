from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from continuum.testing.openfaas import Behaviour, FakeGateway
from continuum_runtime import by_http
from continuum_runtime import message as layout
from continuum_runtime.by_http import Gateway, Target
from continuum_runtime.endpoint import Book, Config, send_all
from continuum_runtime.open_loop import SampleFile, Schedule

SESSION = 5


def classified(content: bytes) -> tuple[int, bytes]:
    request = layout.unpack_request(content)
    now = time.time_ns()
    found = layout.Answer(1, request.session, request.sequence, now, now, now, text="espresso")
    return 200, layout.pack_answer(found)


def too_late(content: bytes) -> tuple[int, bytes]:
    time.sleep(1.0)
    return classified(content)


def broken(content: bytes) -> tuple[int, bytes]:
    del content
    return 500, b"it broke"


class OneAtATime:
    """Takes 20 ms for each request, one after the other."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, content: bytes) -> tuple[int, bytes]:
        with self.lock:
            time.sleep(0.02)
        return classified(content)


def samples(
    folder: Path,
    gateway: FakeGateway | int,
    *,
    frequency: float = 50.0,
    requests: int = 20,
    timeout: float = 0.4,
) -> list[dict[str, Any]]:
    """What an endpoint notes that calls the function `worker-1`."""
    port = gateway if isinstance(gateway, int) else gateway.port
    photos = folder / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"x" * 50_000)
    config = Config(
        folder=str(folder),
        name="endpoint-1",
        number=1,
        frequency=frequency,
        warmup=0,
        requests=requests,
        seed=1,
        answer_timeout=timeout,
        start_timeout=2.0,
        photos=str(photos),
        broker=None,
        data="",
        threads=1,
    )
    book = Book(SESSION, timeout, SampleFile(folder))
    way = Gateway(
        Target("127.0.0.1", port, "/function/worker-1"),
        answer_timeout=timeout,
        start_timeout=2.0,
        notes=book,
    )
    schedule = Schedule(time.time_ns() + 10**7, frequency, 0, requests, timeout)
    send_all(config, schedule, way, book)
    book.none_waits.wait(max(0.0, (schedule.end_ns - time.time_ns()) / 1e9 + 0.25))
    book.end()
    found = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert sorted(each["sequence"] for each in found) == list(range(requests))
    return found


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with FakeGateway() as made:
        made.deploy("worker-1", "image")
        made.behaviours["image"] = classified
        yield made


def test_answers_complete_samples_over_few_connections(
    tmp_path: Path, gateway: FakeGateway
) -> None:
    found = samples(tmp_path, gateway)
    assert Counter(each["status"] for each in found) == {"ok": 20}
    for each in found:
        assert each["result"] == "espresso"
        assert each["intended_ns"] <= each["sent_ns"] <= each["received_ns"]
        assert each["received_ns"] <= each["started_ns"] <= each["finished_ns"]
        assert each["finished_ns"] <= each["answered_ns"]
        assert each["request_bytes"] == layout.REQUEST_HEADER_BYTES + 50_000
        assert each["answer_bytes"] == layout.ANSWER_HEADER_BYTES + len("espresso")
    assert gateway.connections < 10


@pytest.mark.parametrize(
    ("behaviour", "status", "said"),
    [
        (broken, "error", "HTTP status 500: it broke"),
        (too_late, "timeout", "no answer within 0.4 s"),
    ],
)
def test_a_function_that_fails_is_in_every_sample(
    tmp_path: Path, gateway: FakeGateway, behaviour: Behaviour, status: str, said: str
) -> None:
    gateway.behaviours["image"] = behaviour
    found = samples(tmp_path, gateway)
    assert {(each["status"], each["error"]) for each in found} == {(status, said)}


def test_a_function_that_is_not_there_is_an_error(tmp_path: Path, gateway: FakeGateway) -> None:
    del gateway.functions["worker-1"]
    found = samples(tmp_path, gateway)
    assert {each["error"] for each in found} == {"HTTP status 404: not found"}


def test_scaled_to_zero_in_mid_run_the_next_request_waits_and_is_answered(
    tmp_path: Path, gateway: FakeGateway
) -> None:
    gateway.start_seconds = 0.2
    scale = threading.Timer(0.2, lambda: gateway.functions["worker-1"].scale(0, 0.0))
    scale.start()
    found = samples(tmp_path, gateway, timeout=2.0)
    scale.join()
    assert {each["status"] for each in found} == {"ok"}
    longest = max(each["answered_ns"] - each["sent_ns"] for each in found)
    assert 0.1e9 < longest < 1.5e9


def test_ten_times_the_load_shows_in_the_samples_and_ends_in_time(
    tmp_path: Path, gateway: FakeGateway
) -> None:
    gateway.behaviours["image"] = OneAtATime()
    begun = time.monotonic()
    found = samples(tmp_path, gateway, frequency=500.0, requests=500)
    assert time.monotonic() - begun < 500 * 0.02
    statuses = Counter(each["status"] for each in found)
    assert 0 < statuses["ok"] < 100
    assert statuses["timeout"] > 200
    assert statuses["ok"] + statuses["timeout"] + statuses["error"] + statuses["lost"] == 500


def test_with_all_connections_in_use_no_request_is_sent_when_its_time_is_up(
    tmp_path: Path, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_http, "CONNECTION_LIMIT", 2)
    gateway.behaviours["image"] = too_late
    found = samples(tmp_path, gateway, requests=30)
    refused = [each for each in found if each["status"] == "error"]
    why = "its time was up before a connection was free"
    assert {each["error"] for each in refused} <= {f"could not be sent: {why}"}
    assert all(each["sent_ns"] is None for each in refused)
    sent = [each for each in found if each not in refused]
    assert {each["status"] for each in sent} == {"timeout"}
    assert all(each["sent_ns"] < each["intended_ns"] + 400_000_000 for each in sent)


def test_the_time_of_a_request_is_up_when_it_began_late(
    tmp_path: Path, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is due 0.3 s before it is handed over has but 0.1 of its 0.4 s left."""
    told: list[tuple[str, int]] = []
    book = Book(SESSION, 0.4, SampleFile(tmp_path))
    monkeypatch.setattr(book, "failed", lambda *each: told.append((each[1], time.time_ns())))
    gateway.behaviours["image"] = too_late
    way = Gateway(
        Target("127.0.0.1", gateway.port, "/function/worker-1"),
        answer_timeout=0.4,
        start_timeout=2.0,
        notes=book,
    )
    due_ns = time.time_ns() - 300_000_000
    way._exchange(layout.pack_request(layout.Request(1, SESSION, 0, b"x", due_ns)))
    ((status, at_ns),) = told
    assert status == "timeout"
    assert at_ns >= due_ns + 400_000_000
    refused: list[str] = []
    monkeypatch.setattr(book, "refused", lambda *each: refused.append(each[1]))
    way._exchange(layout.pack_request(layout.Request(1, SESSION, 1, b"x", due_ns)))
    assert refused == ["its time was up before a connection was free"]


def test_more_waiting_requests_than_there_is_room_for_are_refused_at_once(
    tmp_path: Path, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_http, "CONNECTION_LIMIT", 1)
    monkeypatch.setattr(by_http, "WAITING_LIMIT", 2)
    gateway.behaviours["image"] = too_late
    found = samples(tmp_path, gateway)
    assert "could not be sent" in {each.get("error") for each in found}


def test_a_connection_that_is_lost_costs_its_own_request_only(
    tmp_path: Path, gateway: FakeGateway
) -> None:
    lost = iter([1])

    def at_times(content: bytes) -> tuple[int, bytes]:
        if layout.unpack_request(content).sequence == 5 and next(lost, None):
            raise ConnectionAbortedError
        return classified(content)

    gateway.behaviours["image"] = at_times
    found = samples(tmp_path, gateway)
    assert {each["sequence"] for each in found if each["status"] == "lost"} == {5}
    assert Counter(each["status"] for each in found) == {"ok": 19, "lost": 1}


def test_a_connection_that_was_closed_while_idle_is_not_used_again(
    gateway: FakeGateway,
) -> None:
    way = Gateway(
        Target("127.0.0.1", gateway.port, "/"),
        answer_timeout=1,
        start_timeout=1,
        notes=Book(SESSION, 1.0, SampleFile.__new__(SampleFile)),
    )
    ours, theirs = socket.socketpair()
    theirs.close()
    way._idle[-1].close()
    way._idle[-1].sock = ours
    connection = way._connected(1.0)
    assert connection.sock is not ours
    connection.close()


def test_a_gateway_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(TimeoutError, match="no answer from the gateway"):
            samples(tmp_path, taken.getsockname()[1])
