"""The journal of a deployment: what was begun and what was finished, one JSON object a line.

Append-only. A line that was cut by a crash is passed over when it is read. The journal says what
to look for; whether a thing still exists is asked of the thing itself.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from continuum import folders, lock, state_file
from continuum.errors import StepFailed
from continuum.state_file import Damaged

if TYPE_CHECKING:
    from pathlib import Path

    from continuum.events import Events, Step


_END_OF_TIME = 1e11
"""Unix time of no clock; also what is no number is not less."""

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Entry:
    """One line. `state` is `started`, `finished` or `failed`; `at` is Unix time in seconds."""

    at: float
    phase: str
    step: str
    state: str
    fingerprint: str
    process: int


def _entry(line: str) -> Entry | None:
    """The entry of a line; None when it is not whole."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    words = [fields.get(name) for name in ("phase", "step", "state", "fingerprint")]
    at, process = fields.get("at"), fields.get("process")
    if not all(isinstance(word, str) for word in words) or type(process) is not int:
        return None
    if not isinstance(at, int | float) or not abs(at) < _END_OF_TIME:
        return None
    phase, step, state, fingerprint = words
    return Entry(float(at), phase, step, state, fingerprint, process)  # type: ignore[arg-type]


def _entries(content: bytes) -> list[Entry]:
    """The entries of all whole lines, oldest first."""
    lines = content.decode(errors="replace").splitlines()
    return [entry for line in lines if (entry := _entry(line)) is not None]


class Journal:
    """The journal in a deployment's folder. Hold the lock while anything is changed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from changing this deployment.

        Raises:
            StepFailed: another process holds the lock; the message names it.
        """
        with lock.held(self.path.parent):
            yield

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
        folders.make_folder(self.path.parent, folders.PRIVATE_FOLDER)
        content = line.encode() + b"\n"
        with folders.telling_no_room(self.path, len(content)):
            descriptor = os.open(self.path, _APPEND, 0o600)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    raise self._unusable(f"it is {state_file.kind(found.st_mode)}, not a file")
                size = found.st_size
                cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                whole = (b"\n" if cut else b"") + content
                if os.write(descriptor, whole) < len(whole):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        folders.give_to_caller(self.path)

    def _unusable(self, reason: str) -> StepFailed:
        return StepFailed(
            str(Damaged(self.path, reason)), hint=f"continuum down {self.path.parent.name}"
        )

    def entries(self) -> list[Entry]:
        """All whole lines, oldest first."""
        return _entries(state_file.undamaged(state_file.read_bytes(self.path)) or b"")

    def damage(self) -> Damaged | None:
        """Reason why the journal cannot be read; None when it can, or is not there.

        A line that a crash cut may have others behind it: only what holds no whole line is damaged.
        """
        content = state_file.read_bytes(self.path)
        if isinstance(content, bytes):
            if content.count(b"\n") < 2 or _entries(content):
                return None
            return Damaged(self.path, "no line of it is an entry")
        return content

    def finished(self, phase: str, step: str) -> str | None:
        """Fingerprint of the step's last finish, None when it is not finished."""
        for entry in reversed(self.entries()):
            if (entry.phase, entry.step) == (phase, step):
                return entry.fingerprint if entry.state == "finished" else None
        return None

    @contextmanager
    def step(  # noqa: PLR0913  as `append`, and what it waits for
        self,
        events: Events,
        phase: str,
        name: str,
        *,
        waits_for: str = "",
        fingerprint: str = "",
        needed: bool = True,
    ) -> Iterator[Step]:
        """A step, told to the listeners and written down before and after.

        `needed`: it is not carried out, nor counts as finished, unless that can be written down. A
        run's results are worth more than a line about them.
        """
        tolerated = () if needed else (OSError,)
        try:
            with suppress(*tolerated):
                self.append(phase, name, "started", fingerprint)
            with events.step(phase, name, waits_for) as step:
                yield step
        except BaseException:
            with suppress(OSError):  # What failed is to be told, not that the disk is full too.
                self.append(phase, name, "failed", fingerprint)
            raise
        with suppress(*tolerated):
            self.append(phase, name, "finished", fingerprint)
