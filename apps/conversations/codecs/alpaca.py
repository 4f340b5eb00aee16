"""Alpaca's columns, with those for a system prompt and for earlier turns that trainers agree on:
https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md.
"""

from typing import Any

from apps.conversations.codecs.codec import Codec, Values
from apps.conversations.codecs.fields import asked, assistant, text
from apps.conversations.conversation import Conversation, Message, Messages
from apps.conversations.errors import RowError


def _read(values: Values, _unused: set[str]) -> Conversation:
    instruction, given = text(values, "instruction", needed=True), text(values, "input")
    question = f"{instruction}\n\n{given}" if given.strip() else instruction
    system = text(values, "system")
    first = (Message(role="system", content=system),) if system else ()
    messages = (*first, *_history(values.get("history")), Message(role="user", content=question))
    return asked(Conversation(messages=messages, chosen=assistant(text(values, "output"))))


def _history(value: Any) -> Messages:
    """[["question", "answer"], …]"""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(_is_turn(turn) for turn in value):
        raise RowError('\'history\' must be a list of earlier turns, each ["question", "answer"].')
    return tuple(
        message
        for question, answer in value
        for message in (Message(role="user", content=question), Message(role="assistant", content=answer))
    )


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, list) and len(turn) == 2 and all(isinstance(said, str) for said in turn)


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
)
