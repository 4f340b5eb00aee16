"""Pairs of a better and a worse answer, as OpenAI and as TRL write them:
https://platform.openai.com/docs/guides/direct-preference-optimization,
https://huggingface.co/docs/trl/dataset_formats#preference.
"""

from collections.abc import Mapping

from apps.conversations.codecs.codec import Codec, Values
from apps.conversations.codecs.fields import BESIDE, asked, beside, prompt
from apps.conversations.conversation import Conversation, Messages
from apps.conversations.messages import read_answer, read_messages

OPENAI_SIDES = (("preferred_output", "preferred_completion"), ("non_preferred_output", "non_preferred_completion"))


def _read(values: Values, unused: set[str]) -> Conversation:
    if isinstance(given := values.get("input"), Mapping):
        messages = read_messages(given.get("messages"), "input.messages", unused)
        better, worse = (read_answer(values.get(a, values.get(b)), a, unused) for a, b in OPENAI_SIDES)
        return asked(Conversation(messages=messages, chosen=better, rejected=worse, **beside(given)))
    if values.get("prompt") is None:
        messages, better, worse = _parted(*(read_messages(values.get(side), side, unused) for side in SIDES))
    else:
        messages = prompt(values, unused)
        better, worse = (_without(messages, read_answer(values.get(side), side, unused)) for side in SIDES)
    return asked(Conversation(messages=messages, chosen=better, rejected=worse, **beside(values)))


SIDES = ("chosen", "rejected")


def _parted(chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    """The prompt is what both conversations begin with."""
    pairs = enumerate(zip(chosen, rejected, strict=False))
    same = next((at for at, (one, other) in pairs if one != other), 0)
    return chosen[:same], chosen[same:], rejected[same:]


def _without(messages: Messages, side: Messages) -> Messages:
    """Some files repeat the prompt in each side."""
    return side[len(messages) :] if side[: len(messages)] == messages else side


CODEC = Codec(
    name="preference",
    title="Preference pairs",
    columns={
        "prompt": "question",
        "chosen": "chosen answer",
        "rejected": "rejected answer",
        "system": "system message",
        "input": "messages, tools",
        **dict.fromkeys(OPENAI_SIDES[0], "chosen answer"),
        **dict.fromkeys(OPENAI_SIDES[1], "rejected answer"),
        **BESIDE,
    },
    fits=lambda row: {"chosen", "rejected"} <= row.keys() or any(name in row for name in OPENAI_SIDES[0]),
    read=_read,
)
