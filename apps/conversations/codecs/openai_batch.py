"""Lines of OpenAI's batches: https://platform.openai.com/docs/guides/batch. Parameters of the request stay metadata."""

from typing import Any

from apps.conversations.codecs import holding
from apps.conversations.codecs.codec import Codec, Values
from apps.conversations.codecs.fields import asked, of_messages, text, user
from apps.conversations.conversation import Conversation
from apps.conversations.errors import RowError
from apps.conversations.messages import read_messages


def _read(values: Values, unused: set[str]) -> Conversation:
    body = values.get("body")
    if not isinstance(body, dict):
        raise RowError("'body' must be an object.")
    name = next((key for key in ("messages", "prompt") if key in body), "input")
    responses = name == "input" and isinstance(body.get("input"), list) and "embeddings" not in str(values.get("url"))
    if name == "messages" or responses:
        messages = read_messages(body[name], f"body.{name}", unused)
        return of_messages(messages, body, unused)
    return asked(Conversation(messages=user(text(body, name, needed=True), text(body, "instructions"))))


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
