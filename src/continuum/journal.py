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
            StepFailed: another process holds the lock; the message names it. Or it held it until
                now, and has removed the deployment.
        """
        descriptor = self._open_lock()
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                gone = not self._is_lock(descriptor)
            except BlockingIOError as error:
                holder = os.read(descriptor, 32).decode() or "unknown"
                raise self._refusal(f"is being changed by process {holder}") from error
            if gone:
                raise self._refusal("has just been removed by another process")
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            folders.give_to_caller(self._lock_path)
            yield
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        folders.make_folder(self._lock_path.parent, folders.PRIVATE_FOLDER)
        return os.open(self._lock_path, os.O_RDWR | os.O_CREAT, folders.PRIVATE_FILE)

    def _is_lock(self, descriptor: int) -> bool:
        """Whether the open file is still the folder's; `down` removes it while it holds it."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._lock_path.stat())
        except FileNotFoundError:
            return False

    def _refusal(self, why: str) -> StepFailed:
        return StepFailed(
            f'deployment "{self.path.parent.name}" {why}',
            where=str(self._lock_path),
            hint="wait until it is done, or stop it, then try again",
        )

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
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (b"\n" if cut else b"") + line.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folders.give_to_caller(self.path)

    def entries(self) -> list[Entry]:
        """All whole lines, oldest first."""
        try:
            text = self.path.read_text(errors="replace")
        except FileNotFoundError:
            return []
        found = []
        for line in text.splitlines():
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
        try:
            self.append(phase, name, "started", fingerprint)
            with events.step(phase, name, waits_for) as step:
                yield step
        except BaseException:
            self.append(phase, name, "failed", fingerprint)
            raise
        self.append(phase, name, "finished", fingerprint)
