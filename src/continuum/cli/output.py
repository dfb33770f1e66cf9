"""Data to standard output, talk to standard error; colours only where they are wanted."""

from __future__ import annotations

import codecs
import json
import math
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from continuum.cli import printable
from continuum.secret import masked

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

WIDTH = 160
"""Columns of what is drawn where there is no terminal."""

QUIET, NORMAL, VERBOSE = -1, 0, 1

clean = printable.clean

_STYLES: dict[str, dict[str, Any]] = {
    "good": {"fg": "green"},
    "warning": {"fg": "yellow"},
    "bad": {"fg": "red", "bold": True},
    "faint": {"dim": True},
    "strong": {"bold": True},
}


def colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows colours, and the person wants them."""
    wanted = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return wanted and not stream.closed and stream.isatty()


def live(stream: TextIO) -> bool:
    """Whether lines on a stream can be drawn again."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def styled(text: str, style: str, stream: TextIO | None = None) -> str:
    """`text` in a style, when the stream (standard error unless told) shows colours.

    Only `write` and `say` may put it on the stream: they know its codes from those in the text.
    """
    text = clean(text)
    if not colours(stream or sys.stderr):
        return text
    return click.style(text, **_STYLES[style]).replace(_ESCAPE, _OUR_ESCAPE)


_ESCAPE = "\x1b"
_OUR_ESCAPE = f"{_ESCAPE}<{secrets.token_hex(8)}>"
"""Begins a code of our own until it is written; nothing from outside can know it."""


def shown(text: str) -> str:
    """`text` as it may go to a stream: its own styles work, all else of it is only seen."""
    return _ESCAPE.join(clean(part) for part in text.split(_OUR_ESCAPE))


def write(text: str) -> None:
    """Data: one or several lines on standard output, clean."""
    click.echo(shown(text), color=colours(sys.stdout))


def say(text: str = "") -> None:
    """Talk: one or several lines on standard error, clean."""
    click.echo(shown(masked(text)), err=True, color=colours(sys.stderr))


def write_log(content: bytes) -> None:
    """The words of a machine on standard output: as they are in a pipe or a file, clean on a
    terminal.
    """
    if sys.stdout.isatty():
        click.echo(clean(content.decode("utf-8", "replace")), nl=False, color=True)
    else:
        click.echo(content, nl=False)


def plain(value: object) -> Any:  # noqa: ANN401  what JSON can hold
    """A value as JSON can hold it; what it cannot hold becomes its text."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    elif hasattr(value, "model_dump"):
        value = value.model_dump(mode="json", by_alias=True)
    value = masked(value) if isinstance(value, str) else value
    match value:
        case dict():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
        case bytes():
            return value.decode("utf-8", "replace")
        case float() if not math.isfinite(value):
            return None
        case str() | int() | float() | None:
            return value
    return str(value)


def write_json(value: object) -> None:
    """One JSON document on standard output."""
    # What another encoding lacks must be spelt as JSON spells it.
    unicode = codecs.lookup(sys.stdout.encoding or "utf-8").name == "utf-8"
    text = json.dumps(plain(value), indent=2, ensure_ascii=not unicode, allow_nan=False)
    write(printable.clean_json(text))


def draw(thing: RenderableType) -> None:
    """Data that rich draws, on standard output; as wide as it must be where nobody looks."""
    from rich.console import Console  # noqa: PLC0415  slow to import

    stream = sys.stdout
    console = Console(
        file=stream,
        highlight=False,
        no_color=not colours(stream),
        force_terminal=colours(stream),
        width=None if stream.isatty() else WIDTH,
    )
    # What is wider than the terminal is for it to wrap: rich would cut it off.
    console.print(Clean(thing), crop=False)


@dataclass(frozen=True)
class Clean:
    """A thing that rich draws, with all text from outside cleaned last of all."""

    thing: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Its segments; rich's own codes are no text of them."""
        from rich.segment import Segment  # noqa: PLC0415  slow to import

        for each in console.render(self.thing, options):
            yield each if each.control else Segment(clean(each.text), each.style)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they must be; numbers are the caller's to align."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def short_path(path: Path) -> str:
    """A path as the person would type it: relative to where they stand when it is below it."""
    absolute = path.absolute()
    try:
        return str(absolute.relative_to(Path.cwd()))
    except (ValueError, FileNotFoundError):
        return str(absolute)
