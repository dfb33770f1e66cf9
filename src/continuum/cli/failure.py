"""How a failure is shown: what, where, the last output, and what to do next."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from continuum.cli import output
from continuum.errors import ContinuumError, InvalidExperiment
from continuum.secret import masked, without_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFECT = 70
LINES_OF_OUTPUT = 20


def show(error: ContinuumError) -> None:
    """Tell an expected failure on standard error."""
    if isinstance(error, InvalidExperiment):
        for problem in error.problems:
            output.say(f"{output.styled('error:', 'bad')} {output.clean(str(problem))}")
        count = len(error.problems)
        output.say(f"{count} problem{'s' if count != 1 else ''}; nothing was done")
        return
    first, *more = output.clean(error.message).splitlines() or [type(error).__name__]
    output.say(f"{output.styled('error:', 'bad')} {first}")
    for line in more:
        output.say(f"       {line}")
    if error.where:
        output.say(f"  where: {output.clean(error.where)}")
    lines = output.clean(error.output).splitlines()[-LINES_OF_OUTPUT:]
    if lines:
        output.say("  last output:")
        for line in lines:
            output.say(f"    {line}")
    if error.hint:
        output.say(f"  what to do: {output.clean(error.hint)}")


def show_defect(error: BaseException, arguments: Sequence[str], log_folder: Path) -> None:
    """Write a defect of ours to a log of its own, and tell where it is."""
    summary = output.clean(f"{type(error).__name__}: {error}".splitlines()[0][:200])
    output.say(f"{output.styled('error:', 'bad')} a defect of Continuum: {summary}")
    try:
        path = write_defect_log(error, arguments, log_folder)
    except OSError as problem:
        output.say(f"  the log could not be written: {output.clean(str(problem))}")
        path = None
    if path is not None:
        output.say(f"  full log: {path}")
    output.say("  what to do: please report it with the log; `continuum status` shows what is up")


def write_defect_log(error: BaseException, arguments: Sequence[str], log_folder: Path) -> Path:
    """Everything that helps to find a defect, in a file of its own; returns its path."""
    from continuum import folders  # noqa: PLC0415  slow to import, and seldom needed
    from continuum.version import version  # noqa: PLC0415

    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    path = log_folder / f"defect-{stamp}-{os.getpid()}.log"
    text = "\n".join(
        [
            f"continuum {version()}",
            f"arguments: {shlex.join(without_secrets(arguments))}",
            f"python: {sys.version}",
            f"host: {platform.platform()}",
            "",
            *traceback.format_exception(error),
        ]
    )
    text = masked(text)
    folders.write_file(path, text.encode("utf-8", "backslashreplace"), folders.PRIVATE_FILE)
    return path
