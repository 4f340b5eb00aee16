"""What every codec is made of: a format of rows, read into conversations and written from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from apps.conversations.conversation import Conversation

Values = Mapping[str, Any]


class CannotHold(Exception):
    """The format has no place for something of this conversation. The message names it: "calls of tools"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """What `write` gives and `read` takes is JSON: its structs encode with `apps.conversations.conversation.encode`."""

    name: str
    title: str
    """What people read."""
    columns: Mapping[str, str]
    """The keys of a row that it reads, each with what it becomes: "messages", "tools", "chosen answer" …"""
    fits: Callable[[Values], bool]
    """Whether a row looks like it. The first codec of `CODECS` that fits most rows of a file is taken."""
    read: Callable[[Values, set[str]], Conversation]
    """A row's conversation. The set gets the paths of nested keys that are not used, "messages[].score" for example.
    Raises `RowError`."""
    write: Callable[[Conversation], dict[str, Any]]
    """The row of a conversation, with no key for what it does not have. Its own key and tags are not the format's
    business. Raises `CannotHold`."""
