"""Conversations for formats that know nothing but text: no images, no calls of tools."""

from collections.abc import Iterator
from typing import Any

from apps.datasets.exports.formats.format import Row, Unfit

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


def turns(row: Row) -> list[tuple[str, str]]:
    """(role, text) of each message, the role one of "system", "user" and "assistant". Raises `Unfit`."""
    return list(_turns(row))


def _turns(row: Row) -> Iterator[tuple[str, str]]:
    if row.tools:
        raise Unfit
    for message in row.messages:
        role = ROLES.get(message.get("role", ""))
        if role is None or message.get("tool_calls") or message.get("function_call"):
            raise Unfit
        yield role, text_of(message.get("content"))


def text_of(content: Any) -> str:
    """The text of a message's content, of whose parts each must be text. Raises `Unfit`."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(
        isinstance(part, dict) and part.get("type") == "text" for part in content
    ):
        raise Unfit
    return "\n".join(str(part.get("text", "")) for part in content)


def transcript(turns: list[tuple[str, str]]) -> str:
    """One text: the question alone where there is nothing else, or every turn under the name of its role."""
    if len(turns) == 1:
        return turns[0][1]
    return "\n\n".join(f"{NAMES[role]}: {text}" for role, text in turns)
