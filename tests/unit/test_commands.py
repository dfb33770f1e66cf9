"""Commands on this host: how they end, and that an interruption ends those of all threads."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from continuum import machine
from continuum.errors import CommandFailed, Interrupted, NotFound, StepFailed, TimedOut
from continuum.machine import Command, Result, commands_stopped, run_on_host, stream_on_host
from continuum.parallel import for_each

LONG = Command(("sleep", "120"), timeout=120)


def _await(condition: threading.Event) -> None:
    assert condition.wait(30)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_result_holds_what_was_said() -> None:
    command = Command(("sh", "-c", "cat; echo no >&2; exit 3"), input=b"bytes \xff")
    result = run_on_host(command)
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"bytes \xff", b"no\n")
    with pytest.raises(CommandFailed) as raised:
        result.check()
    assert "no" in raised.value.output


def test_secrets_are_masked_wherever_a_command_is_shown() -> None:
    command = Command(("sh", "-c", "echo hunter2; exit 1"), secrets=frozenset({"hunter2"}))
    with pytest.raises(CommandFailed) as raised:
        run_on_host(command).check()
    shown = f"{raised.value.message} {raised.value.where} {raised.value.output}"
    assert "hunter2" not in shown
    assert "***" in raised.value.output


def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(CommandFailed, match="no-such-program"):
        run_on_host(Command(("no-such-program",)))
    with pytest.raises(CommandFailed, match="no-such-program"):
        list(stream_on_host(Command(("no-such-program",))))


def test_a_grandchild_that_escapes_does_not_hold_the_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "_LEFT_LIMIT", 0.2)
    program = "echo $$; setsid sleep 120 & echo $!; wait"
    with pytest.raises(TimedOut) as raised:
        run_on_host(Command(("sh", "-c", program), timeout=0.5))
    escaped = int(raised.value.output.splitlines()[-1])
    assert _runs(escaped)
    os.kill(escaped, signal.SIGKILL)


def test_a_command_that_takes_too_long_is_killed_with_its_children() -> None:
    with pytest.raises(TimedOut) as raised:
        run_on_host(Command(("sh", "-c", "echo $$; sleep 120 & wait"), timeout=0.3))
    assert not _runs(int(raised.value.output))


def test_lines_come_as_they_are_said_and_a_limit_ends_them() -> None:
    lines = stream_on_host(Command(("sh", "-c", "echo one; sleep 120"), timeout=0.5))
    assert next(lines) == "one"
    with pytest.raises(TimedOut):
        next(lines)


def test_who_stops_listening_stops_the_command() -> None:
    lines = stream_on_host(Command(("sh", "-c", "echo $$; sleep 120"), timeout=120))
    process = int(next(lines))
    assert _runs(process)
    assert isinstance(lines, Generator)
    lines.close()
    assert not _runs(process)


def test_stopping_ends_what_runs_and_lets_nothing_begin() -> None:
    ended: list[BaseException] = []
    started = threading.Event()

    def work() -> None:
        started.set()
        try:
            run_on_host(LONG)
        except Interrupted as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    _await(started)
    with commands_stopped():
        thread.join(30)
        assert len(ended) == 1
        with pytest.raises(Interrupted):
            run_on_host(Command(("true",)))
    assert run_on_host(Command(("true",))).exit_code == 0


def test_an_interruption_ends_the_work_of_all_threads() -> None:
    began = time.monotonic()
    under_way = threading.Barrier(3)

    def work(_: int) -> Result:
        under_way.wait(30)
        return run_on_host(LONG)

    def interrupt() -> None:
        under_way.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        for_each(work, range(2))
    thread.join()
    assert time.monotonic() - began < LONG.timeout / 2
    assert run_on_host(Command(("true",))).exit_code == 0


def test_all_items_are_tried_and_all_failures_are_told() -> None:
    tried: list[int] = []

    def work(number: int) -> int:
        tried.append(number)
        if number % 2:
            raise NotFound(f"no {number}")
        return number

    with pytest.raises(NotFound, match="no 1\nno 3"):
        for_each(work, range(5))
    assert sorted(tried) == list(range(5))
    assert for_each(work, [4, 2, 0]) == [4, 2, 0]


def test_a_defect_counts_before_expected_failures() -> None:
    def work(number: int) -> None:
        if number:
            raise StepFailed("expected")
        raise KeyError(number)

    with pytest.raises(KeyError):
        for_each(work, range(3))
