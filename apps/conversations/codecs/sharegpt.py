"""ShareGPT's conversations: https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md."""

from typing import Any

from apps.conversations.codecs.codec import Codec, Values
from apps.conversations.codecs.fields import BESIDE, of_messages, text
from apps.conversations.conversation import Conversation
from apps.conversations.errors import RowError
from apps.conversations.messages import read_messages

SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "system": "system", "tool": "tool",
    "observation": "tool", "function_response": "tool", "function_call": "assistant",
}  # fmt: skip


def _read(values: Values, unused: set[str]) -> Conversation:
    turns = values.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise RowError("'conversations' must be a list of turns.")
    entries = [_entry(turn) for turn in turns]
    if (system := text(values, "system")) and entries[0].get("role") != "system":
        entries.insert(0, {"role": "system", "content": system})
    messages = read_messages(entries, "conversations", unused)
    return of_messages(messages, values)


def _entry(turn: Any) -> dict[str, Any]:
    """The turn as one of OpenAI's messages."""
    if isinstance(turn, dict) and "role" in turn:
        return turn
    speaker = turn.get("from") if isinstance(turn, dict) else None
    role = SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None or not isinstance(turn.get("value"), str):
        raise RowError(f"A turn must have 'value', a text, and 'from': one of {', '.join(SPEAKERS)}.")
    rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
    if speaker == "function_call":
        return {**rest, "role": role, "content": None, "tool_calls": turn["value"]}
    return {**rest, "role": role, "content": turn["value"]}


CODEC = Codec(
    name="sharegpt",
    title="ShareGPT conversations",
    columns={"conversations": "messages", "system": "system message", **BESIDE},
    fits=lambda row: isinstance(row.get("conversations"), list),
    read=_read,
)
