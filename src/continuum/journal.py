"""The journal of a deployment: what was begun and what was finished, one JSON object a line.

Append-only. A line that was cut by a crash is passed over when it is read. The journal says what
to look for; whether a thing still exists is asked of the thing itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from continuum import folders
from continuum.errors import StepFailed

if TYPE_CHECKING:
    from pathlib import Path

    from continuum.events import Events, Step


@dataclass(frozen=True)
class Entry:
    """One line. `state` is `started`, `finished` or `failed`; `at` is Unix time in seconds."""

    at: float
    phase: str
    step: str
    state: str
    fingerprint: str
    process: int


class Journal:
    """The journal in a deployment's folder. Hold the lock while anything is changed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.jsonl"
        self._lock_path = folder / "lock"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from changing this deployment.

        Raises:
            StepFailed: another process holds the lock; the message names it.
        """
        folders.make_folder(self._lock_path.parent, folders.PRIVATE_FOLDER)
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, folders.PRIVATE_FILE)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(descriptor, 32).decode() or "unknown"
                raise StepFailed(
                    f'deployment "{self.path.parent.name}" is being changed by process {holder}',
                    where=str(self._lock_path),
                    hint="wait until it is done, or stop it, then try again",
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            folders.give_to_caller(self._lock_path)
            yield
        finally:
            os.close(descriptor)

    def append(self, phase: str, step: str, state: str, fingerprint: str = "") -> None:
        """Write one line, on disk when this returns."""
        line = json.dumps(
            {
                "at": round(time.time(), 3),
                "phase": phase,
                "step": step,
                "state": state,
                "fingerprint": fingerprint,
                "process": os.getpid(),
            }
        )
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folders.give_to_caller(self.path)

    def entries(self) -> list[Entry]:
        """All whole lines, oldest first."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_text(errors="replace").splitlines():
            try:
                fields: dict[str, Any] = json.loads(line)
                found.append(Entry(**fields))
            except (ValueError, TypeError):
                continue
        return found

    def finished(self, phase: str, step: str) -> str | None:
        """Fingerprint of the step's last finish, None when it is not finished."""
        for entry in reversed(self.entries()):
            if (entry.phase, entry.step) == (phase, step):
                return entry.fingerprint if entry.state == "finished" else None
        return None

    @contextmanager
    def step(
        self, events: Events, phase: str, name: str, *, waits_for: str = "", fingerprint: str = ""
    ) -> Iterator[Step]:
        """A step, told to the listeners and written down before and after."""
        self.append(phase, name, "started", fingerprint)
        try:
            with events.step(phase, name, waits_for) as step:
                yield step
        except BaseException:
            self.append(phase, name, "failed", fingerprint)
            raise
        self.append(phase, name, "finished", fingerprint)
