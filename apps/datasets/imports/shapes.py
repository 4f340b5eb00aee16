"""The shapes in which examples come, and the drafts of examples that rows become.

A shape is one of the formats of `apps.conversations.codecs`, or "columns", which needs a mapping
(`apps.datasets.imports.templates`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from apps.conversations.codecs import CODECS
from apps.conversations.codecs import detect as detect_codec
from apps.conversations.codecs.fields import checked_key, key_of, tags_of
from apps.conversations.conversation import Conversation, Messages, answer_text, encode, is_plain
from apps.datasets.imports.readers import Row

COLUMNS = "columns"
NAMES = {codec.name: codec.title for codec in CODECS.values()} | {COLUMNS: "Plain columns"}
"""What people read of each shape."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An example that is not stored yet."""

    conversation: Conversation
    data: str
    """JSON: the row as it came."""
    line: int
    unused: set[str] = field(default_factory=set)
    """Paths of nested keys that the example does not hold; the row as it came does."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """OpenAI's."""
        return list(msgspec.json.decode(encode(self.conversation.messages)))

    @cached_property
    def reference(self) -> str:
        return self.conversation.reference

    @cached_property
    def rejected(self) -> str:
        return answer_text(self.conversation.rejected)

    def request(self) -> str:
        """JSON of what a request has beside its messages; "" for nothing."""
        made = self.conversation
        beside: dict[str, Any] = {}
        if made.tools:
            beside["tools"] = made.tools
        if made.parallel_tool_calls is not None:
            beside["parallel_tool_calls"] = made.parallel_tool_calls
        if made.chat_template_kwargs:
            beside["chat_template_kwargs"] = made.chat_template_kwargs
        return encode(beside).decode() if beside else ""


def detect(rows: Sequence[Mapping[str, Any]]) -> str:
    """The name of the first shape that fits most of the rows; "columns" fits all."""
    codec = detect_codec(rows)
    return codec.name if codec else COLUMNS


def draft(row: Row, shape: str) -> Draft:
    """The example that a row of a codec's shape holds. Raises `RowError`."""
    unused: set[str] = set()
    return finished(row, CODECS[shape].read(row.values, unused), unused)


def finished(row: Row, made: Conversation, unused: set[str] | None = None) -> Draft:
    """With what every shape has: the row's own id and tags where the shape found none, and the row as it came."""
    unused = set() if unused is None else unused
    key = checked_key(made.key, "key", unused) if made.key else key_of(row.values, unused)
    tags = made.tags or tags_of(row.values.get("tags"), unused)
    if key != made.key or tags != made.tags:
        made = msgspec.structs.replace(made, key=key, tags=tags)
    return Draft(conversation=made, data=row.text, line=row.line, unused=unused)


def stored(answer: Messages) -> str:
    """JSON of an answer's messages; "" where its text says all of it."""
    return "" if not answer or is_plain(answer) else encode(answer).decode()
