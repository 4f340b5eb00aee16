"""The shapes in which examples come: told from the first rows, and turned into drafts of examples.

A shape is a function from a row's values to a `Draft`; it raises `BadRow` with a sentence for a row it cannot use.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from apps.datasets.imports.readers import BadRow, Row

Message = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "system": "system", "tool": "tool",
    "observation": "tool", "function_response": "tool", "function_call": "assistant",
}  # fmt: skip
KEPT = ("role", "content", "name", "tool_calls", "tool_call_id")  # of a message; the rest is in the row's data
KEYS = ("custom_id", "id", "key", "uuid")  # columns that say a row's own id
MAX_KEY = 500  # characters
MAX_TAGS, MAX_TAG = 20, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An example that is not stored yet."""

    messages: list[Message]
    """Up to the question."""
    prompt: str
    """The last user message: what people read and search."""
    reference: str = ""
    rejected: str = ""
    key: str = ""
    tags: tuple[str, ...] = ()
    data: str = ""
    """JSON: the row as it came."""


def detect(rows: Sequence[Mapping[str, Any]]) -> str:
    """The first shape that fits most of the rows; "columns" fits all."""
    for name, fits in FITS.items():
        if 2 * sum(map(fits, rows)) > len(rows):
            return name
    return "columns"


def draft(row: Row, shape: str) -> Draft:
    """The example that a row of this shape holds; "columns" need `apps.datasets.imports.templates`. Raises `BadRow`."""
    return finished(row, SHAPES[shape](row.values))


def finished(row: Row, made: Draft) -> Draft:
    """With what every shape has: the row's own id and tags where the shape found none, and the row as it came."""
    key = made.key or next((str(row.values[name]) for name in KEYS if _is_key(row.values.get(name))), "")
    return replace(made, key=key[:MAX_KEY], tags=made.tags or tags_of(row.values.get("tags")), data=row.text)


def asked(messages: Sequence[Message], *, reference: str = "", rejected: str = "", key: str = "") -> Draft:
    """Raises `BadRow` unless a user asks something in them."""
    questions = [text_of(message["content"]) for message in messages if message["role"] == "user"]
    if not questions or not questions[-1].strip():
        raise BadRow("No message of a user asks anything.")
    return Draft(messages=list(messages), prompt=questions[-1], reference=reference, rejected=rejected, key=key)


def text_of(content: Any) -> str:
    """What people read of a message: its text, or the text among its parts."""
    if isinstance(content, list):
        return "\n".join(part.get("text") or f"[{part.get('type', '?')}]" for part in content)
    return content or ""


def tags_of(value: Any) -> tuple[str, ...]:
    """A list of tags, or one text with commas between them; as `apps.datasets.reviews.words` keeps them.

    What is too long or too much is left out.
    """
    words = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    tags = dict.fromkeys(" ".join(word.lower().split()) for word in words if isinstance(word, str))
    return tuple(tag for tag in tags if 0 < len(tag) <= MAX_TAG)[:MAX_TAGS]


def _is_key(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _messages(value: Any, name: str) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise BadRow(f"{name!r} must be a list of messages.")
    return [_message(entry, name) for entry in value]


def _message(entry: Any, name: str) -> Message:
    if not isinstance(entry, dict) or entry.get("role") not in ROLES:
        raise BadRow(f"A message in {name!r} must have a 'role': one of {', '.join(ROLES)}.")
    content = entry.get("content")
    parts = content if isinstance(content, list) else []
    if not isinstance(content, str | list | None) or not all(isinstance(part, dict) for part in parts):
        raise BadRow(f"The content of a message in {name!r} must be text or a list of parts.")
    if not all(isinstance(part.get("text", ""), str | None) for part in parts):
        raise BadRow(f"The text of a part in {name!r} must be text.")
    return {"content": None, **{key: entry[key] for key in KEPT if key in entry}}


def _answer(message: Message) -> str:
    """The text of an assistant's message; where it only calls tools, these calls as JSON."""
    text = text_of(message["content"])
    return text if text or not message.get("tool_calls") else json.dumps(message["tool_calls"], ensure_ascii=False)


def _chat(messages: list[Message]) -> Draft:
    """A conversation; where it ends with the assistant's word, that is the reference."""
    if messages[-1]["role"] == "assistant":
        return asked(messages[:-1], reference=_answer(messages[-1]))
    return asked(messages)


def _text(values: Mapping[str, Any], name: str, *, needed: bool = False) -> str:
    value = values.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str):
        raise BadRow(f"{name!r} must be text.")
    return value


def _user(text: str, system: str = "") -> list[Message]:
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": text}]


