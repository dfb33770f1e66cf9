"""Reader of our own format: TOML.

`tomllib` gives values without places, so a second, simpler pass over the same text, which is then
known to be valid, finds the line of every key.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress

from continuum.errors import InvalidExperiment, Problem
from continuum.experiment.document import TOO_DEEP, Document, KeyPath, Source
from continuum.secret import MASK, is_secret_name

DOTS_LIMIT = 100
"""In one line. `tomllib` takes time and memory by the square of a dotted key's length."""

DEPTH_LIMIT = 100
"""Of brackets inside each other. `tomllib` calls itself for each."""

_MANY_DIGITS = re.compile(r"[0-9][0-9_]{4299,}")
"""Python refuses to read whole numbers of more than 4300 digits."""

_PLACE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)\s*$")
_RULER = re.compile(r"\s*#[\s.]*")


def read(text: str, file: str) -> Document:
    """An experiment's values and their places.

    Raises:
        InvalidExperiment: the text is not TOML.
    """
    text = text.replace("\r\n", "\n")
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > DOTS_LIMIT and not _RULER.fullmatch(line):
            raise _refusal(file, number, f"more than {DOTS_LIMIT} dots in one line")
    deep = _deep_line(text)
    if deep:
        raise _refusal(file, deep, TOO_DEEP)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _PLACE.search(message)
        line_number = int(place[1]) if place and place[1] else len(text.rstrip("\n").split("\n"))
        message = message[: place.start()] if place else message
        raise _refusal(file, line_number, f"not valid TOML: {message}") from error
    except RecursionError as error:
        raise _refusal(file, 0, TOO_DEEP) from error
    except ValueError as error:
        raise _refusal(file, _long_line(text), "holds a number with too many digits") from error
    lines = locate(text)
    return Document(file, values, {path: Source(file, line) for path, line in lines.items()})


def _refusal(file: str, line: int, message: str) -> InvalidExperiment:
    return InvalidExperiment((Problem(file, line, message),))


def _deep_line(text: str) -> int:
    """The line on which brackets are nested too deeply; 0 when they are not."""
    depth = 0
    for match in _BRACKET.finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth > DEPTH_LIMIT:
                return text.count("\n", 0, match.start()) + 1
        elif match[0] in "]}":
            depth -= 1
    return 0


def _long_line(text: str) -> int:
    """The line of the first number that has too many digits, of a text in which there is one."""
    for match in _TOKEN.finditer(text):
        if _MANY_DIGITS.fullmatch(match[0]):
            return text.count("\n", 0, match.start()) + 1
    return 0


def locate(text: str) -> dict[KeyPath, int]:
    """The line, 1-based, of every key and list element of a text that is valid TOML."""
    locator = _Locator(text.replace("\r\n", "\n"))
    # Places are a courtesy: what was found until here is still right.
    with suppress(_Lost, RecursionError):
        locator.document()
    return locator.lines


def without_secrets(text: str, is_secret: Callable[[KeyPath], bool]) -> str:
    """A text that is valid TOML, with `***` for the values that are secret, also in comments.

    Where values cannot be told from each other nothing of it is shown.
    """
    text = text.replace("\r\n", "\n")
    locator = _Locator(text)
    try:
        locator.document()
    except (_Lost, RecursionError):
        return "# The text is not shown: it may hold secrets.\n"
    for start, end in sorted(
        (span for path, span in locator.values if is_secret(path)), reverse=True
    ):
        text = f'{text[:start]}"{MASK}"{text[end:]}'
    return _COMMENT.sub(lambda comment: _GIVEN.sub(_without_value, comment[0]), text)


def _without_value(given: re.Match[str]) -> str:
    return f"{given['head']}{MASK}" if is_secret_name(given["name"]) else given[0]


class _Lost(Exception):
    """The text is not what a valid document has at this place."""


_COMMENT = re.compile(r"#[^\n]*")
_GIVEN = re.compile(r"""(?P<head>(?P<name>[\w-]+)["']?\s*[=:]\s*)("[^"\n]*"|'[^'\n]*'|[^\s,}]+)""")
_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*'""")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?""""{0,2}'
    r"|'''.*?''''{0,2}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BRACKET = re.compile(rf"(?:{_STRING.pattern})|#[^\n]*|[\[\]{{}}]", re.DOTALL)
_TOKEN = re.compile(
    rf"(?:{_STRING.pattern})|#[^\n]*|{_MANY_DIGITS.pattern}(?![0-9_.eE]|[ \t]*=)|.", re.DOTALL
)
_PLAIN = re.compile(r"[^,\]}\n#]+")


class _Locator:
    """One pass over a text; `lines` grows as keys are met."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.values: list[tuple[KeyPath, tuple[int, int]]] = []
        self._text = text
        self._at = 0
        self._breaks = [match.end() for match in re.finditer("\n", text)]
        self._last_index: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _Lost
        self._at = match.end()
        return match[0]

    def _take(self, token: str) -> None:
        if not self._text.startswith(token, self._at):
            raise _Lost
        self._at += len(token)

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _note(self, path: KeyPath, start: int) -> None:
        self.lines.setdefault(path, bisect_right(self._breaks, start) + 1)

    def _header(self) -> KeyPath:
        start = self._at
        in_list = self._text.startswith("[[", start)
        self._at += 2 if in_list else 1
        keys = self._keys()
        self._take("]]" if in_list else "]")
        path: KeyPath = ()
        for position, key in enumerate(keys):
            path = (*path, key)
            self._note(path, start)
            if in_list and position == len(keys) - 1:
                self._last_index[path] = self._last_index.get(path, -1) + 1
            if path in self._last_index:
                path = (*path, self._last_index[path])
                self._note(path, start)
        return path

    def _keys(self) -> list[str]:
        """A key, dotted or not."""
        keys = []
        while True:
            self._skip(_SPACE)
            token = self._skip(_KEY)
            keys.append(tomllib.loads(f"key = {token}")["key"] if token[0] in "\"'" else token)
            self._skip(_SPACE)
            if self._next() != ".":
                return keys
            self._take(".")

    def _pair(self, table: KeyPath) -> None:
        start = self._at
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path, start)
        self._take("=")
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        first = self._next()
        if first == "[":
            self._list(path)
        elif first == "{":
            self._table(path)
        else:
            start = self._at
            written = self._skip(_STRING if first in {'"', "'"} else _PLAIN)
            self.values.append((path, (start, start + len(written.rstrip()))))

    def _list(self, path: KeyPath) -> None:
        self._take("[")
        index = 0
        self._skip(_BLANK)
        while self._next() != "]":
            element = (*path, index)
            self._note(element, self._at)
            self._value(element)
            index += 1
            self._skip(_BLANK)
            if self._next() == ",":
                self._take(",")
                self._skip(_BLANK)
        self._take("]")

    def _table(self, path: KeyPath) -> None:
        self._take("{")
        self._skip(_BLANK)
        while self._next() != "}":
            self._pair(path)
            self._skip(_BLANK)
            if self._next() == ",":
                self._take(",")
                self._skip(_BLANK)
        self._take("}")
