"""Data to standard output, talk to standard error; colours only where they are wanted."""

from __future__ import annotations

import codecs
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from continuum.secret import masked

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 160
"""Columns of what is drawn where there is no terminal."""

QUIET, NORMAL, VERBOSE = -1, 0, 1

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
    """`text` in a style, when the stream (standard error unless told) shows colours."""
    if not colours(stream or sys.stderr):
        return text
    return click.style(text, **_STYLES[style])


def clean(text: str) -> str:
    """`text` without what a terminal obeys, and without what UTF-8 cannot say.

    For words that came from a file, from a machine, or from the command line.
    """
    return "".join(
        each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text
    )


def write(text: str) -> None:
    """Data: one or several lines on standard output."""
    click.echo(_sayable(text), color=colours(sys.stdout))


def say(text: str = "") -> None:
    """Talk: one or several lines on standard error."""
    click.echo(_sayable(text), err=True, color=colours(sys.stderr))


def _sayable(text: str) -> str:
    return masked(text).encode("utf-8", "backslashreplace").decode()


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
    write(json.dumps(plain(value), indent=2, ensure_ascii=not unicode, allow_nan=False))


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
    console.print(thing, crop=False)


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
