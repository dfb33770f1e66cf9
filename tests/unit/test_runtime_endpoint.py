from __future__ import annotations

import json
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from continuum_runtime import message as layout
from continuum_runtime.endpoint import Book, Config, photo_order, send_all
from continuum_runtime.open_loop import SampleFile, Schedule

SESSION = 77


def sample(sequence: int, sent_ns: int = 10**9) -> dict[str, Any]:
    return {"sequence": sequence, "warmup": False, "intended_ns": 10**9, "sent_ns": sent_ns}


def answer(sequence: int, session: int = SESSION, status: int = layout.OK) -> layout.Answer:
    return layout.Answer(1, session, sequence, 1, 2, 3, status, 4, 0.5, "espresso")


def book(folder: Path) -> Book:
    return Book(SESSION, timeout=2.0, file=SampleFile(folder))


def written(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "samples.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_every_photo_comes_once_before_one_comes_again() -> None:
    names = [f"{number}.jpg" for number in range(7)]
    order = list(islice(photo_order(names, seed=5), 21))
    assert set(Counter(order).values()) == {3}
    for first in (0, 7, 14):
        assert set(order[first : first + 7]) == set(names)
    assert order[:7] != order[7:14]


def test_the_seed_decides_the_order() -> None:
    names = [f"{number}.jpg" for number in range(20)]
    first, again, other = (list(islice(photo_order(names, seed), 40)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_an_answer_completes_its_sample(tmp_path: Path) -> None:
    notes = book(tmp_path)
    notes.open(sample(0))
    assert not notes.none_waits.is_set()
    notes.answered(answer(0), 2 * 10**9, 90)
    assert notes.none_waits.is_set()
    (found,) = written(tmp_path)
    assert found["status"] == "ok"
    assert found["result"] == "espresso"
    assert (found["received_ns"], found["started_ns"], found["finished_ns"]) == (1, 2, 3)
    assert (found["answered_ns"], found["answer_bytes"]) == (2 * 10**9, 90)


def test_an_answer_after_its_time_is_late(tmp_path: Path) -> None:
    notes = book(tmp_path)
    notes.open(sample(0))
    notes.answered(answer(0), 3 * 10**9 + 1, 90)
    assert written(tmp_path)[0]["status"] == "timeout"
    assert written(tmp_path)[0]["answered_ns"] == 3 * 10**9 + 1


def test_the_time_for_an_answer_counts_from_when_its_request_was_due(tmp_path: Path) -> None:
    notes = book(tmp_path)
    # Sent 8 s late and answered 1 s after that: its 2 s were over long before.
    notes.open(sample(0, sent_ns=9 * 10**9))
    notes.answered(answer(0), 10 * 10**9, 90)
    assert written(tmp_path)[0]["status"] == "timeout"


def test_an_error_of_the_worker_is_kept(tmp_path: Path) -> None:
    notes = book(tmp_path)
    notes.open(sample(0))
    notes.answered(answer(0, status=layout.ERROR), 2 * 10**9, 90)
    (found,) = written(tmp_path)
    assert (found["status"], found["error"]) == ("error", "espresso")
    assert "result" not in found


def test_answers_of_others_and_second_answers_are_dropped(tmp_path: Path) -> None:
    notes = book(tmp_path)
    notes.open(sample(0))
    notes.answered(answer(0, session=SESSION + 1), 2 * 10**9, 90)
    notes.answered(answer(1), 2 * 10**9, 90)
    assert not written(tmp_path)
    notes.answered(answer(0), 2 * 10**9, 90)
    notes.answered(answer(0), 2 * 10**9, 90)
    assert len(written(tmp_path)) == 1


def test_what_still_waits_at_the_end_is_lost(tmp_path: Path) -> None:
    notes = book(tmp_path)
    for sequence in range(3):
        notes.open(sample(sequence))
    notes.answered(answer(1), 2 * 10**9, 90)
    notes.end()
    assert [(each["sequence"], each["status"]) for each in written(tmp_path)] == [
        (1, "ok"),
        (0, "lost"),
        (2, "lost"),
    ]


class Wire:
    """Takes every message but those with a sequence in `refused`."""

    def __init__(self, refused: set[int]) -> None:
        self.refused = refused
        self.sent: list[layout.Request] = []

    def send(self, message: bytearray) -> bool:
        request = layout.unpack_request(message)
        if request.sequence in self.refused:
            return False
        self.sent.append(request)
        return True


def config(folder: Path) -> Config:
    photos = folder / "photos"
    photos.mkdir()
    for number in range(3):
        (photos / f"{number}.jpg").write_bytes(bytes([number]) * (number + 1))
    return Config(
        folder=str(folder),
        name="endpoint-1",
        number=3,
        frequency=1000,
        warmup=2,
        requests=4,
        seed=1,
        answer_timeout=2,
        start_timeout=1,
        photos=str(photos),
        broker=None,
        data="",
        threads=1,
    )


def test_requests_carry_photos_and_what_is_known_of_them(tmp_path: Path) -> None:
    notes, wire = book(tmp_path), Wire({3})
    schedule = Schedule(time.time_ns(), 1000, 2, 4, 2)
    send_all(config(tmp_path), schedule, wire, notes)
    assert [request.sequence for request in wire.sent] == [0, 1, 2, 4, 5]
    for request in wire.sent:
        waiting = notes.waiting[request.sequence]
        number = int(waiting["input"].removesuffix(".jpg"))
        assert bytes(request.content) == bytes([number]) * (number + 1)
        assert waiting["request_bytes"] == 60 + number + 1
        assert (request.endpoint, request.session) == (3, SESSION)
        assert request.intended_ns == waiting["intended_ns"] == schedule.due_ns(request.sequence)
        assert request.prepare_started_ns == waiting["prepare_started_ns"]
        assert request.prepare_finished_ns == waiting["prepare_finished_ns"]
        assert request.sent_ns == waiting["sent_ns"]
        assert waiting["warmup"] == (request.sequence < 2)
    (refused,) = written(tmp_path)
    assert (refused["sequence"], refused["status"], refused["sent_ns"]) == (3, "error", None)


def test_what_comes_too_late_to_be_sent_is_an_error(tmp_path: Path) -> None:
    notes, wire = book(tmp_path), Wire(set())
    long_ago = time.time_ns() - 10**12
    send_all(config(tmp_path), Schedule(long_ago, 1000, 2, 4, 2), wire, notes)
    assert not wire.sent
    found = written(tmp_path)
    assert [each["sequence"] for each in found] == list(range(6))
    assert {each["status"] for each in found} == {"error"}
    assert [each["warmup"] for each in found] == [True] * 2 + [False] * 4
    assert found[5]["intended_ns"] == long_ago + 5_000_000
