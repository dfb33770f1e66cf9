"""Shows what happens: drawn live on a terminal, one plain line per step elsewhere."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TextIO

from continuum import folders
from continuum.cli import output
from continuum.events import (
    Event,
    Note,
    StepFailedEvent,
    StepFinished,
    StepProgress,
    StepStarted,
)
from continuum.secret import masked

if TYPE_CHECKING:
    from rich.console import RenderableType

HEARTBEAT = 4.0
"""Seconds after which a plain line says that a step is still under way, at the next look."""
LOOK_INTERVAL = 1.0
"""Seconds; with them no more than five pass without a line."""


class Progress(Protocol):
    """A listener that shows events until it is closed."""

    def __call__(self, event: Event) -> None:
        """Show one event; called from any thread."""

    def close(self) -> None:
        """Leave the terminal as a person expects it."""


def for_stream(stream: TextIO, verbosity: int) -> Progress:
    """The way of showing that fits the stream."""
    if verbosity == output.NORMAL and output.live(stream):
        return LiveProgress(stream)
    return PlainProgress(stream, verbosity)


@dataclass
class _Running:
    began: float
    told: float
    detail: str = ""
    fraction: float | None = None


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def finished_line(event: StepFinished | StepFailedEvent) -> tuple[str, str, str]:
    """Word, style and text of a step's end."""
    text = f"{event.phase}: {event.step}"
    if isinstance(event, StepFailedEvent):
        return "failed", "bad", f"{text} ({_seconds(event.seconds)})"
    if not event.changed:
        return "same", "faint", f"{text} (nothing to change)"
    return "done", "good", f"{text} ({_seconds(event.seconds)})"


def _indented(text: str, columns: int = 8) -> str:
    """Text of an event as it may be shown: no line of it looks as if it were one of ours."""
    return output.clean(text).replace("\n", f"\n{' ' * columns}")


