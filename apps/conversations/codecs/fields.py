"""What several codecs read alike: texts, prompts, and the keys beside messages."""

from typing import Any

import msgspec

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


def asked(conversation: Conversation) -> Conversation:
    """The same. Raises `RowError` unless a user asks something in it."""
    if not conversation.question.strip():
        raise RowError("No message of a user asks anything.", "no_question")
    return conversation


def of_messages(messages: Messages, values: Values, unused: set[str]) -> Conversation:
    """What the assistant says last is the expected answer; `values` may hold tools and media beside. Raises
    `RowError`."""
    messages = placed(messages, values, unused)
    answers = messages[-1].role == "assistant"
    asks, chosen = (messages[:-1], messages[-1:]) if answers else (messages, ())
    return asked(Conversation(messages=asks, chosen=chosen, **beside(values)))


def beside(values: Values) -> dict[str, Any]:
    """The fields of a conversation that stand beside its messages."""
    found: dict[str, Any] = {}
    name = "functions" if values.get("tools") is None else "tools"
    if tools := read_tools(values.get(name)):
        found["tools"] = tools
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
            value = msgspec.json.decode(value)
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
        return read_messages(values["prompt"], "prompt", unused)
    return user(text(values, "prompt", needed=True), system_of(values))


def key_of(values: Values) -> str:
    return next((str(values[name])[:KEY_CHARACTERS] for name in KEYS if _is_key(values.get(name))), "")


def _is_key(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def tags_of(value: Any) -> tuple[str, ...]:
    """A list of tags, or one text with commas between them; as `apps.datasets.reviews.words` keeps them.

    What is too long or too much is left out.
    """
    words = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    tags = dict.fromkeys(" ".join(word.lower().split()) for word in words if isinstance(word, str))
    return tuple(tag for tag in tags if 0 < len(tag) <= TAG_CHARACTERS)[:TAG_LIMIT]
