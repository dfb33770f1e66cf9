"""From a file, and what is given beside it, to an experiment.

text ─(toml | cfg)─▶ document ─(overrides)─▶ document ─(check)─▶ experiment
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from continuum.errors import InvalidExperiment, Problem
from continuum.experiment import (
    cfg,
    cfg_secrets,
    check,
    fields,
    overrides,
    secret_files,
    toml,
)
from continuum.experiment.document import Document, KeyPath, Source, dotted, read_text
from continuum.experiment.model import Experiment
from continuum.experiment.names import NAME
from continuum.secret import Masked, texts

READERS = {".toml": toml.read, ".cfg": cfg.read}
"""By the file's suffix."""

_WITHOUT_SECRETS = {".toml": toml.without_secrets, ".cfg": cfg_secrets.without_secrets}


@dataclass(frozen=True)
class Loaded:
    """An experiment, and how it came about.

    Attributes:
        origins: for every key, by its dotted path as in a TOML file, where its value is from:
            `default`, `FILE:LINE`, `environment NAME`, `--set`, `--provider`, `preset 4g`, …
        notes: what the reader has to say, one sentence each.
        not_runnable: why this version cannot run it, one sentence each; empty when it can.
        misfit: what its application asks for and does not have here, with its place.
        source_text: the file as it was read, with `***` for what is secret.
        in_secret_files: dotted paths of secrets that stand in files which the experiment names.
        variables: names of variables whose values are the caller's.
    """

    experiment: Experiment
    path: Path | None
    origins: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    not_runnable: tuple[str, ...] = ()
    misfit: Problem | None = None
    source_text: str = ""
    in_secret_files: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()

    @property
    def block_is_a_wish(self) -> bool:
        """Tell whether the address block is that of a Continuum 1.x file, where it kept users apart."""
        written = self.origins.get("infrastructure.address_block", "")
        file = str(self.path)
        return file.lower().endswith(".cfg") and written.rpartition(":")[0] == file

    @property
    def obstacles(self) -> tuple[str, ...]:
        """All for which it cannot run here, one sentence each."""
        return (*self.not_runnable, *([] if self.misfit is None else [str(self.misfit)]))


def load(
    path: Path,
    *,
    settings: Sequence[str] = (),
    provider: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Loaded:
    """Read a file, TOML or Continuum 1.x by its suffix.

    Args:
        path: the file.
        settings: `key=value`, as of `--set`; keys as in a TOML file, for both formats.
        provider: takes the place of the file's provider.
        environment: variables that begin with `CONTINUUM_SET__` count.

    Raises:
        InvalidExperiment: with all problems that were found.
    """
    # A name that no file system takes is an error for `Path.is_dir`.
    if path.suffix.lower() not in READERS and not os.path.isdir(path):  # noqa: PTH112
        suffixes = " or ".join(READERS)
        hint = "TOML, or a Continuum 1.x file"
        message = f"the name of an experiment file ends in {suffixes}"
        raise InvalidExperiment((Problem(str(path), 0, message, hint),))
    text = read_text(path)
    return load_text(
        text,
        path,
        settings=settings,
        provider=provider,
        environment=environment,
    )


def load_text(
    text: str,
    path: Path,
    *,
    settings: Sequence[str] = (),
    provider: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Loaded:
    """The same for a text that is at hand; `path` gives the format, the name, and the places.

    Raises:
        InvalidExperiment: with all problems that were found.
    """
    kind = path.suffix.lower()
    document = READERS[kind](text, str(path))
    document.environment = environment or {}
    overrides.apply(document, settings=settings, provider=provider, environment=environment)
    document.finish(document)
    if "name" not in document.values:
        document.values["name"] = name_from(path)
        document.sources["name",] = Source("name of the file")
    experiment = check.build(document)
    masked = Masked()
    masked.add(texts(experiment))
    return Loaded(
        experiment=experiment,
        path=path,
        origins=origins(document, experiment),
        notes=tuple(dict.fromkeys(document.notes)),
        not_runnable=check.not_runnable(document, experiment),
        misfit=document.misfit,
        source_text=masked(_WITHOUT_SECRETS[kind](text, secret_files.is_secret)),
        in_secret_files=frozenset(map(dotted, document.in_secret_files)),
        variables=frozenset(document.variables),
    )


def name_from(path: Path) -> str:
    """A name made of the file's: lower case, and only what a name may hold."""
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower())
    name = re.sub(r"^[^a-z]+", "", name)[:31].rstrip("-")
    return name if NAME.fullmatch(name) else "experiment"


def origins(document: Document, experiment: Experiment) -> dict[str, str]:
    """For every value of an experiment, by its dotted path in a TOML file, where it is from."""
    preset = experiment.network.preset if experiment.network else None
    found: dict[str, str] = {}
    for path, value in leaves(experiment):
        if document.get(path) is not None:
            found[dotted(path)] = str(document.source(path))
        elif value is None and preset is not None and path[-1] in _FROM_PRESET:
            found[dotted(path)] = f"preset {preset}"
        else:
            found[dotted(path)] = "default"
    return found


_FROM_PRESET = frozenset({"delay", "jitter", "loss", "rate", "queue"})


def leaves(experiment: Experiment) -> Iterator[tuple[KeyPath, object]]:
    """Every value of an experiment with its path in a TOML file."""
    values = experiment.model_dump(by_alias=True)
    for table, (chooser, _) in fields.PLUGIN_TABLES.items():
        if values[table] is not None:
            values[table][values[table][chooser]] = values[table].pop("settings")
    return _leaves(values)


def _leaves(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, (list, tuple)) and any(isinstance(inner, dict) for inner in value):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path, value
