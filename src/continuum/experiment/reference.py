"""The parts of `docs/experiment.md` that follow from the model: tables of keys, units, presets."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel

from continuum import plugins
from continuum.experiment import fields, schema
from continuum.experiment.document import KeyPath
from continuum.experiment.model import Arrivals
from continuum.experiment.presets import PRESETS
from continuum.experiment.units import DURATION, QUANTITIES, QUEUE_EXAMPLE, Words
from continuum.secret import Secret

_BLOCK = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[a-z]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)


def update(text: str) -> str:
    """A page with its generated blocks made anew.

    A block stands between `<!-- generated: NAME -->` and `<!-- end -->`; names are `keys`,
    `plugins`, `units` and `presets`.
    """

    def block(match: re.Match[str]) -> str:
        return f"{match['begin']}{_BLOCKS[match['name']]()}{match['end']}"

    return _BLOCK.sub(block, text)


def _keys() -> str:
    parts = []
    for path, model in fields.tables():
        rows = [_row(key, spot) for key, spot in fields.keys(model).items() if not _is_table(spot)]
        if not rows:
            continue
        title = _title(path)
        parts += [f"### {title}", "", schema.first_paragraph(model), "", *_HEAD, *rows, ""]
    return "\n".join(parts)


def _is_table(spot: fields.Spot) -> bool:
    """Whether a table, or tables, of their own stand under this key."""
    inner = get_args(spot.kind)[-1:] if get_origin(spot.kind) is dict else get_args(spot.kind)[:1]
    kinds = (spot.kind, *(fields.core_type(each) for each in inner))
    return any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)


def _title(path: KeyPath) -> str:
    if not path:
        return "At the top"
    name = ".".join(str(part) for part in path if part != 0)
    return f"`[[{name}]]`" if path[-1] == 0 else f"`[{name}]`"


_HEAD = ["| key | value | default | meaning |", "|---|---|---|---|"]


def _row(key: str, spot: fields.Spot) -> str:
    assert spot.field is not None
    default = "must" if spot.field.is_required() and key != "name" else _default(spot)
    return f"| `{key}` | {_value(spot)} | {default} | {spot.field.description} |"


def _value(spot: fields.Spot) -> str:
    """What may be written, in words, with its limits."""
    quantity = spot.quantity
    if spot.choices:
        return ", ".join(f'`"{each}"`' for each in spot.choices)
    if quantity is not None:
        return quantity.name + _limits(spot, _long if quantity is DURATION else quantity.write)
    words = next((each.text for each in spot.metadata if isinstance(each, Words)), None)
    if words is not None:
        return words
    if spot.kind in _KINDS:
        return _KINDS[spot.kind] + _limits(spot, lambda number: f"{number:.15g}")
    if get_origin(spot.kind) is dict:
        inner = get_args(spot.kind)[1]
        lists = get_origin(inner) is tuple
        return f"table of {'lists of texts' if lists else _INSIDE.get(inner, 'texts')}"
    return "list of texts" if Ellipsis in get_args(spot.kind) else "list of two texts"


def _long(seconds: float) -> str:
    days = seconds / 86400
    return f"{days:g} days" if days >= 1 else DURATION.write(seconds)


_INSIDE: dict[Any, str] = {Secret: "secret texts"}

_KINDS: dict[Any, str] = {
    bool: "`true`, `false`",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    Secret: "secret text",
    Arrivals: '`"periodic"`, `"poisson"`, `{ file = "…" }`',
}


def _limits(spot: fields.Spot, write: Callable[[float], str]) -> str:
    found: dict[type, float] = {}
    for each in spot.metadata:
        for kind, attribute in ((Ge, "ge"), (Gt, "gt"), (Le, "le"), (Lt, "lt")):
            if isinstance(each, kind):
                limit = getattr(each, attribute)
                narrower = max if kind in {Ge, Gt} else min
                found[kind] = narrower(limit, found.get(kind, limit))
    words = []
    if Ge in found:
        words.append(f"{write(found[Ge])}")
    elif Gt in found:
        words.append(f"more than {write(found[Gt])}")
    if Le in found:
        words.append(write(found[Le]))
    elif Lt in found:
        words.append("2⁶³ − 1" if found[Lt] == 2**63 else f"less than {write(found[Lt])}")
    return f", {' to '.join(words)}" if words else ""


def _default(spot: fields.Spot) -> str:
    assert spot.field is not None
    value = spot.field.get_default(call_default_factory=True)
    if spot.field.is_required() or value in (None, "", (), {}):
        return ""
    if spot.quantity is not None:
        value = spot.quantity.write(value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _plugins() -> str:
    parts = []
    for table, (_, kind) in fields.PLUGIN_TABLES.items():
        for name in plugins.built_in(kind):
            settings: type[BaseModel] = plugins.load(kind, name).settings_type
            if settings.model_fields:
                rows = [_row(key, spot) for key, spot in fields.keys(settings).items()]
                meaning = schema.first_paragraph(settings)
                parts += [f"### `[{table}.{name}]`", "", meaning, "", *_HEAD, *rows, ""]
    return "\n".join(parts)


def _units() -> str:
    rows = [
        f'| {each.name} | {", ".join(f"`{unit}`" for unit in each.units)} | `"{each.example}"` |'
        for each in QUANTITIES
    ]
    rows.append(f'| queue | those of a delay, or of a size | `"{QUEUE_EXAMPLE}"`, `"64 kB"` |')
    return "\n".join(["| quantity | units | example |", "|---|---|---|", *rows, ""])


def _presets() -> str:
    names = "|".join(f"rate and queue in `{name}`" for name in PRESETS)
    head = ["| between | delay | jitter |" + "".join(f" {each} |" for each in names.split("|"))]
    head.append("|---|---|---|" + "---|" * len(PRESETS))
    rows = []
    done: set[frozenset[str]] = set()
    for pair, link in next(iter(PRESETS.values())).items():
        if frozenset(pair) not in done:
            done.add(frozenset(pair))
            rates = "".join(
                f" {preset[pair].rate_mbit:g} Mbit/s, {preset[pair].queue_ms:g} ms |"
                for preset in PRESETS.values()
            )
            ends = f"{pair[0]}, {pair[1]}"
            rows.append(f"| {ends} | {link.delay_ms:g} ms | {link.jitter_ms:g} ms |{rates}")
    return "\n".join([*head, *rows, ""])


_BLOCKS: dict[str, Callable[[], str]] = {
    "keys": _keys,
    "plugins": _plugins,
    "units": _units,
    "presets": _presets,
}