def _from_chat(values: Mapping[str, Any]) -> Draft:
    return _chat(_messages(values.get("messages"), "messages"))


def _from_batch(values: Mapping[str, Any]) -> Draft:
    body = values.get("body")
    if not isinstance(body, dict):
        raise BadRow("'body' must be an object.")
    if "messages" in body:
        return _chat(_messages(body["messages"], "body.messages"))
    name = "prompt" if "prompt" in body else "input"
    if name == "input" and isinstance(body.get("input"), list) and "embeddings" not in str(values.get("url")):
        return _chat(_messages(body["input"], "body.input"))
    return asked(_user(_text(body, name, needed=True), _text(body, "instructions")))


def _from_sharegpt(values: Mapping[str, Any]) -> Draft:
    turns = values.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise BadRow("'conversations' must be a list of turns.")
    messages = [_turn(turn) for turn in turns]
    if (system := _text(values, "system")) and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return _chat(messages)


def _turn(turn: Any) -> Message:
    if isinstance(turn, dict) and "role" in turn:
        return _message(turn, "conversations")
    speaker = SPEAKERS.get(str(turn.get("from"))) if isinstance(turn, dict) else None
    if speaker is None or not isinstance(turn.get("value"), str):
        raise BadRow(f"A turn must have 'value', a text, and 'from': one of {', '.join(SPEAKERS)}.")
    return {"role": speaker, "content": turn["value"]}


def _from_alpaca(values: Mapping[str, Any]) -> Draft:
    instruction, given = _text(values, "instruction", needed=True), _text(values, "input")
    question = f"{instruction}\n\n{given}" if given.strip() else instruction
    return asked(_user(question, _text(values, "system")), reference=_text(values, "output"))


def _from_completion(values: Mapping[str, Any]) -> Draft:
    return asked(_prompt(values), reference=_side(values.get("completion"), "completion"))


def _from_preference(values: Mapping[str, Any]) -> Draft:
    if isinstance(given := values.get("input"), dict):
        messages = _messages(given.get("messages"), "input.messages")
        sides = [_side(values.get(names[0], values.get(names[1])), names[0]) for names in OPENAI_SIDES]
    elif values.get("prompt") is None:  # the prompt is what both conversations begin with
        chosen, rejected = (_messages(values.get(name), name) for name in ("chosen", "rejected"))
        same = next((at for at, pair in enumerate(zip(chosen, rejected, strict=False)) if pair[0] != pair[1]), 0)
        messages, sides = chosen[:same], [_side(chosen[same:], "chosen"), _side(rejected[same:], "rejected")]
    else:
        messages = _prompt(values)
        sides = [_side(values.get(name), name) for name in ("chosen", "rejected")]
    return asked(messages, reference=sides[0], rejected=sides[1])


OPENAI_SIDES = (("preferred_output", "preferred_completion"), ("non_preferred_output", "non_preferred_completion"))


def _prompt(values: Mapping[str, Any]) -> list[Message]:
    """A prompt as text, or as a conversation."""
    if isinstance(values.get("prompt"), list):
        return _messages(values["prompt"], "prompt")
    return _user(_text(values, "prompt", needed=True), _text(values, "system"))


def _side(value: Any, name: str) -> str:
    """An answer as text, as a message, or as a list that ends with one."""
    if isinstance(value, str):
        return value
    messages = _messages([value] if isinstance(value, dict) else value, name)
    if messages[-1]["role"] != "assistant":
        raise BadRow(f"The last message in {name!r} must be the assistant's.")
    return _answer(messages[-1])


SHAPES: dict[str, Callable[[Mapping[str, Any]], Draft]] = {
    "batch": _from_batch,
    "chat": _from_chat,
    "sharegpt": _from_sharegpt,
    "preference": _from_preference,
    "alpaca": _from_alpaca,
    "completion": _from_completion,
}
NAMES = {
    "batch": "OpenAI batch lines",
    "chat": "Chat messages",
    "sharegpt": "ShareGPT conversations",
    "preference": "Preference pairs",
    "alpaca": "Alpaca instructions",
    "completion": "Prompt and completion",
    "columns": "Plain columns",
}
"""What people read. "columns" is the shape that needs a mapping."""

FITS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "batch": lambda row: isinstance(row.get("body"), dict),
    "chat": lambda row: isinstance(row.get("messages"), list),
    "sharegpt": lambda row: isinstance(row.get("conversations"), list),
    "preference": lambda row: {"chosen", "rejected"} <= row.keys() or any(OPENAI_SIDES[0][at] in row for at in (0, 1)),
    "alpaca": lambda row: {"instruction", "output"} <= row.keys(),
    "completion": lambda row: {"prompt", "completion"} <= row.keys(),
}
