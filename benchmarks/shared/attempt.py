"""One broken input, given to the command line in this process, and how that ended.

The process stands in a folder of its own for every input, with state, cache and home in it. What
is looked for: a defect (exit 70, a traceback), no end within the limit, an exit code that is in no
table, a refusal that does not say where, files that should not be, and what a terminal obeys.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from continuum.cli import main
from continuum.errors import ContinuumError

LIMIT = 20.0
"""Seconds that one call may take."""

CODES = frozenset({0, 1, 2, 3, 4, 5, 6, 130})
"""Exit codes of the table, without that of a defect."""

_WHOLE = re.compile(
    r"is missing|is empty|no such file|MB long|regular file|is a folder|cannot be read"
    r"|at least one|in all|no tier|ends in \.toml"
)
"""Problems of a file as a whole, which have no line."""


class _TimeUp(BaseException):
    """The limit of a call; no `except Exception` catches it."""


@dataclass
class Attempt:
    """One broken input.

    Attributes:
        calls: command lines, one after the other, or functions to call in their place.
        places: names, one of which has to stand in every refusal.
        environment: variables beside the usual ones.
        text: whether the first place is a text file, whose problems have lines.
        valid: exit codes of an input that is as it should be: where nothing need be named.
        reads: whether the calls only read, so that no file may be made.
        show: the input, for a person who looks for the cause.
    """

    calls: Sequence[Sequence[str] | Callable[[], object]]
    places: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    text: bool = False
    valid: frozenset[int] = frozenset({0, 3, 4, 6})
    reads: bool = False
    show: str = ""


@dataclass(frozen=True)
class Ending:
    """Ending of one call: its exit code, None without an end, and what it said."""

    code: int | None
    output: str
    errors: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: which kind, as in `FINDINGS`, and the words that show it."""

    kind: str
    words: str


FINDINGS = ("defects", "hangs", "codes", "no file", "no line", "files", "control")
"""Kinds of findings, in the order of the table's columns."""


def attempt(
    made: Attempt, folder: Path, limit: float = LIMIT
) -> tuple[list[Ending], list[Finding]]:
    """Make all calls of an attempt, in its folder, and judge them."""
    endings: list[Ending] = []
    findings: list[Finding] = []
    before = _listing(folder)
    with _surroundings(folder, made.environment):
        for call in made.calls:
            ending = _call(call, limit)
            endings.append(ending)
            findings += _judge(ending, made)
    after = _listing(folder)
    # What only reads may still keep what it worked out, as a program that was compiled.
    own = {"cache"} if made.reads else {"cache", "state", "home", "temporary"}
    new = {path for path in after - before if path.parts[0] not in own}
    new = {path for path in new if "logs" not in path.parts and path.parts[0] != "results"}
    findings += [Finding("files", f"made {path}") for path in sorted(new)[:3]]
    return endings, findings


def _listing(folder: Path) -> set[Path]:
    """Files of a folder and of the one around it, where nothing else belongs."""
    around = {Path("..", path.name) for path in folder.parent.iterdir() if path != folder}
    return around | {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}


@contextmanager
def _surroundings(folder: Path, more: Mapping[str, str]) -> Iterator[None]:
    before, here = dict(os.environ), Path.cwd()
    for name in [name for name in os.environ if name.startswith(("XDG_", "CONTINUUM_"))]:
        del os.environ[name]
    for name in ("state", "cache", "home", "temporary"):
        (folder / name).mkdir(exist_ok=True)
    os.environ |= {
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "temporary"),
        **more,
    }
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ |= before


def _call(call: Sequence[str] | Callable[[], object], limit: float) -> Ending:
    streams = [
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace") for _ in "12"
    ]
    before = sys.stdout, sys.stderr, sys.stdin
    sys.stdout, sys.stderr = streams
    sys.stdin = io.StringIO()
    handler = signal.signal(signal.SIGALRM, _time_is_up)
    signal.setitimer(signal.ITIMER_REAL, limit)
    code: int | None
    try:
        code = _tell(call) if callable(call) else main.run(call)
    except _TimeUp:
        code = None
        traceback.print_exc()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    except BaseException:  # noqa: BLE001  whatever comes out of the command line is a defect of it
        code = 70
        traceback.print_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        sys.stdout, sys.stderr, sys.stdin = before
    said = []
    for stream in streams:
        stream.flush()
        said.append(stream.buffer.getvalue().decode("utf-8", "replace"))
    return Ending(code, *said)


def _time_is_up(*_: object) -> None:
    raise _TimeUp


def _tell(call: Callable[[], object]) -> int:
    """Call a function as a verb would: what it raises on purpose is told with its exit code."""
    try:
        call()
    except ContinuumError as error:
        print(f"error: {error.message}\n  where: {error.where}", file=sys.stderr)
        return error.exit_code
    return 0


def _judge(ending: Ending, made: Attempt) -> Iterator[Finding]:
    both = ending.output + ending.errors
    if ending.code is None:
        yield Finding("hangs", ending.errors[-600:])
        return
    if ending.code == 70 or "Traceback" in both or "Exception ignored" in both:
        yield Finding("defects", ending.errors[-600:])
        return
    if ending.code not in CODES:
        yield Finding("codes", f"{ending.code}: {ending.errors[-300:]}")
    odd = {letter for letter in both if not letter.isprintable() and letter not in "\n\t"}
    if odd:
        yield Finding("control", f"{sorted(odd)!r} in {both[:300]!r}")
    if ending.code in made.valid:
        return
    for refusal in _refusals(ending.output + ending.errors):
        place = next((each for each in made.places if each in refusal), None)
        if place is None:
            yield Finding("no file", refusal[:300])
        elif (
            made.text
            and re.search(rf"{re.escape(made.places[0])}(?!:\d)", refusal)
            and not re.search(rf"{re.escape(made.places[0])}:\d", refusal)
            and not _WHOLE.search(refusal)
        ):
            yield Finding("no line", refusal[:300])


def _refusals(errors: str) -> list[str]:
    """Every error with the lines that belong to it."""
    found: list[str] = []
    for line in errors.splitlines():
        if line.startswith(("error:", "error ")):
            found.append(line)
        elif found and line.startswith(" "):
            found[-1] += f"\n{line}"
    return found


def clear(folder: Path) -> None:
    """Remove a folder whatever is in it; a folder that nobody may enter among it."""

    def allow(function: Callable[[str], object], path: str, _: object) -> None:
        Path(path).parent.chmod(0o700)
        function(path)

    shutil.rmtree(folder, onerror=allow)
