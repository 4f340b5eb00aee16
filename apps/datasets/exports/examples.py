"""Stored examples, read into the conversations that an export holds."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from apps.conversations.codecs.fields import beside
from apps.conversations.conversation import Conversation, Message, Messages, decode_messages
from apps.conversations.errors import RowError
from apps.conversations.messages import read_messages
from apps.datasets.exports.formats import Row
from apps.datasets.items import calls_of

COLUMNS = """
e.number, chosen.tie, e.messages, chosen.text, chosen.rejected, chosen.label, coalesce(m.part, 'train'), e.key, e.tags,
e.request, CASE WHEN e.request = '' AND e.data LIKE '%%"tools"%%' THEN e.data ELSE '' END
"""
"""Of `row_of`, before the messages of both sides. The row as it came is read only where it may hold tools that older
imports left in it alone."""

SAYS = {
    "reasoning_content": """{messages} LIKE '%%"reasoning_content":%%'""",
    "tool_calls": """({messages} LIKE '%%"tool_calls":%%' OR {messages} LIKE '%%"function_call":%%')""",
    "tool_call_id": """({messages} LIKE '%%"tool_call_id":%%' OR {messages} LIKE '%%"function"%%')""",
    "name": """{messages} LIKE '%%"name":%%'""",
    "weight": """{messages} LIKE '%%"weight":%%'""",
    "parts": """({messages} LIKE '%%"content":[%%' OR {messages} LIKE '%%"content": [%%')""",
    "turns": """({messages} LIKE '%%"role":"assistant"%%' OR {messages} LIKE '%%"role": "assistant"%%')""",
    "tools": """(e.request LIKE '%%"tools":%%' OR (e.request = '' AND e.data LIKE '%%"tools"%%'))""",
    "parallel_tool_calls": """e.request LIKE '%%"parallel_tool_calls":%%'""",
    "chat_template_kwargs": """e.request LIKE '%%"chat_template_kwargs":%%'""",
}
"""Of each of `USES` the condition in SQL that an example has it, with {messages} for the JSON of messages.

A quote within a text is escaped there, so that no text looks like a key. Where calls or tools have keys of the same
names, more is expected than there is, which does no harm.
"""


_KEYS = (
    '"reasoning_content":', '"tool_calls":', '"function_call":', '"tool_call_id":', '"name":', '"weight":',
    '"role":"assistant"', '"content":[', '"content": [', '"image_url":', '"input_audio":', '"file":',
)  # fmt: skip


def one_of_each_kind(rows: Iterable[tuple[Any, ...]]) -> Iterator[Row]:
    """Of rows as for `row_of`, those whose messages have other keys than all before, or that have other tools."""
    seen = set[int]()
    for values in rows:
        messages, request, data, *sides = values[2], *values[9:]
        kind = hash((request, data, *(key in text for text in (messages, *sides) for key in _KEYS)))
        if kind not in seen:
            seen.add(kind)
            yield row_of(values)


def said_of(answer: str) -> str:
    """SQL: what two answers are compared by, and what tells whether there is one: the text, and calls without ids."""
    calls = calls_of(answer)
    return f"({answer}.text || CASE WHEN {answer}.tool_calls = '' THEN '' ELSE {calls} END)"


def messages_of(answer: str) -> str:
    """SQL: JSON of the answer's messages; "" where its text says all of it."""
    return f"""(CASE WHEN {answer}.reasoning = '' AND {answer}.tool_calls = '' THEN '' ELSE
    '[{{"role":"assistant","content":' ||
    CASE WHEN {answer}.text ~ '\\S' THEN to_json({answer}.text)::text ELSE 'null' END ||
    CASE WHEN {answer}.reasoning = '' THEN '' ELSE ',"reasoning_content":' || to_json({answer}.reasoning)::text END ||
    CASE WHEN {answer}.tool_calls = '' THEN '' ELSE ',"tool_calls":' || {answer}.tool_calls END || '}}]' END)"""


def row_of(values: tuple[Any, ...]) -> Row:
    """A row of `COLUMNS` and the messages of both sides, which are empty where the text says all of a side."""
    number, tie, messages, text, rejected, label, part, key, tags, request, data, better, worse = values
    try:
        conversation, unfit = Conversation(
            messages=_messages(messages), chosen=_side(text, better), rejected=_side(rejected, worse), key=key,
            tags=tuple(tags), **_beside(request, data),
        ), ""  # fmt: skip
    except RowError as error:
        conversation, unfit = None, str(error)
    return Row(number=number, place=tie, conversation=conversation, unfit=unfit, source=label, part=part)


def _messages(text: str) -> Messages:
    """Raises `RowError` for what an older import kept as it was, and no format can hold."""
    try:
        return decode_messages(text)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return read_messages(decoded(text), "messages", set())


def _side(text: str, messages: str) -> Messages:
    if not text.strip():
        return ()
    if not messages:
        return (Message(role="assistant", content=text),)
    side = _messages(messages)
    if not any(message.tool_calls for message in side):
        return side
    return read_messages(decoded(messages), "tool_calls", set())  # what a model wrote need not be JSON


def _beside(request: str, data: str) -> dict[str, Any]:
    """What stands beside the messages. Raises `RowError`."""
    if request:
        return beside(decoded(request), set())
    row = decoded(data) if data else {}
    body = row.get("body", row) if isinstance(row, dict) else {}
    return beside({"tools": body.get("tools")}, set()) if isinstance(body, dict) else {}


def decoded(text: str) -> Any:
    """JSON that may hold half of a surrogate pair, which no UTF-8 has: a question mark takes its place."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace"))
