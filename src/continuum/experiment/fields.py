"""What the model says about a key: for messages, for the schema, for the reference.

`settings` never shows up here: in a file it is the table of the chosen plug-in.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from continuum.experiment.document import KeyPath
from continuum.experiment.model import Experiment
from continuum.experiment.units import Quantity
from continuum.secret import Secret

PLUGIN_TABLES = {
    "infrastructure": ("provider", "providers"),
    "benchmark": ("application", "applications"),
}
"""Tables that may hold a plug-in's own: the key that chooses the plug-in, and its kind."""


@dataclass(frozen=True)
class Spot:
    """One place in the model.

    Attributes:
        kind: the type without `None`, `Annotated` and the like.
        metadata: what the annotations say besides.
        field: the field that leads here; None for an element of a list or a table of tables.
        model: the table that holds the field.
    """

    kind: Any
    metadata: tuple[Any, ...]
    field: FieldInfo | None = None
    model: type[BaseModel] | None = None

    @property
    def table(self) -> type[BaseModel] | None:
        """The model of this place, when it is a table with known keys."""
        return (
            self.kind if isinstance(self.kind, type) and issubclass(self.kind, BaseModel) else None
        )

    @property
    def quantity(self) -> Quantity | None:
        """The quantity that is written here, if it is one."""
        return next((each for each in self.metadata if isinstance(each, Quantity)), None)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that may stand here, if there are but a few."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    @property
    def holds_text(self) -> bool:
        """Whether a text without unit stands here."""
        return self.kind in (str, Secret) or bool(self.choices)


def _unwrapped(annotation: Any, metadata: tuple[Any, ...] = ()) -> tuple[Any, tuple[Any, ...]]:  # noqa: ANN401
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return _unwrapped(inner, (*metadata, *more))
    if origin in {Union, types.UnionType}:
        rest = [each for each in get_args(annotation) if each is not type(None)]
        if len(rest) == 1:
            return _unwrapped(rest[0], metadata)
    return annotation, metadata


def core_type(annotation: object) -> object:
    """A type without `None`, `Annotated` and the like."""
    return _unwrapped(annotation)[0]


def holds_secret(annotation: object) -> bool:
    """Tell whether a `Secret` stands in a type, itself or somewhere inside."""
    return annotation is Secret or any(map(holds_secret, get_args(annotation)))


def _spot(model: type[BaseModel], field: FieldInfo) -> Spot:
    kind, metadata = _unwrapped(field.annotation)
    found: list[Any] = []
    for each in (*field.metadata, *metadata):
        # Within `X | None`, pydantic's `Field(...)` of X is left as it stands.
        found += each.metadata if isinstance(each, FieldInfo) else [each]
    return Spot(kind, tuple(found), field, model)


@cache
def keys(model: type[BaseModel]) -> dict[str, Spot]:
    """The keys of a table, as written in a file."""
    return {
        field.alias or name: _spot(model, field)
        for name, field in model.model_fields.items()
        if name != "settings"
    }


def spot(path: KeyPath) -> Spot | None:
    """The place that a path leads to; None when the model knows none, or a plug-in owns it."""
    here = Spot(Experiment, ())
    for part in path:
        table = here.table
        if table is not None:
            found = keys(table).get(str(part))
            if found is None:
                return None
            here = found
            continue
        arguments = get_args(here.kind)
        origin = get_origin(here.kind)
        if origin is dict:
            kind, metadata = _unwrapped(arguments[1])
        elif origin is tuple and isinstance(part, int):
            kind, metadata = _unwrapped(arguments[0])
        else:
            return None
        here = Spot(kind, metadata)
    return here


def tables(
    model: type[BaseModel] = Experiment, path: KeyPath = ()
) -> Iterator[tuple[KeyPath, type[BaseModel]]]:
    """Every table of the model with its path; `NAME` and 0 stand for what the user chooses."""
    yield path, model
    for key, here in keys(model).items():
        arguments = get_args(here.kind)
        origin = get_origin(here.kind)
        if here.table is not None:
            yield from tables(here.table, (*path, key))
        elif origin is dict:
            inner = Spot(*_unwrapped(arguments[1])).table
            if inner is not None:
                yield from tables(inner, (*path, key, "NAME"))
        elif origin is tuple:
            inner = Spot(*_unwrapped(arguments[0])).table
            if inner is not None:
                yield from tables(inner, (*path, key, 0))
