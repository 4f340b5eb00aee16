"""JSON as rows and their columns hold it. A key that stands twice is refused: readers silently take its last value."""

import json
from typing import Any

import msgspec

from apps.conversations.errors import RowError

_encode = msgspec.json.Encoder().encode


def decoded(raw: bytes) -> Any:
    """Raises `RowError` for a key that an object has twice, and what `msgspec.json.decode` raises."""
    value = msgspec.json.decode(raw)
    if isinstance(value, dict | list) and _may_repeat_a_key(raw, value):
        json.loads(raw, object_pairs_hook=_once, parse_int=str, parse_float=str)
    return value


def _may_repeat_a_key(raw: bytes, value: Any) -> bool:
    """Whether the text has more colons than its value, which costs a tenth of a look at each key: those in texts are as
    many in both, unless some are escaped."""
    return raw.count(b":") != _encode(value).count(b":") or (b"\\" in raw and b"\\u003" in raw)


def _once(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        message = f"The key {twice[:60]!r} stands twice in one object, so that one value would be lost: remove one."
        raise RowError(message, "duplicate_key")
