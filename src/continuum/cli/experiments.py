"""The arguments that name an experiment, and how it is read from them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from continuum.secret import masked, texts

if TYPE_CHECKING:
    from continuum.cli.session import Session
    from continuum.experiment.load import Loaded
    from continuum.infrastructure.providers.contract import Provider

F = TypeVar("F", bound=Callable[..., Any])


def experiment_arguments(command: F) -> F:
    """FILE, --set and --provider, as `file`, `settings` and `provider`."""
    file = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
    settings = click.option(
        "--set",
        "settings",
        metavar="KEY=VALUE",
        multiple=True,
        help="Set one value, as --set benchmark.duration='10 s'.",
    )
    provider = click.option(
        "--provider", metavar="NAME", help="The same as --set infrastructure.provider=NAME."
    )
    return file(settings(provider(command)))


def read(session: Session, file: Path, settings: tuple[str, ...], provider: str | None) -> Loaded:
    """Read an experiment and tell its notes.

    Raises:
        InvalidExperiment: with all problems at once.
    """
    from continuum.experiment.load import load  # noqa: PLC0415  only verbs that read one pay for it

    loaded = load(file, settings=list(settings), provider=provider, environment=os.environ)
    masked.add(texts(loaded.experiment))
    session.variables = loaded.variables
    for note in loaded.notes:
        session.events.note(note)
    return loaded


def provider_of(loaded: Loaded) -> type[Provider]:
    """The provider's class.

    Raises:
        NotPossibleHere: it is not part of this version.
    """
    from continuum import plugins  # noqa: PLC0415

    kind: type[Provider] = plugins.load("providers", loaded.experiment.infrastructure.provider)
    return kind
