"""Tokens that a model's tokenizer knows and the model does not: a request that holds one would end its engine."""

from collections.abc import Mapping
from typing import Any

import msgspec


def find(body: bytes, tokens: Mapping[str, int]) -> str:
    """The first of `tokens` (text -> id) in a request's body, a JSON object; empty where there is none.

    They are looked for in every text, however its letters are escaped, and among the ids of a prompt.
    """
    document: dict[str, Any] = msgspec.json.decode(body)
    plain = msgspec.json.encode(document)
    ids = set(_ids(document.get("prompt")))
    return next((token for token, number in tokens.items() if number in ids or _inside(token) in plain), "")


def _ids(prompt: Any) -> list[int]:
    """Of a prompt, or of several."""
    if not isinstance(prompt, list):
        return [prompt] if type(prompt) is int else []
    return [number for part in prompt for number in _ids(part)]


def _inside(token: str) -> bytes:
    """As it stands inside a text."""
    return msgspec.json.encode(token)[1:-1]
