"""What several codecs read alike: texts, prompts, and the keys beside messages."""

from collections.abc import Sequence
from typing import Any

import msgspec

from apps.conversations import json_text
from apps.conversations.codecs.codec import Values
from apps.conversations.conversation import Conversation, Message, Messages
from apps.conversations.errors import RowError
from apps.conversations.media import placed
from apps.conversations.messages import read_messages
from apps.conversations.tools import read_tools

BESIDE = {
    "tools": "tools", "functions": "tools", "parallel_tool_calls": "parallel_tool_calls",
    "chat_template_kwargs": "template arguments",
}  # fmt: skip
"""Keys beside the messages of a row, and what they become."""
SYSTEMS = ("system", "system_prompt")
"""Columns that say the system prompt; the first that is there."""
KEYS = ("custom_id", "id", "key", "uuid")
"""Columns that say a row's own id; the first that is there."""
KEY_CHARACTERS = 500
TAG_LIMIT, TAG_CHARACTERS = 20, 50
TOO_MANY_TAGS = f"tags[] beyond the first {TAG_LIMIT}"


def asked(conversation: Conversation) -> Conversation:
    """The same. Raises `RowError` unless a user asks something in it."""
    if not conversation.question.strip():
        raise RowError("No message of a user asks anything.", "no_question")
    return conversation


def of_messages(messages: Messages, values: Values, unused: set[str], where: str = "") -> Conversation:
    """What the assistant says last is the expected answer; `values` may hold tools and media beside. Raises
    `RowError`.

    `where` is the path of `values`: "" for the row, "body." for an object in it.
    """
    messages = placed(messages, values, unused)
    answers = messages[-1].role == "assistant"
    asks, chosen = (messages[:-1], messages[-1:]) if answers else (messages, ())
    return asked(Conversation(messages=asks, chosen=chosen, **beside(values, unused, where)))


def beside(values: Values, unused: set[str], where: str = "") -> dict[str, Any]:
    """The fields of a conversation that stand beside its messages. Raises `RowError`."""
    found: dict[str, Any] = {}
    name = "functions" if values.get("tools") is None else "tools"
    if tools := read_tools(values.get(name), unused, where + name):
        found["tools"] = tools
    if name == "tools" and values.get("functions"):
        unused.add(f"{where}functions")
    if (parallel := values.get("parallel_tool_calls")) is not None:
        if not isinstance(parallel, bool):
            message = "Its 'parallel_tool_calls' is neither true nor false: write one."
            raise RowError(message, "invalid_parallel_tool_calls")
        found["parallel_tool_calls"] = parallel
    if kwargs := values.get("chat_template_kwargs"):
        found["chat_template_kwargs"] = _object(kwargs, "chat_template_kwargs")
    return found


def _object(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json_text.decoded(value.encode())
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise RowError(f"{name!r} is text, but no JSON.") from error
    if not isinstance(value, dict):
        raise RowError(f"{name!r} must be an object.")
    return value


def text(values: Values, name: str, *, needed: bool = False) -> str:
    value = values.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str):
        raise RowError(f"{name!r} must be text.", f"{name}_not_text")
    return value


def instructed(values: Values, name: str, more: str = "") -> str:
    """A question, and what it is about in a column of its own. Raises `RowError`."""
    question, given = text(values, name, needed=True), text(values, more) if more else ""
    return f"{question}\n\n{given}" if given.strip() else question


def system_of(values: Values) -> str:
    return next(filter(None, (text(values, name) for name in SYSTEMS)), "")


def user(question: str, system: str = "") -> Messages:
    first = (Message(role="system", content=system),) if system else ()
    return (*first, Message(role="user", content=question))


def assistant(answer: str) -> Messages:
    """One message, or none for an empty text."""
    return (Message(role="assistant", content=answer),) if answer else ()


def prompt(values: Values, unused: set[str]) -> Messages:
    """A prompt as text, or as a conversation."""
    if isinstance(values.get("prompt"), list):
        return with_system(read_messages(values["prompt"], "prompt", unused), values, unused)
    return user(text(values, "prompt", needed=True), system_of(values))


def with_system(messages: Messages, values: Values, unused: set[str]) -> Messages:
    """The system prompt of a column comes first, unless the messages begin with one. Raises `RowError`."""
    system = system_of(values)
    if not system.strip():
        return messages
    if messages[0].role not in ("system", "developer"):
        return (Message(role="system", content=system), *messages)
    if messages[0].text.strip() != system.strip():
        unused.update(name for name in SYSTEMS if values.get(name))
    return messages


def repeats(value: Any, messages: Messages) -> bool:
    """Whether a column, text or messages, says nothing that the messages do not say."""
    said = {"", *(message.text.strip() for message in messages)}
    texts = [each.get("content") for each in value if isinstance(each, dict)] if isinstance(value, list) else [value]
    return all(text is None or (isinstance(text, str) and text.strip() in said) for text in texts)


def key_of(values: Values, unused: set[str]) -> str:
    """The row's own id. One that cannot be kept whole is none: a part of it may be another row's."""
    name = next((name for name in KEYS if _is_key(values.get(name))), "")
    if name:
        return checked_key(str(values[name]), name, unused)
    unused.update(f"{name} that is neither text nor a whole number" for name in KEYS if values.get(name))
    return ""


def checked_key(key: str, name: str, unused: set[str]) -> str:
    """An empty text for one that is too long."""
    if len(key) <= KEY_CHARACTERS:
        return key
    unused.add(f"{name} of more than {KEY_CHARACTERS} characters")
    return ""


def _is_key(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def tags_of(value: Any, unused: set[str]) -> tuple[str, ...]:
    """A list of tags, or one text with commas between them; as `apps.datasets.reviews.words` keeps them.

    `unused` says what cannot be kept: "tags[] of more than 50 characters" for example.
    """
    words: list[Any] = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    if value and not words:
        unused.add("tags that are neither a list nor text")
    texts = [str(word) for word in words if isinstance(word, str | int | float)]
    if len(texts) + words.count(None) < len(words):
        unused.add("tags[] that are no text")
    tags = [tag for tag in dict.fromkeys(" ".join(text.lower().split()) for text in texts) if tag]
    short = [tag for tag in tags if len(tag) <= TAG_CHARACTERS]
    if len(short) < len(tags):
        unused.add(f"tags[] of more than {TAG_CHARACTERS} characters")
    return within_limit(short, unused)


def within_limit(tags: Sequence[str], unused: set[str]) -> tuple[str, ...]:
    """The first `TAG_LIMIT` of them."""
    if len(tags) > TAG_LIMIT:
        unused.add(TOO_MANY_TAGS)
    return tuple(tags[:TAG_LIMIT])
