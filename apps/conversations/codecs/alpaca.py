"""Alpaca's columns, with those for a system prompt and for earlier turns that trainers agree on:
https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md.
"""

from typing import Any

from apps.conversations.codecs import holding
from apps.conversations.codecs.codec import CannotHold, Codec, Values
from apps.conversations.codecs.fields import asked, assistant, instructed, text
from apps.conversations.conversation import Conversation, Message, Messages
from apps.conversations.errors import RowError


def _read(values: Values, _unused: set[str]) -> Conversation:
    system = text(values, "system")
    first = (Message(role="system", content=system),) if system else ()
    question = instructed(values, "instruction", "input")
    messages = (*first, *_history(values.get("history")), Message(role="user", content=question))
    return asked(Conversation(messages=messages, chosen=assistant(text(values, "output"))))


def _history(value: Any) -> Messages:
    """[["question", "answer"], …]"""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(_is_turn(turn) for turn in value):
        raise RowError('\'history\' must be a list of earlier turns, each ["question", "answer"].', "invalid_history")
    return tuple(
        message
        for question, answer in value
        for message in (Message(role="user", content=question), Message(role="assistant", content=answer))
    )


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, list) and len(turn) == 2 and all(isinstance(said, str) for said in turn)


def _write(conversation: Conversation) -> dict[str, Any]:
    """Every row has the columns that are text; "history" only where there is one."""
    if conversation.rejected:
        raise CannotHold(holding.REJECTED)
    holding.nothing_beside(conversation)
    system, history, question = holding.asked(conversation)
    answer = holding.text(holding.one(conversation.chosen))
    row = {"instruction": question, "input": "", "output": answer, "system": system}
    return row | {"history": history} if history else row


CODEC = Codec(
    name="alpaca",
    title="Alpaca instructions",
    columns={
        "instruction": "question",
        "input": "question",
        "output": "chosen answer",
        "system": "system message",
        "history": "earlier turns",
    },
    fits=lambda row: {"instruction", "output"} <= row.keys(),
    read=_read,
    write=_write,
)
