"""One endpoint's table at work: which names it does not know, and a decoder that reads a sound request at C speed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from apps.core.text import MAX_NAME, nearest_name, unrecognized
from apps.models.requests.openai import MESSAGE_NAMES, STREAM_NAMES, hint
from apps.models.requests.tables import Shape, Table

BOUNDED = (
    "n", "best_of", "logprobs", "top_logprobs", "prompt_logprobs",
    "max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens",
)  # fmt: skip
"""Whole numbers with a bound of ours."""
TYPED: dict[str, Any] = {
    "model": str,
    "stream": bool | None,
    "stop": str | list[str] | None,
    "logit_bias": dict[str, float] | None,
    **dict.fromkeys(BOUNDED, int | None),
    "logprobs": bool | int | None,
}
"""Fields that are read here; all others are left as they came."""
SEEN = ("model", "stream", "input", "stream_options", "priority", "stop", "logit_bias", *BOUNDED)
"""What `Rules.seen` gives, in this order."""
SCALARS: dict[str, Any] = {
    "string": str, "integer": int, "number": float, "boolean": bool, "null": None,
}  # fmt: skip
MORE_NAMES = {"messages": MESSAGE_NAMES, "input": MESSAGE_NAMES, "stream_options": STREAM_NAMES}
"""Field -> names that its objects may have beside those of the engine's models."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that the engine would pass over in silence."""

    path: str
    """"tools[0].function.nmae"."""
    nearest: str
    """The name that was meant, perhaps; empty when none is like it."""

    @property
    def sentence(self) -> str:
        if more := hint(self.path):
            return f"{unrecognized(self.path)} {more}"
        return unrecognized(self.path, self.nearest)


class Rules:
    """Of one endpoint. `decode` raises `msgspec.ValidationError` for a request with an unknown name, and for some
    that are sound: those have to be read again, with patience."""

    def __init__(self, table: Table) -> None:
        self.table = {name: _with_names(shape, MORE_NAMES.get(name, ())) for name, shape in table.items()}
        kind = _request_type(self.table)
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(kind).decode
        self.seen: Callable[[Any], tuple[Any, ...]] = attrgetter(*SEEN)

    def knows(self, name: str) -> bool:
        return name in self.table

    def unknown(self, body: dict[str, Any]) -> Iterator[Unknown]:
        """Names at any depth that the engine's models do not have."""
        return _unknown(body, {"properties": self.table}, "")


def _unknown(value: Any, shape: Shape, path: str) -> Iterator[Unknown]:
    if isinstance(value, list):
        items = shape.get("items", {})
        if items:
            for index, item in enumerate(value):
                yield from _unknown(item, items, f"{path}[{index}]")
    elif isinstance(value, dict) and "properties" in shape:
        names = shape["properties"]
        for name, inner in value.items():
            start = f"{path}." if path else ""
            here = start + name[:MAX_NAME]
            if name in names:
                yield from _unknown(inner, names[name], here)
            else:
                nearest = nearest_name(name, names)
                yield Unknown(here, nearest and start + nearest)


def _with_names(shape: Shape, more: tuple[str, ...]) -> Shape:
    """The shape with more names in its objects, and in the parts of their contents."""
    if not more:
        return shape
    found = dict(shape)
    if "items" in found:
        found["items"] = _with_names(found["items"], more)
    if "properties" in found:
        names = found["properties"]
        content = {"content": _with_names(names["content"], more)} if "content" in names else {}
        found["properties"] = {**names, **content, **{name: {} for name in more}}
    return found


def _request_type(table: Table) -> type[msgspec.Struct]:
    fields = {name: TYPED.get(name) or _type(shape) for name, shape in table.items()}
    absent = {name: UNSET for name in SEEN if name not in fields and name != "priority"}
    return _struct("Request", {"priority": Raw, **fields}, absent)


def _struct(name: str, fields: dict[str, Any], namespace: dict[str, Any] | None = None) -> type[msgspec.Struct]:
    """With safe names for the attributes: a field of an engine may be called "from"."""
    safe = {field: field if field in SEEN or field == "include_usage" else f"f{n}" for n, field in enumerate(fields)}
    return msgspec.defstruct(
        name,
        [(safe[field], kind | UnsetType, UNSET) for field, kind in fields.items()],
        namespace=namespace,
        rename={attribute: field for field, attribute in safe.items()},
        forbid_unknown_fields=True,
        gc=False,
    )


def _type(shape: Shape) -> Any:
    """For a decoder: `Raw` wherever no name has to be looked at."""
    if not _has_names(shape):
        return Raw
    kinds: Any = None
    for word in shape["type"]:
        if word == "object":
            kind = _object(shape)
        elif word == "array":
            items = shape.get("items", {})
            kind = list[_type(items)] if items else list[Any]  # type: ignore[misc]
        else:
            kind = SCALARS[word]
        kinds = kind if kinds is None else kinds | kind
    return kinds


def _object(shape: Shape) -> Any:
    if "properties" not in shape:
        return dict[str, Any]
    typed = {"include_usage": bool | None}
    return _struct("Part", {name: typed.get(name) or _type(inner) for name, inner in shape["properties"].items()})


def _has_names(shape: Shape) -> bool:
    """Whether an object with a closed list of names is in it."""
    if "type" not in shape:
        return False
    return "properties" in shape or _has_names(shape.get("items", {}))
