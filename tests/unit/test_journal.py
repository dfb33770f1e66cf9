"""The lock on a deployment's folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from continuum import folders
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


def test_a_lock_that_went_away_with_its_folder_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "sample")
    opened = Journal._open_lock

    def removed_meanwhile(self: Journal) -> int:
        descriptor = opened(self)
        folders.remove_tree(tmp_path / "sample")
        return descriptor

    monkeypatch.setattr(Journal, "_open_lock", removed_meanwhile)
    with pytest.raises(StepFailed, match="has just been removed"), journal.locked():
        pass
    monkeypatch.undo()
    with journal.locked():
        journal.append("phase", "step", "started")


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
