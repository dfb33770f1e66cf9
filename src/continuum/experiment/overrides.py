"""Values that are given beside the file: `--set`, the environment, `--provider`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, get_origin

from continuum.errors import InvalidExperiment, Problem
from continuum.experiment import fields
from continuum.experiment.document import Document, KeyPath, Source, dotted, shown
from continuum.secret import ENVIRONMENT, is_secret_path

PREFIX = "CONTINUUM_SET__"
"""Of variables: `CONTINUUM_SET__BENCHMARK__DURATION=30s` sets `benchmark.duration`."""

_DEPTH = 16
_NO_KEY = re.compile(r"[^\w.-]")


def apply(
    document: Document,
    *,
    settings: Sequence[str] = (),
    provider: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Put values into a document: the environment's, then `--set`, then `--provider`.

    Raises:
        InvalidExperiment: with all that cannot be put anywhere.
    """
    problems: list[Problem] = []
    for name in sorted(environment or {}):
        if name.startswith(PREFIX):
            path = _path(name)
            source = Source(shown(name, 100), environment=True)
            assert environment is not None
            problems += _put(document, path, environment[name], source)
    for setting in settings:
        key, equals, text = setting.partition("=")
        source = Source("--set")
        if equals:
            problems += _put(document, tuple(key.strip().split(".")), text, source)
        else:
            # Behind the key may stand what is secret.
            key = shown(_NO_KEY.split(setting, maxsplit=1)[0])
            problems.append(source.problem(f'"{key}" has no "=": write KEY=VALUE'))
    if provider is not None:
        path = ("infrastructure", "provider")
        problems += _put(document, path, provider, Source("--provider"))
    if problems:
        raise InvalidExperiment(tuple(problems))


def _path(name: str) -> tuple[str, ...]:
    """The key that a variable means: small letters, but for names of variables of a program."""
    parts = name.removeprefix(PREFIX).split("__")
    small = [part.lower() for part in parts]
    in_plugin = small[0] in fields.PLUGIN_TABLES and ENVIRONMENT in small[2:3]
    own = 3 if in_plugin else len(parts)
    return (*small[:own], *parts[own:])


def value_of(text: str, path: KeyPath) -> Any:  # noqa: ANN401  values of a file have any type
    """A value as TOML reads it, else the text itself; always the text where a text belongs."""
    text = text.strip()
    spot = fields.spot(path)
    quoted = text[:1] in {'"', "'"}
    texts = spot.holds_text if spot is not None else is_secret_path(path)
    if texts and not quoted:
        return text
    try:
        value = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    if len(value) > 1 or isinstance(value["value"], (date, datetime, time)):
        return text
    return value["value"]


def _put(document: Document, names: tuple[str, ...], text: str, source: Source) -> list[Problem]:
    """Set one value; tables on the way are made. Returns what is wrong with it, if anything."""
    key = shown(dotted(names))
    if not text.isprintable() or not "".join(names).isprintable():
        return [source.problem(f'"{key}": the key or the value holds characters that are no text')]
    if not all(names) or len(names) > _DEPTH:
        return [source.problem(f'"{key}" is not a key, as in benchmark.duration')]
    holder: Any = document.values
    path: KeyPath = ()
    for name in names:
        step = _step(document, holder, path, name, source)
        if step is None:
            where = shown(dotted(path))
            if _blocks(holder, path):
                message = f"{where}: must be a table, not {shown(holder) or 'empty'}"
                return [document.source(path).problem(message, f"{source} sets {key} in it")]
            return [source.problem(f'"{key}": {where} has nothing called "{name}"')]
        path = (*path, step)
        outer, holder = holder, holder[step]
    outer[path[-1]] = value_of(text, path)
    for inner in [each for each in document.sources if each[: len(path)] == path]:
        del document.sources[inner]
    document.sources[path] = source
    document.overridden.add(path)
    return []


def _blocks(holder: object, path: KeyPath) -> bool:
    """Tell whether a value of the file stands where a table belongs, so that nothing fits in it."""
    spot = fields.spot(path)
    if spot is not None and spot.table is None and get_origin(spot.kind) not in {dict, tuple}:
        return False
    return not isinstance(holder, dict) and not (isinstance(holder, list) and _is_list(path))


def _step(
    document: Document,
    holder: object,
    path: KeyPath,
    name: str,
    source: Source,
) -> str | int | None:
    """The key or position that a name means here, which is made if it is new."""
    step: str | int
    if isinstance(holder, list):
        if not re.fullmatch("[0-9]{1,6}", name) or int(name) > len(holder):
            return None
        step = int(name)
        if step == len(holder):
            holder.append({})
            document.sources[*path, step] = source
    elif isinstance(holder, dict):
        step = _existing(holder, name) if source.environment else name
        if step not in holder:
            holder[step] = [] if _is_list((*path, step)) else {}
            document.sources[*path, step] = source
    else:
        return None
    return step


def _is_list(path: KeyPath) -> bool:
    spot = fields.spot(path)
    return spot is not None and get_origin(spot.kind) is tuple


def _existing(table: dict[str, Any], name: str) -> str:
    """The key that a variable means: names of variables have no dashes."""
    same = [key for key in table if key.lower().replace("-", "_") == name.lower()]
    return same[0] if len(same) == 1 and name not in table else name
