"""Tokens that a model's tokenizer knows and the model does not.

A request that holds one makes the engine read behind the table of its tokens: it ends, or answers from what is there.
"""

import json
from collections.abc import Mapping
from typing import Any


def find(body: bytes, tokens: Mapping[str, int]) -> str:
    """The first of `tokens` (text -> id) in a request's body, a JSON object; empty where there is none.

    They are looked for in every text, however its letters are escaped, and among the ids of a prompt. Read as the
    engine does, which takes NaN and lone surrogates; what is nested too deeply for it, it refuses.
    """
    try:
        document: dict[str, Any] = json.loads(body)
        plain = json.dumps(document, ensure_ascii=False)
    except RecursionError:
        return ""
    ids = set(_ids(document.get("prompt")))
    return next((token for token, number in tokens.items() if number in ids or _inside(token) in plain), "")


def _ids(prompt: Any) -> list[int]:
    """Of a prompt, or of several."""
    if not isinstance(prompt, list):
        return [prompt] if type(prompt) is int else []
    return [number for part in prompt for number in _ids(part)]


def _inside(token: str) -> str:
    """As it stands inside a text."""
    return json.dumps(token, ensure_ascii=False)[1:-1]
