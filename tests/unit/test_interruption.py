"""Signals: a flag, raised where the process waits or at the next step."""

from __future__ import annotations

import gc
import importlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from continuum import interruption
from continuum.errors import StepFailed
from continuum.events import Events
from continuum.infrastructure.providers.fake_machine import FakeSettings, operate
from continuum.machine import Command, run_on_host
from continuum.parallel import for_each


@pytest.fixture(autouse=True)
def _handled() -> Iterator[None]:
    with interruption.handled():
        yield


def _later(number: signal.Signals, seconds: float = 0.2) -> None:
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(seconds, signal.pthread_kill, (main, number))
    timer.daemon = True
    timer.start()


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_a_signal_between_two_steps_is_raised_by_the_next_one(number: signal.Signals) -> None:
    events = Events()
    with events.step("phase", "first") as step:
        signal.raise_signal(number)
        assert interruption.came()
    with pytest.raises(KeyboardInterrupt):
        step.progress("more")
    with events.step("phase", "its end in order"):
        pass


def test_a_place_that_waits_is_left_at_once() -> None:
    for wait in (
        lambda: interruption.pause(60),
        lambda: run_on_host(Command(("sleep", "60"))),
        lambda: for_each(lambda _: run_on_host(Command(("sleep", "60"))), range(2)),
        # Not marked as one that waits.
        lambda: threading.Event().wait(60),
    ):
        with interruption.handled():
            _later(signal.SIGTERM)
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                wait()
            assert time.monotonic() - began < 30
        interruption._state = interruption._State()


def test_while_it_is_held_only_a_second_signal_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    with interruption.held():
        signal.raise_signal(signal.SIGINT)
        interruption.check()
        interruption.pause(0.01)
    with pytest.raises(KeyboardInterrupt):
        interruption.check()
    monkeypatch.setattr(interruption, "_SAME", 0.0)
    with interruption.held(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert interruption.insisted()


def test_what_is_held_and_hangs_is_left_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "HOLD_LIMIT", 0.3)
    with interruption.held():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(60)


def test_the_same_signal_to_the_process_and_its_group_is_one() -> None:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert not interruption.insisted()


def test_an_import_is_not_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_module.py").write_text(
        "import signal, threading\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "threading.Event().wait(0.8)\n"
        "whole = True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def load() -> None:
        importlib.import_module("slow_module")
        interruption.check()

    with pytest.raises(KeyboardInterrupt):
        load()
    assert sys.modules.pop("slow_module").whole


def test_a_signal_where_nothing_can_be_raised_is_not_lost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Waits:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)
            with interruption.waiting():
                pass

    Waits()
    gc.collect()
    with pytest.raises(KeyboardInterrupt):
        interruption.check()
    assert "Exception ignored" not in capsys.readouterr().err


def test_after_a_signal_all_commands_share_what_time_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert interruption.allowance(60) == 60
    monkeypatch.setattr(interruption, "END_LIMIT", 0.5)
    signal.raise_signal(signal.SIGINT)
    assert interruption.take()
    assert interruption.allowance(60) <= 0.5
    time.sleep(0.5)
    assert interruption.allowance(60) == interruption.LEAST_LIMIT
    assert interruption.allowance(0.1) == 0.1
    with pytest.raises(StepFailed, match="did not end within"):
        run_on_host(Command(("sleep", "60")))


def test_other_threads_are_not_the_ones_that_are_told() -> None:
    ended = []

    def wait() -> None:
        interruption.pause(0.01)
        ended.append(True)

    signal.raise_signal(signal.SIGINT)
    thread = threading.Thread(target=wait)
    with interruption.held():
        thread.start()
        thread.join()
    assert ended


def test_machines_on_paper_that_hang_are_given_up() -> None:
    settings = FakeSettings(hang_at=("get",))
    _later(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        for_each(lambda name: operate(settings, "get", name), ("one", "two"))
