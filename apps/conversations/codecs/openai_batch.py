"""Lines of OpenAI's batches: https://platform.openai.com/docs/guides/batch. Parameters of the request stay metadata."""

from typing import Any

from apps.conversations.codecs import holding
from apps.conversations.codecs.codec import Codec, Values
from apps.conversations.codecs.fields import of_messages, text, user
from apps.conversations.conversation import Conversation, Message, Messages
from apps.conversations.errors import RowError
from apps.conversations.messages import read_messages

ASKED = ("messages", "prompt", "input")
"""Keys of a body that say what is asked; the first that is there."""


def _read(values: Values, unused: set[str]) -> Conversation:
    body = values.get("body")
    if not isinstance(body, dict):
        raise RowError("'body' must be an object.")
    name = next((key for key in ASKED if body.get(key) is not None), ASKED[-1])
    unused.update(f"body.{key}" for key in ASKED if key != name and body.get(key))
    responses = name == "input" and isinstance(body.get("input"), list) and "embeddings" not in str(values.get("url"))
    if name == "messages" or responses:
        messages = read_messages(body[name], f"body.{name}", unused)
    else:
        messages = user(text(body, name, needed=True))
    return of_messages(_instructed(messages, body, unused), body, unused, "body.")


def _instructed(messages: Messages, body: Values, unused: set[str]) -> Messages:
    """What /v1/responses calls instructions is the system prompt."""
    instructions = text(body, "instructions")
    if not instructions:
        return messages
    if messages[0].role not in ("system", "developer"):
        return (Message(role="system", content=instructions), *messages)
    if messages[0].text.strip() != instructions.strip():
        unused.add("body.instructions")
    return messages


def _write(conversation: Conversation) -> dict[str, Any]:
    body = {"messages": holding.all_messages(conversation), **holding.beside(conversation)}
    return {"custom_id": conversation.key, "method": "POST", "url": "/v1/chat/completions", "body": body}


CODEC = Codec(
    name="batch",
    title="OpenAI batch lines",
    columns={"custom_id": "key", "body": "messages, tools", "method": "kept as metadata", "url": "kept as metadata"},
    fits=lambda row: isinstance(row.get("body"), dict),
    read=_read,
    write=_write,
)
