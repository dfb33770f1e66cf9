"""The lock on a deployment's folder."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from continuum import lock
from continuum.errors import StepFailed
from continuum.events import Events
from continuum.journal import Journal


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "sample")
    with (
        journal.locked(),
        pytest.raises(StepFailed, match='"sample" is being changed by process'),
        Journal(tmp_path / "sample").locked(),
    ):
        pass
    with journal.locked():
        journal.append("phase", "step", "started")
    assert [entry.step for entry in journal.entries()] == ["step"]


def test_a_lock_that_was_removed_while_it_was_opened_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sample"
    flock = fcntl.flock

    def removed_meanwhile(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        lock.path(folder).unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with Journal(folder).locked():
        assert lock.path(folder).read_text() == str(os.getpid())
        with pytest.raises(StepFailed, match="is being changed by process"), lock.held(folder):
            pass


def test_the_lock_lies_outside_of_what_is_removed_and_goes_last(tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    with lock.held(folder):
        (folder / "logs").mkdir(parents=True)
        lock.remove(folder)
        assert [each.name for each in tmp_path.iterdir()] == [".sample.lock"]
        with pytest.raises(StepFailed, match="is being changed by process"), lock.held(folder):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_removal_that_was_killed_is_finished_by_the_next_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sample"

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    (folder / "machines").mkdir(parents=True)
    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt), lock.held(folder):
        lock.remove(folder)
    monkeypatch.undo()
    assert not folder.exists()
    assert lock.traces(tmp_path) == ["sample"]
    with lock.held(folder):
        assert [each.name for each in tmp_path.iterdir()] == [".sample.lock"]
    assert lock.traces(tmp_path) == []


def test_a_line_that_a_crash_cut_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "sample")
    with journal.locked():
        journal.append("phase", "step", "finished", "abc")
    with journal.path.open("a") as file:
        file.write('{"at": 1.0, "pha')
    assert journal.finished("phase", "step") == "abc"
    journal.append("phase", "step", "failed", "def")
    assert [entry.state for entry in journal.entries()] == ["finished", "failed"]


def test_an_interruption_while_the_beginning_is_written_is_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "sample")
    synced = os.fsync

    def interrupted(_: int) -> None:
        monkeypatch.setattr(os, "fsync", synced)
        raise KeyboardInterrupt

    with journal.locked():
        monkeypatch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt), journal.step(Events(), "phase", "step"):
            pass
    assert [entry.state for entry in journal.entries()] == ["started", "failed"]
