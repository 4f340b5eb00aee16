"""The fields of a training's options on a page, made from their schema: what is left empty is found by the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from apps.training.options import Options

FIRST = ("epochs", "learning_rate", "max_length", "validation_share")  # those that nobody has to unfold
METHODS = {"beta": "dpo kto", "desirable_weight": "kto", "undesirable_weight": "kto"}  # of options that others have not
ADAPTER_ONLY = ("rank", "alpha", "dropout", "targets")
PREFIX = "o_"  # of their names in the form, which has others
MANY = 40  # characters of a number that somebody typed

SCHEMA: dict[str, dict[str, Any]] = msgspec.json.schema(Options)["$defs"]["Options"]["properties"]
DESCRIPTIONS = {name: field["description"] for name, field in SCHEMA.items()}
LABELS = {
    "max_steps": "Steps at most",
    "eval_steps": "Steps between evaluations",
    "save_steps": "Steps between checkpoints",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One option: how it is asked for, and what was typed."""

    name: str
    kind: str
    """number, choice, switch or choices."""
    typed: Any
    usual: Any
    """Its value, if it is left empty."""
    choices: list[str]
    error: str = ""

    @property
    def form_name(self) -> str:
        return PREFIX + self.name

    @property
    def label(self) -> str:
        return LABELS.get(self.name, self.name.replace("_", " ").capitalize())

    @property
    def description(self) -> str:
        return DESCRIPTIONS[self.name]

    @property
    def only(self) -> str:
        return METHODS.get(self.name) or ("adapter" if self.name in ADAPTER_ONLY else "")

    @property
    def is_set(self) -> bool:
        return self.typed not in ("", [])


def read(query: Any) -> dict[str, Any]:
    """What was typed, as it was typed; a QueryDict of the form, in which empty is not given."""
    typed: dict[str, Any] = {}
    for name, field in SCHEMA.items():
        values = [value for value in query.getlist(PREFIX + name) if value]
        if values:
            typed[name] = values if field.get("type") == "array" else values[-1].strip()
    return typed


def chosen(typed: Mapping[str, Any]) -> dict[str, Any]:
    """As `services.create_job` takes them; what is no number stays as it is, for the service to refuse."""
    return {name: _value(SCHEMA[name], value) for name, value in typed.items()}


def typed_of(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What was set for another job, as somebody would type it."""
    return {name: _text(value) for name, value in chosen.items() if name in SCHEMA}


def whole(options: Mapping[str, Any]) -> dict[str, Any]:
    """Every option's value: `options` over the defaults."""
    return {name: field["default"] for name, field in SCHEMA.items()} | dict(options)


def fields(typed: Mapping[str, Any], usual: Mapping[str, Any], problems: Mapping[str, str]) -> list[Field]:
    """`usual` is every option's value, if nothing is chosen."""
    return [
        Field(
            name=name, kind=_kind(schema), typed=typed.get(name, ""), usual=_text(usual[name]),
            choices=_choices(schema), error=problems.get(name, ""),
        )
        for name, schema in SCHEMA.items()
    ]  # fmt: skip


def _kind(schema: Mapping[str, Any]) -> str:
    if schema.get("type") == "array":
        return "choices"
    return "switch" if schema.get("type") == "boolean" else "choice" if "enum" in schema else "number"


def _choices(schema: Mapping[str, Any]) -> list[str]:
    """In the order in which the defaults name them, where they do."""
    if schema.get("type") == "array":
        return list(schema["default"])
    return ["true", "false"] if schema.get("type") == "boolean" else list(schema.get("enum", []))


def _value(schema: Mapping[str, Any], typed: Any) -> Any:
    kind = schema.get("type")
    if kind == "boolean":
        return {"true": True, "false": False}.get(typed, typed)
    if kind not in ("integer", "number") or len(typed) > MANY:
        return typed
    try:
        return int(typed)
    except ValueError:
        try:
            return float(typed)
        except ValueError:
            return typed


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return list(value) if isinstance(value, (list, tuple)) else f"{value:g}" if isinstance(value, float) else str(value)
