"""An experiment as a TOML file: what `init` and `plan` show, also of a `.cfg` file."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, time
from typing import Any

from pydantic import BaseModel

from continuum import secret
from continuum.experiment import fields
from continuum.experiment.document import KeyPath
from continuum.experiment.model import Experiment
from continuum.secret import ENVIRONMENT, Secret

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(experiment: Experiment, without: Collection[str] = ()) -> str:
    """The text of a file that reads as this experiment.

    Quantities are written exactly. Most of what is at its default is left out. A secret is not
    written: `***` stands for it, which no reader takes for the secret.

    Args:
        experiment: what is written.
        without: dotted paths that are left out.
    """
    experiment = _without(experiment, frozenset(without))
    sections = [f"name = {literal(experiment.name)}"]
    sections += _table(("infrastructure",), experiment.infrastructure, always=("provider",))
    for index, host in enumerate(experiment.hosts):
        (text,) = _table(("hosts", index), host, whole=True)
        sections.append(f"[[hosts]]\n{text.partition(chr(10))[2]}")
    for name, tier in experiment.tiers.items():
        sections += _table(("tiers", name), tier, always=("machines", "cores", "memory"))
    if experiment.network is not None:
        sections += _table(("network",), experiment.network, whole=True)
    if experiment.software is not None:
        always = ("manager", "execution_model")
        sections += _table(("software",), experiment.software, always=always)
    if experiment.benchmark is not None:
        shown = ("application", "frequency", "duration")
        sections += _table(("benchmark",), experiment.benchmark, always=shown)
    return "\n\n".join(sections) + "\n"


def _without(experiment: Experiment, paths: frozenset[str]) -> Experiment:
    """The experiment without secrets that stand in files which it names."""
    software, benchmark = experiment.software, experiment.benchmark
    if software is not None and "software.grafana.password" in paths:
        grafana = software.grafana.model_copy(update={"password": None})
        software = software.model_copy(update={"grafana": grafana})
    if benchmark is not None and ENVIRONMENT in benchmark.settings:
        start = f"benchmark.{benchmark.application}.{ENVIRONMENT}."
        variables = {
            name: value
            for name, value in benchmark.settings[ENVIRONMENT].items()
            if f"{start}{name}" not in paths
        }
        settings = {**benchmark.settings, ENVIRONMENT: variables or None}
        benchmark = benchmark.model_copy(update={"settings": settings})
    return experiment.model_copy(update={"software": software, "benchmark": benchmark})


def _table(
    path: KeyPath, part: BaseModel, *, always: Sequence[str] = (), whole: bool = False
) -> list[str]:
    """One table and those inside it. `whole` writes its header though nothing stands below."""
    lines: list[str] = []
    inner: list[str] = []
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        key = field.alias or name
        if value is None or (
            value == field.get_default(call_default_factory=True) and name not in always
        ):
            continue
        if name == "settings":
            chooser, _ = fields.PLUGIN_TABLES[str(path[0])]
            inner += _settings((*path, getattr(part, chooser)), secret.shown(value))
        elif isinstance(value, BaseModel):
            inner += _table((*path, key), value, whole=True)
        elif value and isinstance(value, tuple) and isinstance(value[0], BaseModel):
            for element in value:
                (text,) = _table((*path, key), element, whole=True)
                header, _, body = text.partition("\n")
                inner.append(f"[{header}]\n{body}")
        else:
            spot = fields.spot(_in_model(path, key))
            quantity = spot.quantity if spot else None
            lines.append(f"{key} = {literal(quantity.write(value) if quantity else value)}")
    if lines or whole or not inner:
        return ["\n".join([f"[{_dotted(path)}]", *lines]), *inner]
    return inner


def _in_model(path: KeyPath, key: str) -> KeyPath:
    return (*path, 0, key) if path == ("network", "links") else (*path, key)


def _settings(path: KeyPath, values: Mapping[str, Any]) -> Iterator[str]:
    """A plug-in's table: whatever a TOML file can hold, tables inside written inline."""
    lines = [
        f"{_key(key)} = {literal(value)}" for key, value in values.items() if value is not None
    ]
    yield "\n".join([f"[{_dotted(path)}]", *lines])


def _dotted(path: KeyPath) -> str:
    return ".".join(_key(str(part)) for part in path)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    # JSON escapes all that TOML wants to be escaped, but for one character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def literal(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | Secret):
        return _text(str(value))
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(str(key))} = {literal(each)}" for key, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(literal(each) for each in value)}]"
    # Python writes inf, nan, 1e+16 and 0.5 as TOML does.
    return repr(value)
