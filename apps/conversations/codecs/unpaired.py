"""Thumbs up and down: a prompt, one answer, and whether it is a good one, as TRL and LLaMA-Factory write them:
https://huggingface.co/docs/trl/dataset_formats#unpaired-preference,
https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md.
"""

from collections.abc import Mapping
from typing import Any

from apps.conversations.codecs import holding
from apps.conversations.codecs.alpaca import CODEC as ALPACA
from apps.conversations.codecs.codec import CannotHold, Codec, Values
from apps.conversations.codecs.fields import BESIDE, SYSTEMS, asked, beside, prompt, repeats, with_system
from apps.conversations.codecs.sharegpt import LISTS
from apps.conversations.codecs.sharegpt import turns as sharegpt_turns
from apps.conversations.conversation import Conversation, Messages
from apps.conversations.errors import RowError
from apps.conversations.media import MEANINGS as MEDIA
from apps.conversations.media import placed
from apps.conversations.messages import read_answer, read_messages

BOTH = "two answers in one row"
LABELS = ("label", "kto_tag")
TURNS = ("messages", *LISTS)
INSTRUCTED = {"instruction", "output"}
TEXTS: Mapping[str, bool] = {"true": True, "false": False, "1": True, "0": False}
"""As files without a type for it write a label: 1 and 0, or text."""


def _read(values: Values, unused: set[str]) -> Conversation:
    good = label_of(values)
    messages, answer = _parted(values, unused)
    chosen, rejected = (answer, ()) if good else ((), answer)
    return asked(Conversation(messages=messages, chosen=chosen, rejected=rejected, **beside(values, unused)))


def _parted(values: Values, unused: set[str]) -> tuple[Messages, Messages]:
    """The question and the answer."""
    if name := next((name for name in TURNS if isinstance(values.get(name), list)), ""):
        given = values[name] if name == "messages" else None
        said = (
            sharegpt_turns(values, unused)
            if given is None
            else with_system(read_messages(given, name, unused), values, unused)
        )
        unused.update(other for other in ("prompt", "completion") if not repeats(values.get(other), said))
        said = placed(said, values, unused)
        if said[-1].role != "assistant":
            message = f"The last message in {name!r} must be the assistant's: end with the answer."
            raise RowError(message, "answer_not_assistant")
        return said[:-1], said[-1:]
    if values.get("completion") is None and values.keys() >= INSTRUCTED:
        made = ALPACA.read(values, unused)
        if not made.chosen:
            raise RowError("Its 'output' is empty: write the answer.", "empty_output")
        return made.messages, made.chosen
    return placed(prompt(values, unused), values, unused), read_answer(values.get("completion"), "completion", unused)


def label_of(values: Values) -> bool:
    """True for a thumb up. Raises `RowError`."""
    found = next((values[name] for name in LABELS if values.get(name) is not None), None)
    good = _label(found)
    if good is None:
        raise RowError("Its 'label' is neither: write true for a thumb up, or false for a thumb down.", "invalid_label")
    return good


def _label(value: Any) -> bool | None:
    return TEXTS.get(str(value).strip().lower()) if isinstance(value, bool | int | str) else None


def _fits(row: Values) -> bool:
    """A column of numbers beside messages may say anything: there, only true and false are thumbs."""
    if any(isinstance(row.get(name), list) for name in TURNS) or row.keys() >= INSTRUCTED:
        return any(isinstance(row.get(name), bool) for name in LABELS)
    return "completion" in row and any(_label(row.get(name)) is not None for name in LABELS)


def _write(conversation: Conversation) -> dict[str, Any]:
    """TRL's conversational form."""
    if conversation.chosen and conversation.rejected:
        raise CannotHold(BOTH)
    if not (answer := conversation.chosen or conversation.rejected):
        raise CannotHold(holding.NO_ANSWER)
    row = {"prompt": conversation.messages, "completion": answer, "label": bool(conversation.chosen)}
    return row | holding.beside(conversation)


CODEC = Codec(
    name="kto",
    title="Thumbs up and down",
    columns={
        "prompt": "question",
        "completion": "chosen or rejected answer",
        **dict.fromkeys(TURNS, "messages"),
        **{name: meaning for name, meaning in ALPACA.columns.items() if name not in ("system", "output")},
        "output": "chosen or rejected answer",
        **dict.fromkeys(LABELS, "thumb up or down"),
        **dict.fromkeys(SYSTEMS, "system message"),
        **MEDIA,
        **BESIDE,
    },
    fits=_fits,
    read=_read,
    write=_write,
)
