"""What one call of the command line knows: how much to tell, to whom, and what it has touched."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click

from continuum.cli import output
from continuum.events import Events

if TYPE_CHECKING:
    from pathlib import Path

    from continuum.cli.progress import Progress

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class ResultsPlace:
    """Where a run's results come to lie; `asked`: the person named that folder."""

    folder: Path
    asked: bool


@dataclass
class Session:
    """One call.

    Attributes:
        arguments: of the command line, without the program's name.
        verbosity: `output.QUIET`, `NORMAL` or `VERBOSE`.
        yes: Debian packages are installed, and machines replaced or removed, without a question.
        variables: names of the caller's variables that the experiment asks for.
        deployment: the deployment that is being changed, "" when none is.
        results: of the run that this call carries out; None when it carries out none.
    """

    arguments: Sequence[str]
    verbosity: int = output.NORMAL
    yes: bool = False
    variables: frozenset[str] = frozenset()
    deployment: str = ""
    results: ResultsPlace | None = None
    closers: list[Callable[[], None]] = field(default_factory=list)

    @cached_property
    def progress(self) -> Progress:
        """Shows events on standard error."""
        from continuum.cli import progress  # noqa: PLC0415  threads and rich: not for every verb

        shown = progress.for_stream(sys.stderr, self.verbosity)
        self.closers.append(shown.close)
        return shown

    @cached_property
    def events(self) -> Events:
        """Where phases tell what happens."""
        return Events([self.progress])

    def changes(self, deployment: str, verb: str) -> None:
        """From here on this call changes a deployment: keep a log there, name it if interrupted."""
        from continuum.cli.progress import EventLog  # noqa: PLC0415
        from continuum.deployment import Deployment  # noqa: PLC0415

        self.deployment = deployment
        log = EventLog(Deployment.named(deployment).folder, verb)
        self.events.listeners.append(log)
        self.closers.append(log.close)

    def say(self, text: str = "") -> None:
        """Talk that `--quiet` leaves out."""
        if self.verbosity > output.QUIET:
            output.say(text)

    def close(self) -> None:
        """End whatever draws on the terminal."""
        while self.closers:
            self.closers.pop()()


def current() -> Session:
    """The session of the command that runs."""
    session = click.get_current_context().find_object(Session)
    assert session is not None
    return session


def _verbosity(level: int) -> Callable[[click.Context, click.Parameter, bool], None]:
    def set_level(context: click.Context, _: click.Parameter, value: bool) -> None:
        session = context.find_object(Session)
        if value and session is not None:
            session.verbosity = level

    return set_level


def common(command: F) -> F:
    """Options of every command."""
    quiet = click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_verbosity(output.QUIET),
        help="Tell warnings and errors only.",
    )
    verbose = click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_verbosity(output.VERBOSE),
        help="Tell every detail of every step.",
    )
    return quiet(verbose(command))


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Write one JSON document to standard output."
)


def _assume_yes(context: click.Context, _: click.Parameter, value: bool) -> None:
    session = context.find_object(Session)
    if value and session is not None:
        session.yes = True


def _yes(text: str) -> Callable[[F], F]:
    return click.option(
        "-y", "--yes", is_flag=True, expose_value=False, callback=_assume_yes, help=text
    )


yes_option = _yes("Install missing Debian packages without a question.")

changes_option = _yes(
    "Replace or remove machines where the file asks for it, and install missing Debian packages, "
    "without a question."
)

take_over_option = click.option(
    "--take-over",
    is_flag=True,
    help="Change a deployment that was brought up from another file of the same name.",
)
