"""Several photos at a time, with something that only waits in place of each model."""

from __future__ import annotations

import queue
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

import continuum_runtime
from continuum_runtime import message as layout
from continuum_runtime.classifier import CannotClassify
from continuum_runtime.pool import Job, Pool
from waiting import within

if TYPE_CHECKING:
    from continuum_runtime.classifier import Classifier

SOURCES = str(Path(continuum_runtime.__file__).parents[1])


class Waits:
    """Takes as many seconds as the photo says, and names itself."""

    def __init__(self, number: int) -> None:
        self.labels = (str(number),)

    def classify(self, photo: bytes | memoryview) -> tuple[int, float]:
        try:
            time.sleep(float(bytes(photo)))
        except ValueError as error:
            raise CannotClassify("not a photo") from error
        return 0, 0.5


@contextmanager
def pool(models: int) -> Iterator[Pool]:
    made = Pool([cast("Classifier", Waits(number)) for number in range(models)])
    yield made
    made.close()


def answers(made: Pool, seconds: Sequence[float | str]) -> list[layout.Answer]:
    """Answers to requests that all come at once, in the order of the requests."""
    found: queue.SimpleQueue[layout.Answer] = queue.SimpleQueue()
    for sequence, each in enumerate(seconds):
        request = layout.Request(3, 77, sequence, str(each).encode())
        made.put(Job(request, time.time_ns(), found.put))
    return sorted((found.get(timeout=10) for _ in seconds), key=lambda each: each.sequence)


def most_at_once(found: list[layout.Answer]) -> int:
    """How many were worked on at the same time, at most."""
    events = [(each.started_ns, 1) for each in found] + [(each.finished_ns, -1) for each in found]
    running = [0]
    for _, change in sorted(events):
        running.append(running[-1] + change)
    return max(running)


@pytest.mark.parametrize("models", [1, 2, 5])
def test_as_many_are_worked_on_at_a_time_as_there_are_models(models: int) -> None:
    with pool(models) as made:
        found = answers(made, [0.03] * 4 * models)
    assert most_at_once(found) == models
    assert len({each.text for each in found}) == models
    assert [each.status for each in found] == [layout.OK] * 4 * models


def test_requests_are_begun_in_the_order_in_which_they_came() -> None:
    with pool(2) as made:
        found = answers(made, [0.05, 0.0, 0.02, 0.0, 0.03, 0.0, 0.01, 0.0] * 3)
    started = [each.started_ns for each in found]
    # Two begin at the same time: each notes its own beginning.
    assert all(later > earlier for earlier, later in zip(started, started[2:], strict=False))
    assert found[1].finished_ns < found[0].finished_ns  # Whoever is free takes the next.
    assert found[2].text == found[1].text


def test_answers_carry_their_requests_and_their_times() -> None:
    before = time.time_ns()
    with pool(2) as made:
        found = answers(made, [0.01, "no number", 0.01])
    assert [(each.endpoint, each.session, each.sequence) for each in found] == [
        (3, 77, number) for number in range(3)
    ]
    for each in found:
        assert before <= each.received_ns <= each.started_ns <= each.finished_ns
    assert [each.status for each in found] == [layout.OK, layout.ERROR, layout.OK]
    assert found[1].text == "not a photo"


def test_what_waits_is_counted() -> None:
    with pool(1) as made:
        assert made.waiting == 0
        request = layout.Request(1, 1, 0, b"0.2")
        for _ in range(4):
            made.put(Job(request, 0, lambda _: None))
        assert within(5, lambda: made.waiting == 3)


def test_one_and_a_half_times_what_one_model_can_do_leaves_no_queue_behind_with_two() -> None:
    """40 ms each, one every 26.7 ms, beside what one model would have made of the same load."""
    found: queue.SimpleQueue[layout.Answer] = queue.SimpleQueue()
    with pool(2) as made:
        began = time.time_ns()
        for sequence in range(75):
            due_ns = began + sequence * 80_000_000 // 3
            time.sleep(max(0.0, (due_ns - time.time_ns()) / 1e9))
            made.put(Job(layout.Request(1, 1, sequence, b"0.04"), due_ns, found.put))
        done = sorted((found.get(timeout=10) for _ in range(75)), key=lambda each: each.sequence)
    free_ns, alone = 0, []
    for each in done:
        alone.append(max(0, free_ns - each.received_ns))
        free_ns = max(free_ns, each.received_ns) + each.finished_ns - each.started_ns
    waited = [each.started_ns - each.received_ns for each in done]
    # One model is further behind with each request; by two, the last third waits hardly at all.
    assert alone[25] < alone[50] < alone[74]
    assert sum(waited[50:]) < sum(alone[50:]) / 5


PROGRAM = """
import time
from continuum_runtime import message as layout
from continuum_runtime.pool import Job, Pool

class Breaks:
    labels = ("a",)
    def classify(self, photo):
        raise MemoryError("no room")

pool = Pool([Breaks(), Breaks()], lambda: print("failed", flush=True))
pool.put(Job(layout.Request(1, 1, 5, b""), 0, print))
time.sleep(60)
"""


def test_one_that_fails_ends_its_worker_and_says_why() -> None:
    done = subprocess.run(
        (sys.executable, "-c", PROGRAM),
        env={"PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "failed\n")
    assert "MemoryError: no room" in done.stderr
