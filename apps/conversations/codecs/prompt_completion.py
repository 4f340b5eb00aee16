"""A prompt and its completion: https://huggingface.co/docs/trl/dataset_formats#prompt-completion."""

from typing import Any

from apps.conversations.codecs import holding
from apps.conversations.codecs.codec import CannotHold, Codec, Values
from apps.conversations.codecs.fields import BESIDE, SYSTEMS, asked, beside, prompt
from apps.conversations.conversation import Conversation
from apps.conversations.messages import read_answer


def _read(values: Values, unused: set[str]) -> Conversation:
    chosen = read_answer(values.get("completion"), "completion", unused)
    return asked(Conversation(messages=prompt(values, unused), chosen=chosen, **beside(values, unused)))


NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


def _write(conversation: Conversation) -> dict[str, Any]:
    """TRL's conversational form."""
    if conversation.rejected:
        raise CannotHold(holding.REJECTED)
    if not conversation.chosen:
        raise CannotHold(holding.NO_ANSWER)
    asks = conversation.messages
    return {"prompt": asks, "completion": conversation.chosen, **holding.beside(conversation)}


def write_text(conversation: Conversation) -> dict[str, Any]:
    """Two texts. A question alone is the prompt; of more, each turn stands in it under the name of its role."""
    if conversation.rejected:
        raise CannotHold(holding.REJECTED)
    holding.nothing_beside(conversation)
    answer = holding.text(holding.one(conversation.chosen))
    said = [(message.role, holding.text(message)) for message in conversation.messages]
    if len(said) == 1:
        return {"prompt": said[0][1], "completion": answer}
    return {"prompt": "\n\n".join(f"{NAMES[role]}: {text}" for role, text in said), "completion": answer}


CODEC = Codec(
    name="completion",
    title="Prompt and completion",
    columns={"prompt": "question", "completion": "chosen answer", **dict.fromkeys(SYSTEMS, "system message"), **BESIDE},
    fits=lambda row: {"prompt", "completion"} <= row.keys(),
    read=_read,
    write=_write,
)
