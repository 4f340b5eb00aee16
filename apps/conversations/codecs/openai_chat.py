"""OpenAI's chat rows: https://platform.openai.com/docs/guides/supervised-fine-tuning. TRL's conversational rows too."""

from typing import Any

from apps.conversations.codecs import holding
from apps.conversations.codecs.codec import Codec, Values
from apps.conversations.codecs.fields import BESIDE, of_messages
from apps.conversations.conversation import Conversation
from apps.conversations.media import MEANINGS as MEDIA
from apps.conversations.messages import read_messages


def _read(values: Values, unused: set[str]) -> Conversation:
    messages = read_messages(values.get("messages"), "messages", unused)
    return of_messages(messages, values, unused)


def _write(conversation: Conversation) -> dict[str, Any]:
    return {"messages": holding.all_messages(conversation), **holding.beside(conversation)}


CODEC = Codec(
    name="chat",
    title="Chat messages",
    columns={"messages": "messages", **MEDIA, **BESIDE},
    fits=lambda row: isinstance(row.get("messages"), list),
    read=_read,
    write=_write,
)
