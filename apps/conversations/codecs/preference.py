"""Pairs of a better and a worse answer, as OpenAI and as TRL write them, and as Orca's, UltraFeedback's and
LLaMA-Factory's files name them:
https://platform.openai.com/docs/guides/direct-preference-optimization,
https://huggingface.co/docs/trl/dataset_formats#preference.
"""

import re
from collections.abc import Mapping
from typing import Any

from apps.conversations.codecs import holding
from apps.conversations.codecs.codec import Codec, Values
from apps.conversations.codecs.fields import (
    BESIDE,
    SYSTEMS,
    asked,
    beside,
    instructed,
    prompt,
    repeats,
    system_of,
    user,
    with_system,
)
from apps.conversations.conversation import Conversation, Messages
from apps.conversations.errors import RowError
from apps.conversations.messages import read_answer, read_messages

OPENAI_SIDES = (("preferred_output", "preferred_completion"), ("non_preferred_output", "non_preferred_completion"))
SIDES = ("chosen", "rejected")
SPEAKERS = (("\n\nHuman:", "user"), ("\n\nAssistant:", "assistant"))
_MARK = re.compile("|".join(mark for mark, _ in SPEAKERS))
QUESTIONS = ("prompt", "question", "instruction", "input")
"""Columns that say the question where it stands outside of the sides; the first that is there."""
WHOLE = "messages"
"""A column that says the question where none of these is there."""
OF_SIDES = tuple((side, f"{side}_response", f"{side}_messages") for side in SIDES)
"""Columns that say the sides, as TRL, Argilla and LLaMA-Factory name them."""


def _read(values: Values, unused: set[str]) -> Conversation:
    if isinstance(given := values.get("input"), Mapping):
        messages = with_system(read_messages(given.get("messages"), "input.messages", unused), values, unused)
        better, worse = (read_answer(_side(values, names), names[0], unused) for names in OPENAI_SIDES)
        unused.update(name for name in QUESTIONS if name != "input" and not repeats(values.get(name), messages))
        outside, inside = beside(values, unused), beside(given, unused, "input.")
        unused.update(name for name in outside.keys() & inside.keys() if outside[name] != inside[name])
        return asked(Conversation(messages=messages, chosen=better, rejected=worse, **outside | inside))
    better, worse = (read_answer(transcript(_side(values, names)), names[0], unused) for names in OF_SIDES)
    if any(side[0].role in ("system", "developer", "user") for side in (better, worse)):
        messages, better, worse = parted(better, worse, "'chosen' and 'rejected'")
        messages = with_system(messages, values, unused)
        used: tuple[str, ...] = ()
    else:
        messages, used = _question(values, unused)
        if used == (WHOLE,):
            messages = _without_answer(messages, better, worse)
    unused.update(name for name in QUESTIONS if name not in used and not repeats(values.get(name), messages))
    if WHOLE not in used and not repeats(values.get(WHOLE), (*messages, *better, *worse)):
        unused.add(WHOLE)
    return asked(Conversation(messages=messages, chosen=better, rejected=worse, **beside(values, unused)))


def transcript(value: Any) -> Any:
    """The messages of a text that is a whole conversation, as Anthropic's hh-rlhf writes them; else the value."""
    if not isinstance(value, str) or not value.startswith(SPEAKERS[0][0]):
        return value
    roles = [dict(SPEAKERS)[mark] for mark in _MARK.findall(value)]
    return [{"role": role, "content": text.strip()} for role, text in zip(roles, _MARK.split(value)[1:], strict=True)]


def _side(values: Values, names: tuple[str, ...]) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _question(values: Values, unused: set[str]) -> tuple[Messages, tuple[str, ...]]:
    """And the columns that say it."""
    name = next((name for name in QUESTIONS if values.get(name) is not None), "prompt")
    if values.get(name) is None and isinstance(values.get(WHOLE), list):
        return read_messages(values[WHOLE], WHOLE, unused), (WHOLE,)
    if name == "prompt":
        return prompt(values, unused), (name,)
    more = "input" if name == "instruction" else ""
    return user(instructed(values, name, more), system_of(values)), (name, more)


def _without_answer(messages: Messages, *sides: Messages) -> Messages:
    """A conversation that ends with the answer of one side asks what stands before it. Raises `RowError`."""
    if messages[-1].role != "assistant":
        return messages
    if len(messages) > 1 and any(messages[-1:] == side for side in sides):
        return messages[:-1]
    message = "Its prompt ends with the assistant's message, which is neither answer: end it with the question."
    raise RowError(message, "prompt_not_a_question")


def parted(chosen: Messages, rejected: Messages, names: str) -> tuple[Messages, Messages, Messages]:
    """Each side is a whole conversation: the prompt is what both begin with, up to an answer of the assistant's.

    `names` are of the sides, for people. Raises `RowError`.
    """
    pairs = enumerate(zip(chosen, rejected, strict=False))
    same = next((at for at, (one, other) in pairs if one != other), 0)
    while same and not chosen[same].role == rejected[same].role == "assistant":
        same -= 1
    if not same:
        message = f"{names} must begin with the same question, and part at an answer of the assistant's."
        raise RowError(message, "sides_do_not_part")
    return chosen[:same], chosen[same:], rejected[same:]


def _write(conversation: Conversation) -> dict[str, Any]:
    """TRL's, with an explicit prompt."""
    better, worse = holding.pair(conversation)
    row = {"prompt": conversation.messages, "chosen": better, "rejected": worse}
    return row | holding.beside(conversation)


def write_openai(conversation: Conversation) -> dict[str, Any]:
    """OpenAI's, whose sides are one message each. Raises `CannotHold`."""
    better, worse = map(holding.one, holding.pair(conversation))
    return {
        "input": {"messages": conversation.messages, **holding.beside(conversation)},
        "preferred_output": [better],
        "non_preferred_output": [worse],
    }


CODEC = Codec(
    name="preference",
    title="Preference pairs",
    columns={
        **dict.fromkeys(QUESTIONS, "question"),
        WHOLE: "question",
        **dict.fromkeys(OF_SIDES[0], "chosen answer"),
        **dict.fromkeys(OF_SIDES[1], "rejected answer"),
        **dict.fromkeys(SYSTEMS, "system message"),
        "input": "messages, tools",
        **dict.fromkeys(OPENAI_SIDES[0], "chosen answer"),
        **dict.fromkeys(OPENAI_SIDES[1], "rejected answer"),
        **BESIDE,
    },
    fits=lambda row: (
        all(_side(row, names) is not None for names in OF_SIDES) or any(name in row for name in OPENAI_SIDES[0])
    ),
    read=_read,
    write=_write,
)