class PlainProgress:
    """Lines only. A step that lasts is told again when `HEARTBEAT` seconds have passed."""

    def __init__(self, stream: TextIO, verbosity: int) -> None:
        self._stream = stream
        self._verbosity = verbosity
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], _Running] = {}
        self._closed = threading.Event()
        self._ticker: threading.Thread | None = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            match event:
                case Note(text, level):
                    if level != "info" or self._verbosity > output.QUIET:
                        self._note(text, level)
                case StepStarted(phase, step, waits_for):
                    now = time.monotonic()
                    self._running[phase, step] = _Running(now, now, waits_for)
                    self._start_ticker()
                    if self._verbosity == output.VERBOSE:
                        wait = f", waiting for {waits_for}" if waits_for else ""
                        self._line("start", "faint", f"{phase}: {step}{wait}")
                case StepProgress(phase, step, detail, fraction):
                    running = self._running.get((phase, step))
                    if running is not None:
                        running.detail, running.fraction = detail, fraction
                    if self._verbosity == output.VERBOSE:
                        self._line("", "faint", f"{phase}: {step}: {detail}")
                case StepFinished() | StepFailedEvent():
                    self._running.pop((event.phase, event.step), None)
                    if self._verbosity > output.QUIET:
                        self._line(*finished_line(event))

    def close(self) -> None:
        """Say no more."""
        self._closed.set()
        if self._ticker is not None:
            self._ticker.join(timeout=5)

    def _note(self, text: str, level: str) -> None:
        warning = level == "warning"
        self._line("warning" if warning else "note", "warning" if warning else "faint", text)

    def _line(self, word: str, style: str, text: str) -> None:
        padded = f"{word:<7}"
        if word:
            padded = output.styled(padded, style, self._stream)
        try:
            self._stream.write(f"{output.shown(padded)} {_indented(text)}\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            # Nobody reads any more: what is under way goes on, and ends as it should.
            self._verbosity = output.QUIET

    def _start_ticker(self) -> None:
        if self._ticker is None and self._verbosity > output.QUIET:
            ticker = threading.Thread(target=self._tick, daemon=True)
            ticker.start()
            # Only now: one whose start was interrupted cannot be waited for.
            self._ticker = ticker

    def _tick(self) -> None:
        while not self._closed.wait(LOOK_INTERVAL):
            with self._lock:
                now = time.monotonic()
                for (phase, step), running in self._running.items():
                    if now - running.told >= HEARTBEAT:
                        running.told = now
                        detail = f": {running.detail}" if running.detail else ""
                        since = _seconds(now - running.began)
                        self._line("…", "faint", f"{phase}: {step}{detail} ({since})")


class LiveProgress:
    """Running steps are drawn at the bottom; what has ended stays above as plain lines."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console  # noqa: PLC0415  slow to import
        from rich.live import Live  # noqa: PLC0415

        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], _Running] = {}
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._stream = stream
        self._open = False

    def __call__(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            match event:
                case Note(text, level):
                    warning = level == "warning"
                    self._print("!" if warning else "·", "warning" if warning else "faint", text)
                case StepStarted(phase, step, waits_for):
                    now = time.monotonic()
                    wait = f"waiting for {waits_for}" if waits_for else ""
                    self._running[phase, step] = _Running(now, now, wait)
                    if not self._open:
                        self._live.start()
                        self._open = True
                case StepProgress(phase, step, detail, fraction):
                    running = self._running.get((phase, step))
                    if running is not None:
                        running.detail, running.fraction = detail, fraction
                case StepFinished() | StepFailedEvent():
                    self._running.pop((event.phase, event.step), None)
                    word, style, text = finished_line(event)
                    self._print({"done": "✓", "same": "=", "failed": "✗"}[word], style, text)
        if self._open and not self._running:
            self._live.refresh()

    def close(self) -> None:
        """Remove what is drawn; the lines above stay."""
        if self._open:
            self._live.stop()
            self._open = False

    def _print(self, mark: str, style: str, text: str) -> None:
        from rich.text import Text  # noqa: PLC0415

        styles = {"good": "green", "warning": "yellow", "bad": "bold red", "faint": "dim"}
        line = Text.assemble((mark, styles[style]), " ", _indented(text, 2))
        self._console.print(output.Clean(line))

    def _render(self) -> RenderableType:
        from rich.spinner import Spinner  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        grid = Table.grid(padding=(0, 1))
        for (phase, step), running in list(self._running.items()):
            since = time.monotonic() - running.began
            share = f"{running.fraction:.0%} " if running.fraction is not None else ""
            spinner = Spinner("dots", style="cyan")
            spinner.start_time = running.began
            grid.add_row(
                spinner,
                Text(f"{phase}: {step}"),
                Text(
                    f"{share}{running.detail}".replace("\n", " "),
                    style="dim",
                    overflow="ellipsis",
                    no_wrap=True,
                ),
                Text(_seconds(since), style="dim"),
            )
        return output.Clean(grid)


class EventLog:
    """Everything that happens, with times, in a file of the deployment's folder `logs`.

    The file is begun when the deployment's folder is there, so that a call that changes nothing
    leaves nothing.
    """

    def __init__(self, deployment: Path, verb: str) -> None:
        self._folder = deployment
        # In UTC, as names of results are.
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        self._path = deployment / "logs" / f"{stamp}-{verb}-{os.getpid()}.log"
        self._lock = threading.Lock()
        self._file: IO[Any] | None = None
        self._waiting: list[str] = []
        self._closed = False

    def __call__(self, event: Event) -> None:
        """Write one event."""
        stamp = f"{time.strftime('%H:%M:%S', time.gmtime())}.{time.time_ns() // 10**6 % 1000:03d}"
        with self._lock:
            if self._closed:
                return
            self._waiting.append(masked(f"{stamp} {event}\n"))
            try:
                self._write()
            except OSError:
                # No command ends for want of its log: a full disk is told where it hurts.
                self._closed = True
                self._give_up()

    def _write(self) -> None:
        if self._file is None and folders.is_own_folder(self._folder):
            self._file = self._begun()
        if self._file is not None:
            self._file.writelines(self._waiting)
            self._file.flush()
            self._waiting.clear()

    def _give_up(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # What is still to be written has no room either.
                self._file.close()
            self._file = None

    def _begun(self) -> IO[Any] | None:
        """The file, open; None while the deployment has no folder: another process may remove it."""
        try:
            self._path.parent.mkdir(folders.PRIVATE_FOLDER, exist_ok=True)
            folders.give_to_caller(self._path.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            file = os.open(self._path, flags, folders.PRIVATE_FILE)
            folders.give_to_caller(self._path)
        except FileNotFoundError:
            return None
        return os.fdopen(file, "a", encoding="utf-8")

    def close(self) -> None:
        """End the file."""
        with self._lock:
            self._give_up()
            self._closed = True
