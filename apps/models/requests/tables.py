"""What may stand in a request: a table for each endpoint, reduced from the JSON schemas of an engine's request models.

A table is JSON, so that it can be kept. Nothing here knows a database or a setting.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

from apps.models.requests.openai import RESPONSES

Shape = dict[str, Any]
"""A JSON schema in a plain form: `type`, a list of words; `minimum`, `maximum`, `enum`; `properties`, the names that an
object may have (absent: any name); `items`, of a list's elements. {} is anything."""
Table = dict[str, Shape]
"""Field of a request -> shape."""
Tables = dict[str, Table]
"""Endpoint -> table."""

KEPT = ("minimum", "maximum", "enum")


def reduced(
    schemas: Mapping[str, Iterable[dict[str, Any]]],
    answers: Iterable[dict[str, Any]] = (),
    items: Iterable[dict[str, Any]] = (),
) -> Tables:
    """The tables. `schemas`: endpoint -> alternatives, one of which a request has to fit.

    What the engine said may come back to it as a part of the conversation: `answers` are its messages, `items` requests
    with the items of its responses.
    """
    said = _united([_shape(schema, schema.get("$defs", {}), ()) for schema in answers])
    echoed = _united([_shape(schema, schema.get("$defs", {}), ()) for schema in items]).get("properties", {})
    tables: Tables = {}
    for endpoint, alternatives in schemas.items():
        whole = _united([_shape(schema, schema.get("$defs", {}), ()) for schema in alternatives])
        table = tables[endpoint] = whole.get("properties", {})
        message = table.get("messages", {}).get("items", {})
        if "properties" in message and "properties" in said:
            table["messages"]["items"] = _united([message, said])
        if endpoint == RESPONSES and "input" in echoed:
            table["input"] = _united([table["input"], echoed["input"]])
    return tables


def _shape(schema: Any, defs: Mapping[str, Any], inside: tuple[str, ...]) -> Shape:
    """Of a schema with references to `defs`. What contains itself is open at its second turn."""
    if not isinstance(schema, dict):
        return {}
    if ref := schema.get("$ref"):
        name = str(ref).rsplit("/", 1)[1]
        return {} if name in inside else _shape(defs.get(name), defs, (*inside, name))
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return _united([_shape(option, defs, inside) for option in schema[word]])
    shape: Shape = {key: schema[key] for key in KEPT if key in schema}
    if "const" in schema:
        shape["enum"] = [schema["const"]]
    if "type" in schema:
        shape["type"] = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "properties" in schema:
        shape["properties"] = {
            name: _shape(value, defs, inside)
            for name, value in schema["properties"].items()
            if not name.startswith("_")  # the engine's own notes
        }
    if "items" in schema:
        shape["items"] = _shape(schema["items"], defs, inside)
    return shape


def _united(options: list[Shape]) -> Shape:
    """What fits any of the shapes. A bound, or a choice of names, holds only where all options of that type have it."""
    if len(options) == 1:
        return options[0]
    if not options or any("type" not in option for option in options):
        return {}
    shape: Shape = {"type": list(dict.fromkeys(word for option in options for word in option["type"]))}
    numbers = _of_type(options, "integer", "number")
    _unite(shape, numbers, "minimum", min)
    _unite(shape, numbers, "maximum", max)
    _unite(shape, _of_type(options, "string"), "enum", lambda lists: list(dict.fromkeys(chain(*lists))))
    _unite(shape, _of_type(options, "object"), "properties", _all_names)
    _unite(shape, _of_type(options, "array"), "items", _united)
    return shape


def _of_type(options: list[Shape], *types: str) -> list[Shape]:
    return [option for option in options if set(types) & set(option["type"])]


def _unite(shape: Shape, options: list[Shape], key: str, unite: Callable[[list[Any]], Any]) -> None:
    if options and all(key in option for option in options):
        shape[key] = unite([option[key] for option in options])


def _all_names(objects: list[Table]) -> Table:
    names = dict.fromkeys(name for fields in objects for name in fields)
    return {name: _united([fields[name] for fields in objects if name in fields]) for name in names}
