"""Everything that Continuum raises on purpose.

    ContinuumError                  exit 1
    ├── InvalidExperiment           exit 2   the file does not say something that can be built
    ├── UsageError                  exit 2   the command line does not
    ├── NotPossibleHere             exit 3   valid, but this host lacks something
    ├── MachineUnreachable          exit 4
    ├── NotFound                    exit 5   no such deployment, or nothing selected
    ├── StepFailed                  exit 1
    │   ├── CommandFailed                    a command ended with a status other than 0
    │   └── TimedOut                         what was waited for did not come
    ├── LinksOutOfTolerance         exit 1
    └── Interrupted                 exit 130

Any other exception that reaches the command line is a defect of ours: exit 70.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class ContinuumError(Exception):
    """An expected failure: what happened, where, the last output, and what to do next.

    Args:
        message: what went wrong, one sentence.
        where: file and line, or machine and command.
        output: the last output of what failed; shown indented, cut to its last lines.
        hint: what the person can do next, a sentence or a command.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, where: str = "", output: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.output = output
        self.hint = hint


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong in an experiment file. `line` is 1-based, 0 when it has none."""

    file: str
    line: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class InvalidExperiment(ContinuumError):
    """All problems of one file at once."""

    exit_code = 2

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(ContinuumError):
    """The command line asks for something that has no meaning."""

    exit_code = 2


class NotPossibleHere(ContinuumError):
    """The experiment is valid, but this host, or this version, cannot carry it."""

    exit_code = 3


class MachineUnreachable(ContinuumError):
    """A machine does not answer, or does not exist any more."""

    exit_code = 4


class NotFound(ContinuumError):
    """No such deployment, machine or run."""

    exit_code = 5


class StepFailed(ContinuumError):
    """A step of a phase did not succeed."""


class CommandFailed(StepFailed):
    """A command ended with a status other than 0."""


class TimedOut(StepFailed):
    """What was waited for did not come within its limit."""


class LinksOutOfTolerance(ContinuumError):
    """At least one link is measured outside its tolerance."""


class Interrupted(ContinuumError):
    """SIGINT or SIGTERM; what was created is named in the message."""

    exit_code = 130
