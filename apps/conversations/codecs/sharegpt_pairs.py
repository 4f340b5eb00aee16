"""ShareGPT's turns with a better and a worse answer: https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md."""

from typing import Any

from apps.conversations.codecs import holding
from apps.conversations.codecs.codec import Codec, Values
from apps.conversations.codecs.fields import BESIDE, SYSTEMS, asked, beside
from apps.conversations.codecs.sharegpt import LISTS, entry, tools, turns, written
from apps.conversations.conversation import Conversation, Messages
from apps.conversations.media import MEANINGS as MEDIA
from apps.conversations.media import placed
from apps.conversations.messages import read_answer

SIDES = ("chosen", "rejected")


def _read(values: Values, unused: set[str]) -> Conversation:
    chosen, rejected = (_side(values.get(side), side, unused) for side in SIDES)
    messages = placed(turns(values, unused), values, unused)
    return asked(Conversation(messages=messages, chosen=chosen, rejected=rejected, **beside(values, unused)))


def _side(value: Any, name: str, unused: set[str]) -> Messages:
    if isinstance(value, list):
        value = [entry(turn, name, unused) for turn in value]
    return read_answer(entry(value, name, unused) if isinstance(value, dict) else value, name, unused)


def _write(conversation: Conversation) -> dict[str, Any]:
    better, worse = (written([holding.one(side)])[0] for side in holding.pair(conversation))
    return {
        "conversations": written(conversation.messages), "chosen": better, "rejected": worse, **tools(conversation),
    }  # fmt: skip


def _fits(row: Values) -> bool:
    return any(isinstance(row.get(name), list) for name in LISTS) and all(row.get(side) is not None for side in SIDES)


CODEC = Codec(
    name="sharegpt_pairs",
    title="ShareGPT preference pairs",
    columns={
        **dict.fromkeys(LISTS, "messages"),
        "chosen": "chosen answer",
        "rejected": "rejected answer",
        **dict.fromkeys(SYSTEMS, "system message"),
        **MEDIA,
        **BESIDE,
    },
    fits=_fits,
    read=_read,
    write=_write,
)
