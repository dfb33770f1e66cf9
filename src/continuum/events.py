"""What happens, told to whoever listens. Phases emit; only the command line prints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from continuum import interruption
from continuum.secret import masked


@dataclass(frozen=True)
class StepStarted:
    """`waits_for` says what the step waits for, in words that complete "waiting for …"."""

    phase: str
    step: str
    waits_for: str = ""


@dataclass(frozen=True)
class StepProgress:
    """`fraction` is 0 … 1, or None when the end cannot be known."""

    phase: str
    step: str
    detail: str
    fraction: float | None = None


@dataclass(frozen=True)
class StepFinished:
    """`changed` is False when the step found everything as it should be."""

    phase: str
    step: str
    seconds: float
    changed: bool = True


@dataclass(frozen=True)
class StepFailedEvent:
    """The step raised; the error itself reaches the command line as an exception."""

    phase: str
    step: str
    seconds: float


@dataclass(frozen=True)
class Note:
    """Something a person should know. `level` is `info` or `warning`."""

    text: str
    level: str = "info"


Event = StepStarted | StepProgress | StepFinished | StepFailedEvent | Note


@dataclass
class Step:
    """A step under way: its progress and whether it changed anything."""

    events: Events
    phase: str
    name: str
    changed: bool = True

    def progress(self, detail: str, fraction: float | None = None) -> None:
        """Tell how far the step is, and look whether it is to end."""
        interruption.check()
        self.events.emit(StepProgress(self.phase, self.name, masked(detail), fraction))


@dataclass
class Events:
    """A list of listeners. Safe to emit from several threads when the listeners are."""

    listeners: list[Callable[[Event], None]] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        """Hand the event to every listener."""
        for listener in self.listeners:
            listener(event)

    def note(self, text: str, level: str = "info") -> None:
        """Emit a `Note`."""
        self.emit(Note(masked(text), level))

    @contextmanager
    def step(self, phase: str, name: str, waits_for: str = "") -> Iterator[Step]:
        """Emit start and end around a block."""
        interruption.check()
        began = time.monotonic()
        self.emit(StepStarted(phase, name, waits_for))
        step = Step(self, phase, name)
        try:
            yield step
        except BaseException:
            self.emit(StepFailedEvent(phase, name, time.monotonic() - began))
            raise
        self.emit(StepFinished(phase, name, time.monotonic() - began, step.changed))
