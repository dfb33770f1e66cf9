"""An experiment as a person writes it in TOML: what differs from the defaults, with units."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from continuum.experiment.fields import PLUGIN_TABLES
from continuum.experiment.model import Experiment
from continuum.experiment.units import Quantity

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def write(experiment: Experiment) -> str:
    """The text of an experiment file; reading it gives an equal experiment."""
    lines = list(_table("", _values(experiment)))
    return "\n".join(lines).strip("\n") + "\n"


def _values(part: BaseModel) -> dict[str, Any]:
    """What must be written of one part: plain values with units, tables, lists of tables."""
    found: dict[str, Any] = {}
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if name == "settings":
            continue
        if not field.is_required() and value == field.get_default(call_default_factory=True):
            continue
        found[field.alias or name] = _written(value, field)
    return _with_plugin_tables(part, found)


def _written(value: object, field: FieldInfo) -> object:
    match value:
        case BaseModel():
            return _values(value)
        case dict():
            return {key: _written(each, field) for key, each in value.items()}
        case tuple() if any(isinstance(each, BaseModel) for each in value):
            return [_values(each) for each in value]
        case tuple():
            return list(value)
    quantity = _quantity(field)
    return (
        quantity.write(value) if quantity is not None and isinstance(value, int | float) else value
    )


def _quantity(field: FieldInfo) -> Quantity | None:
    """The field's quantity, which stands beside the type, or within it where None may stand too."""
    inner = [
        getattr(each, "__metadata__", ()) for each in getattr(field.annotation, "__args__", ())
    ]
    candidates = [*field.metadata, *(each for group in inner for each in group)]
    return next((each for each in candidates if isinstance(each, Quantity)), None)


def _with_plugin_tables(part: BaseModel, found: dict[str, Any]) -> dict[str, Any]:
    """A plug-in's own settings stand in a table with the plug-in's name."""
    chooser = PLUGIN_TABLES.get(type(part).__name__.lower())
    settings = getattr(part, "settings", None)
    if chooser is None or not settings:
        return found
    name = str(getattr(part, chooser[0]))
    return {**found, chooser[0]: name, name: dict(settings)}


def _table(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    """A table: first its own values, then the tables in it."""
    plain = {key: value for key, value in values.items() if not _is_table(value)}
    tables = {key: value for key, value in values.items() if _is_table(value)}
    if name and (plain or not tables):
        yield f"\n[{name}]"
    for key, value in plain.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in tables.items():
        path = f"{name}.{_key(key)}" if name else _key(key)
        if isinstance(value, dict):
            yield from _table(path, value)
            continue
        for each in value:
            yield f"\n[[{path}]]"
            for inner, content in each.items():
                yield f"{_key(inner)} = {_value(content)}"


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)
    )


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(_value(each) for each in value)}]"
        case dict():
            inner = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items())
            return f"{{ {inner} }}"
    return json.dumps(str(value), ensure_ascii=False)
