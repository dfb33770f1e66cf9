"""The JSON Schema of our TOML files, for editors: `docs/experiment.schema.json`.

It knows keys, types, units and limits of single values. Rules over several fields, and plug-ins
that others have installed, are checked by the reader alone.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from continuum import plugins
from continuum.experiment import fields
from continuum.experiment.model import Experiment

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PREFIX = "#/$defs/"


def schema() -> dict[str, Any]:
    """The schema, draft 2020-12."""
    whole = Experiment.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = whole.pop("$defs")
    root = {"$schema": DIALECT, **whole}
    # The file's own name takes its place.
    root["required"] = [name for name in root["required"] if name != "name"]
    root["properties"]["tiers"] |= {"additionalProperties": False, "minProperties": 1}
    for path, model in fields.tables():
        table = definitions[model.__name__] if path else root
        table["description"] = first_paragraph(model)
        table["properties"].pop("settings", None)
        for key, spot in fields.keys(model).items():
            found = table["properties"][key]
            if spot.quantity is not None and found.get("default") is not None:
                found["default"] = spot.quantity.write(found["default"])
    links = definitions["Link"]
    links["oneOf"] = [{"required": ["between"]}, {"required": ["from", "to"]}]
    for name, (_, kind) in fields.PLUGIN_TABLES.items():
        table = definitions[_definition_name(name)]
        table["properties"] |= _plugin_tables(kind, definitions)
        # Tables of plug-ins that others made.
        table["additionalProperties"] = {"type": "object"}
    root["$defs"] = dict(sorted(definitions.items()))
    cleaned: dict[str, Any] = _cleaned(root)
    return {"title": "Continuum experiment", **cleaned}


def text() -> str:
    """The schema as it is written to a file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


_BY_NAME = ("properties", "patternProperties", "$defs")


def _cleaned(node: Any) -> Any:  # noqa: ANN401  JSON
    """A schema without generated titles, without defaults that say nothing, and without null.

    TOML has no null: such a key is left out.
    """
    if isinstance(node, list):
        return [_cleaned(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {
        key: {name: _cleaned(each) for name, each in value.items()}
        if key in _BY_NAME
        else _cleaned(value)
        for key, value in node.items()
        if key != "title" and not (key == "default" and value in (None, [], {}, ""))
    }
    options = [each for each in node.get("anyOf", []) if each != {"type": "null"}]
    if len(options) == 1:
        del node["anyOf"]
        return node | options[0]
    return node


def _plugin_tables(kind: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """Tables of the plug-ins that ship with Continuum; what they need goes to `definitions`."""
    found = {}
    for name in plugins.built_in(kind):
        settings: type[BaseModel] = plugins.load(kind, name).settings_type
        template = f"{_PREFIX}{settings.__name__}.{{model}}"
        own = settings.model_json_schema(by_alias=True, ref_template=template)
        for inner, definition in own.pop("$defs", {}).items():
            definitions[f"{settings.__name__}.{inner}"] = definition
        own["description"] = first_paragraph(settings) if own["properties"] else "No settings."
        found[name] = own
    return found


def _definition_name(table: str) -> str:
    spot = fields.spot((table,))
    assert spot is not None
    assert spot.table is not None
    return spot.table.__name__


def first_paragraph(model: type[BaseModel]) -> str:
    """The first paragraph of a table's docstring, on one line."""
    return " ".join((model.__doc__ or "").strip().partition("\n\n")[0].split())
