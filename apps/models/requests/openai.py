"""Fields of OpenAI's API, and of earlier releases of vLLM, that today's engine does not know: what becomes of each.

A test holds these lists against the `openai` package: a field of a newer client shows up there.
"""

import json
from collections.abc import Callable
from typing import Any

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
RESPONSES, EMBEDDINGS = "/v1/responses", "/v1/embeddings"
ENDPOINTS = (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS)

IGNORED = {
    "metadata": "labels of a request in OpenAI's logs",
    "moderation": "OpenAI's own filter of contents",
    "prediction": "a text that makes OpenAI faster, not different",
    "prompt_cache_key": "the engine finds common beginnings of prompts by itself",
    "prompt_cache_options": "the engine finds common beginnings of prompts by itself",
    "prompt_cache_retention": "the engine finds common beginnings of prompts by itself",
    "safety_identifier": "a name of the end user, for OpenAI",
    "service_tier": "a price list of OpenAI",
    "store": "whether OpenAI keeps the answer",
    "stream_options": "streams of the responses route always end with their usage",
    "user": "a name of the end user, for OpenAI",
}
"""Accepted on every endpoint, and not sent on where the engine does not know it: it changes no answer."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "web_search_options": (),
    "best_of": (1,),
    "access_programs": (),
    "background_options": (),
    "context_management": (),
    "conversation": (),
    "image": (),
}
"""Would change the answer, and cannot: accepted as null or with one of these values, which are what it is without."""

CLIENT_ONLY = {
    "extra_body": "extra_body is an argument of the Python client: put its keys into the body itself.",
    "extra_headers": "extra_headers is an argument of the Python client, not a field of the body: leave it out.",
    "extra_query": "extra_query is an argument of the Python client, not a field of the body: leave it out.",
}
STREAM_NAMES = ("include_obfuscation",)
"""Accepted in stream_options: padding that OpenAI adds to hide the lengths of tokens."""
MESSAGE_NAMES = ("reasoning_content", "cache_control")
"""Accepted in messages and their parts beside what the engine's models name: the first it renames itself, the second
is other providers' hint about caching."""

STRUCTURED = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "guided_whitespace_pattern": "whitespace_pattern",
}
"""Names of earlier releases of vLLM -> keys of structured_outputs."""
LIMITS = {
    CHAT: ("max_completion_tokens", ()),
    COMPLETIONS: ("max_tokens", ("max_completion_tokens",)),
    RESPONSES: ("max_output_tokens", ("max_completion_tokens", "max_tokens")),
}
"""Endpoint -> its own name for the most tokens of an answer, and the other endpoints' names for it."""


class Contradiction(ValueError):
    """Old and new name of one thing are both there."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(f"{old} is the old name of {new}: give one of them.")
        self.field = old


def modernise(endpoint: str, body: dict[str, Any], known: Callable[[str], bool]) -> set[str]:
    """Give legacy fields of `body` their modern form, and take out what means nothing here. Returns what was changed.

    `known` tells whether the engine has a field. Raises `Contradiction`.
    """
    changed: set[str] = set()
    if known("structured_outputs"):
        _to_structured_outputs(body, changed)
    if known("tools") and not known("functions"):
        _to_tools(body, changed)
    modern, others = LIMITS.get(endpoint, ("", ()))
    for name in others:
        if name in body and not known(name):
            _move(body, name, modern, body[name], changed)
    for name in list(body):
        if not known(name) and _means_nothing(endpoint, body, name):
            del body[name]
            changed.add(name)
    return changed


def hint(path: str) -> str:
    """What to do about a name that the engine does not know, where more is known of it; else empty."""
    if path in NEUTRAL:
        allowed = "".join(f", or send {json.dumps(value)}" for value in NEUTRAL[path])
        return f"The engine has nothing like it: leave it out{allowed}."
    return CLIENT_ONLY.get(path, "")


def _means_nothing(endpoint: str, body: dict[str, Any], name: str) -> bool:
    if name in IGNORED:
        return True
    if name not in NEUTRAL:
        return False
    return body[name] is None or body[name] in NEUTRAL[name]


def _to_structured_outputs(body: dict[str, Any], changed: set[str]) -> None:
    for old, key in STRUCTURED.items():
        if old not in body:
            continue
        value = body.pop(old)
        changed.update((old, "structured_outputs"))
        if value is None:
            continue
        given = body.get("structured_outputs")
        if not isinstance(given, dict):
            given = body["structured_outputs"] = {}
        if key in given:
            raise Contradiction(old, f"structured_outputs.{key}")
        given[key] = value
    if "structured_outputs" in changed and body.get("structured_outputs", 0) is None:
        del body["structured_outputs"]


def _to_tools(body: dict[str, Any], changed: set[str]) -> None:
    if "functions" in body:
        functions = body["functions"]
        wrapped = [{"type": "function", "function": one} for one in functions] if isinstance(functions, list) else None
        _move(body, "functions", "tools", functions if wrapped is None else wrapped, changed)
    if "function_call" in body:
        call = body["function_call"]
        named = {"type": "function", "function": call} if isinstance(call, dict) else call
        _move(body, "function_call", "tool_choice", named, changed)


def _move(body: dict[str, Any], old: str, new: str, value: Any, changed: set[str]) -> None:
    if value is not None and body.get(new) is not None:
        raise Contradiction(old, new)
    del body[old]
    changed.update((old, new))
    if value is not None:
        body[new] = value
