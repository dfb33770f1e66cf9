"""What a reader hands over: values as a TOML file would hold them, and where each one stands."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from continuum.errors import InvalidExperiment, Problem

KeyPath = tuple[str | int, ...]
"""Keys from the root, and positions in lists: `("network", "links", 0, "delay")`."""

SIZE_LIMIT = 1_000_000
"""Bytes. An experiment is a page or two; nothing that is longer was meant to be one."""


TOO_DEEP = "tables or lists are nested too deeply"


@dataclass(frozen=True)
class Source:
    """Where a value was written. `file` may also be `--set`, or a variable of the environment.

    `line` is 1-based, 0 when there is none.
    """

    file: str
    line: int = 0
    environment: bool = False

    def __str__(self) -> str:
        if self.environment:
            return f"environment {self.file}"
        return f"{self.file}:{self.line}" if self.line else self.file

    def problem(self, message: str, hint: str = "") -> Problem:
        """A problem at this place."""
        return Problem(self.file, self.line, message, hint)


@dataclass(frozen=True)
class Reason:
    """Why an experiment cannot be run, as long as the key at `path` holds `value`."""

    path: KeyPath
    value: object
    text: str


@dataclass
class Document:
    """One experiment on its way from text to model.

    Attributes:
        file: as the user named it; what problems without a better place are blamed on.
        values: tables and lists as a TOML file would hold them, quantities with their units.
        sources: where keys stand; a key that is not in it stands where its table does.
        notes: what the reader has to say about a valid file.
        reasons: why it cannot be run, beside plug-ins that this version does not have.
        misfit: what the application asks for and does not have here, with its place; None if
            there is nothing.
        overridden: keys whose values were given beside the file.
        finish: what the reader does once these are in: it fills in what follows from other values,
            and raises InvalidExperiment with what is still wrong.
        environment: variables of whoever calls.
        variables: names of those whose values the experiment takes.
        in_secret_files: paths of secrets that stand in files of their own, which the experiment
            names.
    """

    file: str
    values: dict[str, Any]
    sources: dict[KeyPath, Source] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    misfit: Problem | None = None
    overridden: set[KeyPath] = field(default_factory=set)
    finish: Callable[[Document], None] = lambda _: None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    variables: set[str] = field(default_factory=set)
    in_secret_files: set[KeyPath] = field(default_factory=set)

    def has_override(self, paths: Iterable[KeyPath]) -> bool:
        """Tell whether one of these keys, a table around it or a key in it was given beside the file."""
        return any(
            given[: len(path)] == path[: len(given)] for path in paths for given in self.overridden
        )

    def resolved(self, written: str, path: KeyPath) -> Path:
        """A path as written in the file is relative to the file; elsewhere, to where we stand."""
        in_file = self.source(path).line > 0
        folder = Path(self.file).parent if in_file else Path()
        return (folder / Path(written).expanduser()).absolute()

    def source(self, path: KeyPath) -> Source:
        """Where a key stands, else the nearest table around it, else the file as a whole."""
        for length in range(len(path), 0, -1):
            found = self.sources.get(path[:length])
            if found is not None:
                return found
        return Source(self.file)

    def get(self, path: KeyPath) -> Any:  # noqa: ANN401  values of a file have any type
        """The value at a path, None when there is none."""
        value: Any = self.values
        for key in path:
            if not holds(value, key):
                return None
            value = value[key]
        return value


def holds(value: object, key: str | int) -> bool:
    """Whether a value is a table or a list that has something at this key."""
    if isinstance(value, list):
        return isinstance(key, int) and key < len(value)
    return isinstance(value, dict) and key in value


def dotted(path: KeyPath) -> str:
    """A path as a person writes it: `network.links.0.delay`."""
    return ".".join(str(part) for part in path)


def shown(value: object, limit: int = 40) -> str:
    """A value inside a message: short, on one line, with nothing that a terminal obeys."""
    text = str(value)
    cut = "".join(letter if letter.isprintable() else "?" for letter in text[:limit])
    return cut + "…" if len(text) > limit else cut


def read_text(path: Path) -> str:
    """The text of an experiment file.

    Raises:
        InvalidExperiment: it does not exist, is no regular file, cannot be read, is too large,
            or is not text in UTF-8.
    """
    file = str(path)

    def refuse(message: str, line: int = 0, hint: str = "") -> InvalidExperiment:
        return InvalidExperiment((Problem(file, line, message, hint),))

    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise refuse("is a folder, not an experiment file")
        if not stat.S_ISREG(status.st_mode):
            raise refuse("is not a regular file")
        if status.st_size > SIZE_LIMIT:
            raise refuse(
                f"is {status.st_size / 1e6:.1f} MB long; "
                f"an experiment file has at most {SIZE_LIMIT // 10**6} MB"
            )
        with path.open("rb") as stream:
            content = stream.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        raise refuse("no such file") from None
    except (OSError, ValueError) as error:
        # A path with a NUL byte is a ValueError.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise refuse(f"cannot be read: {reason}") from error
    if not content.strip():
        raise refuse("is empty", hint="`continuum init` writes one to start from")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise refuse("is not text in UTF-8", line) from error
    null = re.search("\0", text)
    if null is not None:
        raise refuse(
            "holds a NUL byte: this is not a text file", text.count("\n", 0, null.start()) + 1
        )
    return text
