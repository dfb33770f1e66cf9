"""Due times of requests: at fixed intervals, as a Poisson process, or as a file has them.

Pure functions of a seed, with nothing but uniform numbers of `random.Random` below them, which are
the same in every version of Python. Times are whole nanoseconds after the start of a repetition,
which begins with its warm-up.
"""

from __future__ import annotations

import hashlib
import math
import random
from functools import lru_cache
from pathlib import Path
from typing import Literal

from continuum.errors import InvalidExperiment, Problem
from continuum.experiment.document import shown
from continuum.experiment.units import YEAR

Kind = Literal["periodic", "poisson", "file"]

WORDS: dict[str, str] = {
    "periodic": "periodic, random phases",
    "poisson": "Poisson",
    "file": "from a file",
}
"""The words for arrivals beside the figures that depend on them."""

SIZE_LIMIT = 64 * 2**20
"""Bytes of a file of arrivals."""

POISSON_LIMIT = 5_000_000
"""Requests of one endpoint in one repetition that may be drawn: each is held in memory."""

_NS = 1_000_000_000
_MOST_PROBLEMS = 20


def _uniform(seed: int, purpose: str) -> random.Random:
    """Numbers that depend on those drawn for no other purpose."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8]))


def phase_ns(frequency: float, seconds: float, seed: int) -> int:
    """The due time of the first of periodic requests: uniform in one interval, its end excluded.

    Where not even one interval fits into the `seconds` of load, uniform in those.
    """
    longest = min(1 / frequency, seconds)
    return int(_uniform(seed, "phase").random() * longest * _NS)


def poisson_ns(frequency: float, seconds: float, seed: int) -> tuple[int, ...]:
    """Times of a Poisson process of `frequency` per second in [0, `seconds`): gaps are exponential.

    How many there are is random too, with mean and variance `frequency` · `seconds`.
    """
    source = _uniform(seed, "arrivals")
    found: list[int] = []
    at = 0.0
    while True:
        at -= math.log(1.0 - source.random()) / frequency
        if at >= seconds:
            return tuple(found)
        found.append(int(at * _NS))


def trace_ns(file: str, column: int, seconds: float) -> tuple[int, ...]:
    """Times of a file's column, of its only one where it has one, before `seconds`.

    Raises:
        InvalidExperiment: see `read_trace`.
    """
    columns = read_trace(Path(file))
    times = columns[column if len(columns) > 1 else 0]
    return tuple(each for each in times if each < seconds * _NS)


def offsets_ns(  # noqa: PLR0913  what a schedule depends on
    kind: Kind, *, frequency: float, seconds: float, seed: int, file: str = "", column: int = 0
) -> tuple[int, ...] | None:
    """The due time of each request of one endpoint in one repetition; None for periodic ones.

    Those are due at `phase_ns` + n / `frequency`, as many as the load says.

    Raises:
        InvalidExperiment: the file cannot be read.
    """
    if kind == "poisson":
        return poisson_ns(frequency, seconds, seed)
    if kind == "file":
        return trace_ns(file, column, seconds)
    return None


def read_trace(path: Path) -> tuple[tuple[int, ...], ...]:
    """The columns of a file of arrivals, in ns: one for all endpoints, or one for each.

    One line holds one time in seconds for each column, separated by commas; a column that has ended
    is left empty. Times do not go back. Empty lines and those that begin with `#` are passed over,
    and so is a first line of names.

    Raises:
        InvalidExperiment: with the places of what is wrong, or the file cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise _refusal(path, 0, f"cannot be read: {error.strerror}") from error
    return _trace(path, status.st_mtime_ns, status.st_size)[1]


def trace_names(path: Path) -> tuple[str, ...]:
    """The names in the first line of a file that `read_trace` takes; none where it has no names."""
    status = path.stat()
    return _trace(path, status.st_mtime_ns, status.st_size)[0]


def _refusal(path: Path, line: int, message: str) -> InvalidExperiment:
    return InvalidExperiment((Problem(str(path), line, message),))


@lru_cache(maxsize=8)
def _trace(
    path: Path, changed_ns: int, size: int
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Names and columns; the arguments beside the path are there for the cache to see changes."""
    del changed_ns
    names: tuple[str, ...] = ()
    columns: list[list[int]] = []
    problems: list[Problem] = []
    for number, line in enumerate(_text(path, size).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split(",")]
        if not columns:
            columns = [[] for _ in cells]
            if not any(map(_is_number, cells)):
                names = tuple(cells)
                continue
        problem = _add(columns, cells)
        if problem:
            problems.append(Problem(str(path), number, problem))
    if not problems and not any(columns):
        problems.append(Problem(str(path), 0, "holds no times"))
    if problems:
        raise InvalidExperiment(tuple(problems[:_MOST_PROBLEMS]))
    return names, tuple(map(tuple, columns))


def _text(path: Path, size: int) -> str:
    if size > SIZE_LIMIT:
        raise _refusal(path, 0, f"is larger than {SIZE_LIMIT // 2**20} MiB")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _refusal(path, 0, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _refusal(path, 0, "is not text in UTF-8") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _add(columns: list[list[int]], cells: list[str]) -> str:
    """Take one line; returns what is wrong with it, if anything."""
    if len(cells) != len(columns):
        return f"{len(cells)} columns, where the lines before have {len(columns)}"
    for column, cell in zip(columns, cells, strict=True):
        if not cell and len(columns) > 1:
            continue
        if not _is_number(cell):
            return f'"{shown(cell)}" is not a time in seconds'
        seconds = float(cell)
        if not 0 <= seconds <= YEAR:
            return f"a time is 0 to {YEAR:.0f} seconds after the start, not {shown(cell)}"
        at = round(seconds * _NS)
        if column and at < column[-1]:
            return f"{shown(cell)} is before the time above it, {column[-1] / _NS:.15g}"
        column.append(at)
    return ""
